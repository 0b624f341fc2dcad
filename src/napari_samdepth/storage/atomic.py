"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path beside `path` to write to; when the block ends well, the file is moved to `path`.

    If the block raises (a full disk, a cancelled job), what was written is removed and `path` is as it was before: the
    old file, or none. The folder is made if it is not there. The temporary name keeps the suffix, by which libraries
    choose a format.

    Raises
    ------
    OSError
        If `path` is a folder, its folder cannot be made or the file cannot be moved, besides whatever the block raises.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    beside = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.part{target.suffix}")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())  # some file systems tell of a full disk only now
        os.replace(beside, target)
    except OSError as error:
        if error.filename == str(beside):
            error.filename = str(target)  # the name that was asked for
        raise
    finally:
        beside.unlink(missing_ok=True)
