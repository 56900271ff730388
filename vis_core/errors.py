"""Errors that a user can act on.

The commands print such an error as one line and exit with status 2; everything else is a bug and keeps its
traceback. A message names the file and the field, and says what to do where that is known.
"""


class VisError(Exception):
    """Base of all errors that are the input's fault, not the program's."""


class ConfigError(VisError):
    """A config file, key or value that cannot be used."""


class DataError(VisError):
    """A video, frame, annotation or results file that cannot be used."""


class FrameError(DataError):
    """Frames that are damaged or cut off: ``skip_bad`` (``--skip-bad-frames``) is the way past them."""


class CheckpointError(VisError):
    """A weights file that cannot be read or does not fit the model."""
