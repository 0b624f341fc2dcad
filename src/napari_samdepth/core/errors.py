"""Errors whose message is a sentence for the user, and the one that means that the user wants no result any more."""

from __future__ import annotations

import errno
import re

_NO_ROOM = re.compile(
    r"can't allocate memory|not enough memory|Cannot allocate memory|out of memory|bad_alloc|can't start new thread"
    r"|failed to map segment from shared object",
    re.IGNORECASE,
)
_SIZE = re.compile(r"allocate (?P<number>\d+(?:\.\d+)?)\.? (?P<unit>[KMGTPE]iB)|tried to allocate (?P<bytes>\d+) bytes")


class UserError(Exception):
    """Something cannot be done as asked; the message is one sentence that says what is wrong and what to do.

    Whatever else is raised is a fault of the program's.
    """


class ModelError(UserError):
    """A model cannot be loaded or run."""


class LayerError(UserError, ValueError):
    """A layer cannot be used as asked."""


class Cancelled(Exception):
    """Raised by a report of progress when the user no longer wants the result."""


def out_of_memory(error: BaseException) -> str | None:
    """Return a sentence if an error, or one that it was raised from, says that memory did not suffice; else None.

    Known are MemoryError with numpy's text, what torch raises on the CPU (DefaultCPUAllocator) and on GPUs, and what
    the system says of libraries and threads that find no room.
    """
    cause: BaseException | None = error
    while cause is not None:
        text = str(cause)
        if isinstance(cause, MemoryError) or getattr(cause, "errno", None) == errno.ENOMEM or _NO_ROOM.search(text):
            size = _SIZE.search(text)
            wanted = f" for {_readable(size)}" if size else ""
            return f"there is not enough memory{wanted}; give a smaller image or ask for less."
        cause = cause.__cause__ or cause.__context__
    return None


def _readable(size: re.Match[str]) -> str:
    if not size["bytes"]:
        return f"{size['number']} {size['unit']}"
    number = float(size["bytes"])
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:,.0f} TiB"
