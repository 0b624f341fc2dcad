"""What an error means to who typed the command: an exit code and a sentence."""

from __future__ import annotations

from napari_samdepth.core.errors import UserError, out_of_memory

WRONG_INPUT = 2
FAILED = 1


class WorkFailed(Exception):
    """What was asked for was in order and could not be done all the same, as where a network is down."""


def explain(error: Exception) -> tuple[int, str]:
    """Return the exit code for an error, and one sentence."""
    memory = out_of_memory(error)
    if memory is not None:
        return FAILED, memory
    if isinstance(error, OSError) and error.strerror:
        where = f" {error.filename}" if error.filename else " the result"
        return FAILED, f"cannot read or write{where}: {error.strerror}."
    text = " ".join(str(error).split())
    if isinstance(error, RuntimeError) and "home directory" in text:  # said by platformdirs and pathlib
        return WRONG_INPUT, "this user has no home directory; set HOME to a folder where models and settings are kept."
    if isinstance(error, UserError | ValueError) and text:
        return WRONG_INPUT, text
    if isinstance(error, WorkFailed | OSError) and text:
        return FAILED, text
    what = f"{type(error).__name__}: {text}".rstrip(": ")
    return FAILED, f"this should not have happened ({what}); `napari-samdepth --traceback ...` shows where it did."
