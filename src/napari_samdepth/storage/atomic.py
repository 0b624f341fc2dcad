"""Output files: whole or not there, written where the name leads, and never in place of another unless allowed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

PathLike = str | os.PathLike[str]

_PART = re.compile(r"\.napari-samdepth-[0-9a-f]{8}\.part(\.\w{1,8})?")
_ABANDONED_S = 24 * 3600.0
"""Age of a temporary file that nobody writes any more, where the file system cannot lock files."""
_looked: dict[Path, float] = {}


@contextmanager
def atomic_path(path: PathLike, *, overwrite: bool = True) -> Iterator[Path]:
    """Give a path beside `path` to write to; when the block ends well, the file is moved to `path`.

    If the block raises (a full disk, a cancelled job), what was written is removed and `path` is as it was before: the
    old file, or none. The folder is made if it is not there. The temporary name keeps the suffix, by which libraries
    choose a format. A symbolic link is followed, an older file's mode and owner are kept, and a pipe or a character
    device such as /dev/stdout is written to once the whole file is there. Temporary files that killed processes left
    in the folder are removed.

    Parameters
    ----------
    path
        Where the file goes.
    overwrite
        Whether a file that is there already may be replaced.

    Raises
    ------
    FileExistsError
        If there is such a file and `overwrite` is False, also if it appeared while the block ran.
    OSError
        If `path` is a folder, a disk or a socket, its folder cannot be made, the block wrote nothing, or the file
        cannot be moved, besides whatever the block raises.
    """
    kind = check_output(path, overwrite=overwrite)
    with _names_as(path), _stream(path) if kind == "stream" else _replace(Path(path), overwrite) as beside:
        yield beside


def check_output(path: PathLike, *, overwrite: bool = True) -> str:
    """Return "file" or "stream" for what may be written to, without writing; raises OSError as `atomic_path` does."""
    name = os.fspath(path)
    try:
        found = os.stat(name)
    except FileNotFoundError:
        return "file"
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    if _standard_stream(found) is not None or stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode):
        return "stream"
    if not stat.S_ISREG(found.st_mode):
        raise PermissionError(errno.EPERM, "a disk or a socket is no place for a file", name)
    if not overwrite:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
    return "file"


def is_standard_output(path: PathLike) -> bool:
    """Whether what is written to `path` goes to this process's standard output."""
    try:
        return _standard_stream(os.stat(path)) == 1
    except OSError:
        return False


def same_file(one: PathLike, other: PathLike) -> bool:
    """Whether two paths lead to one file, there or not: by links, by spelling, or on a disk that ignores case."""
    there = os.path.exists(one), os.path.exists(other)
    if any(there):
        return all(there) and os.path.samefile(one, other)
    return _spelling(one) == _spelling(other)


def _spelling(path: PathLike) -> str:
    """A path as a file system compares it that ignores case and how accents are composed."""
    return unicodedata.normalize("NFC", os.path.realpath(path)).casefold()


def _standard_stream(found: os.stat_result) -> int | None:
    """Return 1 or 2 if a file is this process's standard output or error (as /dev/stdout is), else None."""
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(found, os.fstat(number)) and not _is_null(found):
                return number
    return None


def _is_null(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and os.path.samestat(found, os.stat(os.devnull))


@contextmanager
def _names_as(path: PathLike) -> Iterator[None]:
    """Let errors about a temporary file, or no file in particular, name the one that was asked for."""
    try:
        yield
    except OSError as error:
        named = error.filename
        if named is None or (isinstance(named, str) and _PART.fullmatch(os.path.basename(named))):
            error.filename, error.filename2 = os.fspath(path), None
        raise


@contextmanager
def _stream(path: PathLike) -> Iterator[Path]:
    """Give a path in a folder of its own, and send the file through a pipe or into a device at the end."""
    with tempfile.TemporaryDirectory(prefix="napari-samdepth-") as folder:
        beside = Path(folder, _part_name(Path(path)))
        yield beside
        with beside.open("rb") as source, os.fdopen(_open_stream(path), "wb") as sink:
            shutil.copyfileobj(source, sink)


def _open_stream(path: PathLike) -> int:
    number = _standard_stream(os.stat(path))
    if number is not None:
        for text in (sys.stdout, sys.stderr):
            if text is not None:
                text.flush()  # what was said before comes first
        return os.dup(number)
    # a pipe that nobody reads would keep this process waiting for ever
    descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    os.set_blocking(descriptor, True)
    return descriptor


@contextmanager
def _replace(path: Path, overwrite: bool) -> Iterator[Path]:
    """Give a path in the folder of the file that `path` leads to, and put the new file in its place at the end."""
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
    _remove_abandoned(target.parent)
    beside, descriptor = _reserve(target)
    try:
        yield beside
        if beside.stat().st_size == 0:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        with beside.open("rb+") as file:
            os.fsync(file.fileno())  # some file systems tell of a full disk only now
        _keep_mode(beside, target)
        if sys.platform == "win32":
            os.close(descriptor)  # an open file cannot be moved there
            descriptor = -1
        if overwrite:
            os.replace(beside, target)
        else:
            _place(beside, target)
    finally:
        beside.unlink(missing_ok=True)
        if descriptor >= 0:
            os.close(descriptor)


def _part_name(target: Path) -> str:
    # short, for a name of 255 bytes leaves no room to add anything to it
    suffix = target.suffix if re.fullmatch(r"\.\w{1,8}", target.suffix, re.ASCII) else ""
    return f".napari-samdepth-{secrets.token_hex(4)}.part{suffix}"


def _reserve(target: Path) -> tuple[Path, int]:
    """Make an empty file beside `target` and lock it as long as the descriptor is open: its writer lives."""
    while True:
        beside = target.with_name(_part_name(target))
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        _lock(descriptor, wait=True)
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(beside)):
                return beside, descriptor
        except FileNotFoundError:
            pass  # taken for abandoned by another process in the moment before it was locked
        os.close(descriptor)


def _lock(descriptor: int, wait: bool) -> bool | None:
    """Lock a file and return whether it was free; None where this system cannot lock."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of killed processes from a folder; those of living ones are locked."""
    start = time.monotonic()
    if start < _looked.get(folder, 0.0):
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if _PART.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                _remove_if_abandoned(folder / name)
    end = time.monotonic()
    # large folders are looked through less often: this never takes more than a hundredth of the time
    _looked[folder] = end + 100 * (end - start)


def _remove_if_abandoned(part: Path) -> None:
    descriptor = os.open(part, os.O_RDWR)
    try:
        free = _lock(descriptor, wait=False)
        if free is None:
            free = time.time() - os.fstat(descriptor).st_mtime > _ABANDONED_S
    finally:
        if sys.platform == "win32":
            os.close(descriptor)
    try:
        if free:
            part.unlink()
    finally:
        if sys.platform != "win32":
            os.close(descriptor)


def _keep_mode(beside: Path, target: Path) -> None:
    """Give the new file the owner, as far as allowed, and the mode of the one that it replaces."""
    try:
        old, new = target.stat(), beside.stat()
    except FileNotFoundError:
        return
    if hasattr(os, "chown") and (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        with contextlib.suppress(OSError):
            os.chown(beside, old.st_uid, old.st_gid)
    beside.chmod(stat.S_IMODE(old.st_mode))


def _place(beside: Path, target: Path) -> None:
    """Move a file to a place where nothing is; raises FileExistsError, also if something came there meanwhile."""
    try:
        os.link(beside, target)
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
    except OSError:  # no hard links on this file system
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.replace(beside, target)
