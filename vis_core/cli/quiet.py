"""Imported first by the commands: leaves out a warning that nobody who uses them can do anything about.

fvcore compiles losses with ``torch.jit.script`` when it is imported, and PyTorch 2.9 and newer warn of that.
"""

import warnings

warnings.filterwarnings("ignore", r"`torch\.jit\.script` is", category=FutureWarning, module=r"torch\.jit\._script$")
