"""The command as a process: its standard streams, Ctrl+C, and the exit code for what goes wrong."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

BROKEN_PIPE = 128 + 13
"""Exit code of a command whose reader went away, as shells have it."""


def run(arguments: Sequence[str] | None) -> int:
    """Run a command as `napari_samdepth.cli.main` says; raises KeyboardInterrupt, SystemExit.

    Where `arguments` are None this is taken for the process's only work.
    """
    # must be set before torch is loaded, or one busy neighbour makes everything several times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    _open_streams()
    with _interruptible(alone=arguments is None) as interrupted:
        return _answer(arguments, interrupted)


def _answer(arguments: Sequence[str] | None, interrupted: list[int]) -> int:
    """Return the exit code, once everything that was printed has left the process."""
    traceback = False
    try:
        from napari_samdepth.cli.files import check_files
        from napari_samdepth.cli.parser import build_parser

        try:
            options = build_parser().parse_args(arguments)
            traceback = options.traceback
            _check_folder()
            check_files(options)
            code: int = options.run(options)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        _give_up_stdout()
        return BROKEN_PIPE
    except Exception as error:
        if interrupted:  # libraries turn Ctrl+C amid their imports into errors of their own
            raise KeyboardInterrupt from None
        if traceback:
            raise
        from napari_samdepth.cli.errors import explain

        _give_up_stdout()
        code, text = explain(error)
        print(f"napari-samdepth: {text}", file=sys.stderr)
    return code


def _check_folder() -> None:
    """Refuse to work in a folder that was removed: torch ends the process there without a word."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise ValueError("the folder that this was started in is gone; change to another one.") from None


def _open_streams() -> None:
    """Open what is closed of stdin, stdout and stderr, and let characters through that the terminal cannot show."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # the next file that is opened would be taken for it
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _give_up_stdout() -> None:
    """Drop what cannot be written to stdout any more, or Python tries again when it ends, and complains."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _interruptible(alone: bool) -> Iterator[list[int]]:
    """Raise KeyboardInterrupt at Ctrl+C, and note it in the list that is given, for where it gets lost."""
    interrupted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def note(number: int, frame: FrameType | None) -> None:
        interrupted.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        # Python's own handler prints a traceback when Ctrl+C comes while it shuts down
        signal.signal(signal.SIGINT, signal.SIG_DFL if alone and interrupted else before)
