"""A folder of records found by key, capped in bytes: the least recently used go first.

Several processes may share it: entries are moved into place whole, and one that is gone was merely forgotten.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_samdepth.storage.atomic import atomic_path
from napari_samdepth.storage.records import Buffer, DamagedError, framed, only_record

LOG = logging.getLogger(__name__)

RETRY_SECONDS = 300.0
"""How long nothing is written after the disk refused."""
WAITING = 8
"""Most entries that wait to be written; beyond them the oldest are left out."""


@dataclass(frozen=True)
class Usage:
    """How much is in a folder: the folder, the number of entries, their bytes, and how many bytes they may take."""

    folder: Path
    count: int
    size: int
    limit: int


class RecordStore:
    """Records in files of their own, each found by its key.

    All methods may be called from any thread. `load` and `keep` do not raise for a disk that fails: what cannot be read
    is not there, what cannot be written is left out, and `take_message` says so once.

    Parameters
    ----------
    what
        What the entries are, for messages: "Embeddings".
    folder
        Gives the folder, at each use.
    limit
        Gives the bytes that all entries may take; with 0 nothing is read or written.
    suffix
        Of the entries' names, with the dot.
    advice
        What to do where the folder cannot be written.
    """

    def __init__(
        self, what: str, folder: Callable[[], Path], limit: Callable[[], int], suffix: str, advice: str
    ) -> None:
        self._what = what
        self._folder = folder
        self._limit = limit
        self._suffix = suffix
        self._advice = advice
        self._lock = threading.Condition()
        self._waiting: deque[tuple[str, Callable[[], Sequence[Buffer]]]] = deque()
        self._writer: threading.Thread | None = None
        self._refused_until = 0.0
        self._message = ""
        self._said = False

    @property
    def folder(self) -> Path:
        """Where the entries are."""
        return self._folder()

    def load(self, key: str) -> memoryview | None:
        """Return the content of an entry, None if there is none; a damaged one is removed."""
        if self._limit() <= 0:
            return None
        path = self._path(key)
        try:
            with path.open("rb") as file:
                content = np.empty(os.fstat(file.fileno()).st_size, dtype=np.uint8)
                size = file.readinto(content.data) if content.size else 0
            found = only_record(content[:size].data)
        except (FileNotFoundError, NotADirectoryError):
            self._prepare()
            return None
        except OSError as error:
            LOG.info("%s cannot be read: %s", path, error)
            return None
        except DamagedError as error:
            self.drop(key, str(error))
            return None
        with suppress(OSError):
            os.utime(path)  # the least recently used goes first
        return found

    def drop(self, key: str, why: str) -> None:
        """Remove an entry that turned out to be damaged."""
        LOG.warning("%s is damaged (%s) and is removed.", self._path(key), why)
        _remove(self._path(key))

    def keep(self, key: str, content: Callable[[], Sequence[Buffer]]) -> None:
        """Write an entry in the background; `content` is asked for its pieces there."""
        with self._lock:
            if time.monotonic() < self._refused_until or self._limit() <= 0:
                return
            self._waiting.append((key, content))
            if len(self._waiting) > WAITING:
                self._waiting.popleft()
            if self._writer is None:
                # no daemon: the end of the process waits until what was to be kept is written
                self._writer = threading.Thread(target=self._write_waiting, name=f"{self._what} to disk", daemon=False)
                self._writer.start()

    def flush(self, timeout: float = 60.0) -> bool:
        """Wait until what was to be kept is written; False after `timeout` seconds."""
        with self._lock:
            return self._lock.wait_for(lambda: self._writer is None, timeout)

    def take_message(self) -> str:
        """Return a sentence on a disk that cannot be written, once; "" if there is nothing to say."""
        with self._lock:
            message, self._message = self._message, ""
            return message

    def usage(self) -> Usage:
        """Return how much there is. Raises OSError if the folder cannot be read."""
        sizes = [size for _, size, _ in self._entries()]
        return Usage(self.folder, len(sizes), sum(sizes), self._limit())

    def clear(self) -> Usage:
        """Remove all entries and return how much that was. Raises OSError if one cannot be removed."""
        count = total = 0
        for path, size, _ in self._entries():
            path.unlink(missing_ok=True)
            count, total = count + 1, total + size
        return Usage(self.folder, count, total, self._limit())

    def _path(self, key: str) -> Path:
        return self.folder / (key + self._suffix)

    def _prepare(self) -> None:
        """Find out before the work is done whether its result could be kept."""
        if time.monotonic() < self._refused_until:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            self._refuse(error)

    def _refuse(self, error: OSError) -> None:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "its disk is full" if full else error.strerror or str(error)
        with self._lock:
            self._refused_until = time.monotonic() + RETRY_SECONDS
            self._waiting.clear()
            if not self._said:
                self._said = True
                self._message = (
                    f"{self._what} are kept in memory only: {self.folder} cannot be written ({why}); {self._advice}."
                )
                LOG.warning("%s", self._message)

    def _write_waiting(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._writer = None
                    self._lock.notify_all()
                    return
                key, content = self._waiting.popleft()
            try:
                self._write(self._path(key), framed(content()))
            except FileNotFoundError:
                LOG.info("The folder %s was removed while an entry was written.", self.folder)
            except OSError as error:
                self._refuse(error)
            except Exception:  # a thread that ends with an error would leave `flush` waiting
                LOG.exception("An entry could not be written to %s.", self.folder)

    def _write(self, path: Path, pieces: Sequence[Buffer]) -> None:
        size, limit = sum(len(piece) for piece in pieces), self._limit()
        if size > limit:
            LOG.info("An entry of %d bytes is larger than all entries together may be (%d).", size, limit)
            return
        with atomic_path(path) as beside, beside.open("wb") as file:
            for piece in pieces:
                file.write(piece)
        self._evict(limit)

    def _entries(self) -> Iterator[tuple[Path, int, float]]:
        """Return path, bytes and time of last use of each entry, in any order."""
        return (item for item in _files(self.folder) if item[0].suffix == self._suffix and item[0].name[0] != ".")

    def _evict(self, limit: int) -> None:
        """Remove the least recently used entries until the rest fits."""
        entries = sorted(self._entries(), key=lambda entry: entry[2])
        total = sum(size for _, size, _ in entries)
        for path, size, _ in entries:
            if total <= limit:
                break
            _remove(path)
            total -= size


def _files(folder: Path) -> Iterator[tuple[Path, int, float]]:
    try:
        listed = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with listed:
        for item in listed:
            with suppress(OSError):  # another process may have removed it
                if item.is_file(follow_symlinks=False):
                    found = item.stat(follow_symlinks=False)
                    yield Path(item.path), found.st_size, found.st_mtime


def _remove(path: Path) -> None:
    with suppress(OSError):  # in use on Windows, gone elsewhere
        path.unlink()
