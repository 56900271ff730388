"""Errors that are the input's fault end a command with one line and status 2; a stop by Ctrl-C with 130."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from vis_core.errors import VisError

# What the command line's parser raises; typer gives the base class no name of its own.
CommandLineError = typer.BadParameter.__base__.__base__


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a VisError raised inside, also in a spawned worker process, into ``error: <message>`` and an exit."""
    try:
        yield
    except VisError as e:
        fail(str(e))
    except CommandLineError as e:
        if not e.format_message():  # its help, already shown, was the answer
            sys.exit(2)
        fail(_with_remedy(e))
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as e:
        message = _vis_error_in(str(e)) if _from_a_worker(e) else None
        if message is None:
            raise
        fail(message)


def fail(message: str) -> None:
    """Print the message in one line, whatever it quotes, and exit with status 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _with_remedy(error: Exception) -> str:
    """What is wrong with the command line, in one line, and where to read more."""
    context = getattr(error, "ctx", None)
    message = " ".join(error.format_message().split()).rstrip(".")
    return message if context is None else f"{message} (see {context.command_path} --help)"


def _from_a_worker(error: Exception) -> bool:
    # Where nothing has imported it, there are no workers; commands without PyTorch should not wait for it here.
    module = sys.modules.get("torch.multiprocessing")
    return module is not None and isinstance(error, module.ProcessRaisedException)


def _vis_error_in(traceback: str) -> str | None:
    """The message at the end of a worker's traceback if it names one of our errors."""
    names = {cls.__name__ for cls in _subclasses(VisError)}
    kind, separator, message = traceback.strip().splitlines()[-1].partition(": ")
    return message if separator and kind.rpartition(".")[2] in names else None


def _subclasses(cls: type) -> list[type]:
    return [cls, *(sub for child in cls.__subclasses__() for sub in _subclasses(child))]
