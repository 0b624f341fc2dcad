"""The command ``napari-samdepth``: the same work without a window.

Exit codes are 0 for done, 2 for what was given, 1 for what failed at work and 130 for Ctrl+C; each but the first comes
with one sentence on stderr. Files are whole or not written at all, and none is replaced without ``--overwrite``.
Libraries are imported by the commands that need them, so that ``--help`` and ``--version`` answer at once.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing itself takes a moment, in which Ctrl+C could not be answered yet
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Parameters
    ----------
    arguments
        Words after the command's name; those of the process if None.

    Raises
    ------
    SystemExit
        After help and the version (0), and for words that no command takes (2).
    """
    try:
        from napari_samdepth.cli.process import run

        return run(arguments)
    except KeyboardInterrupt:
        print("napari-samdepth: interrupted.", file=sys.stderr)
        return 130
