"""Journals on disk: what was done to labels outlives a crash.

A journal is a file of records (`storage.records`), one for each entry (`core.journal`), written by a thread of its own
as soon as they are made: an entry is on disk within half a second, whole or not there. While its writer lives it holds
a lock, so that nobody else takes its work for lost. `recoverable` lists what dead processes left, `Recoverable.resume`
goes on where they stopped.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_samdepth.core.errors import UserError
from napari_samdepth.core.journal import (
    Entry,
    JournalEdit,
    JournalHeader,
    LabelsSnapshot,
    PlanePosition,
    RecoveredWork,
    RedoEntry,
    SavedEntry,
    UndoEntry,
    compacted,
    replayed,
)
from napari_samdepth.core.labelling import IntArray
from napari_samdepth.storage.atomic import atomic_path
from napari_samdepth.storage.folders import state_folder
from napari_samdepth.storage.journal_entries import entry_bytes, entry_of
from napari_samdepth.storage.records import DamagedError, framed, records

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOG = logging.getLogger(__name__)

SUFFIX = ".journal"
AUTOSAVE_SECONDS = 0.1
"""How long entries are gathered while the ones before are on their way to the disk."""
RETRY_SECONDS = 2.0
"""How long a disk that refused is left alone."""
LARGEST = 256 * 2**20
"""Bytes above which a journal's oldest edits become a snapshot of the labels."""
PENDING = 256 * 2**20
"""Bytes of entries that may wait for a disk that refuses; beyond, the journal is given up."""
ALL_JOURNALS = 2**31
"""Bytes of all journals of dead processes; the oldest beyond are removed."""


def journal_folder() -> Path:
    """Return the folder of journals."""
    return state_folder() / "journals"


class Journal:
    """The journal of one Labels layer in this process.

    Methods return at once; a thread writes. None raises for a disk that fails: entries wait and are tried again with
    the next one, and `take_message` says so once. Entries must not be changed after they are given. A file is made with
    the first edit.

    Parameters
    ----------
    header
        What it is about.
    folder
        Where; `journal_folder()` if None.
    limit
        Bytes above which the file is compacted.
    """

    def __init__(self, header: JournalHeader, folder: Path | None = None, limit: int = LARGEST) -> None:
        name = datetime.fromtimestamp(header.started).strftime("%Y%m%d-%H%M%S")
        self._start(
            header, (folder or journal_folder()) / f"{name}-{os.getpid()}-{secrets.token_hex(3)}{SUFFIX}", limit
        )
        # twice: without it nothing else could be read
        self._pending += [_Pending.of(header), _Pending.of(header)]

    def _start(self, header: JournalHeader, path: Path, limit: int) -> None:
        self.header = header
        self.path = path
        self._limit = limit
        self._lock = threading.Condition()
        self._pending: deque[_Pending] = deque()
        self._thread: threading.Thread | None = None
        self._compactor: threading.Thread | None = None
        self._file_guard = threading.Lock()
        self._file_lock: BaseFileLock | None = None
        self._end = 0
        self._compact_at = limit
        self._folded: set[int] = set()
        self._known: set[PlanePosition] = set()
        self._number = 0
        self._unsaved = 0
        self._refused_until = 0.0
        self._said = False
        self._message = ""
        self._closed = False

    @property
    def unsaved(self) -> int:
        """Number of entries since the labels were saved last."""
        return self._unsaved

    def next_number(self) -> int:
        """Return the number for the next edit."""
        with self._lock:
            self._number += 1
            return self._number

    def knows(self, plane: PlanePosition) -> bool:
        """Whether what a plane held before the first edit there is in the journal; if not, give a `snapshot` first."""
        return self.header.empty or plane in self._known

    def snapshot(self, plane: PlanePosition, labels: IntArray) -> None:
        """Note what a plane holds: a copy (H, W) that nobody changes."""
        self._known.add(plane)
        self._append(LabelsSnapshot(plane, labels), counts=False)

    def edit(self, edit: JournalEdit) -> None:
        """Note an edit; its number comes from `next_number`."""
        self._number = max(self._number, edit.number)
        self._append(edit)

    def undo(self, edit: JournalEdit) -> None:
        """Note that an edit was taken back."""
        self._append(_Undone(edit))

    def redo(self, edit: JournalEdit) -> None:
        """Note that an edit that was taken back was done again."""
        self._append(_Redone(edit))

    def saved(self, path: str = "") -> None:
        """Note that the labels as they are now were saved to a file; until the next edit nothing is left to recover."""
        if self._unsaved:
            self._append(SavedEntry(path), counts=False)
            self._unsaved = 0

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all entries are on disk; False where they are not after `timeout` seconds, or the disk refuses."""
        with self._lock:
            self._refused_until = 0.0
            self._run()
            self._lock.wait_for(lambda: self._thread is None, timeout)
            return self._thread is None and not (self._pending and self._begun)

    def close(self) -> None:
        """Let go of the file: it goes away where all is saved, else it can be recovered."""
        self.flush()
        if self._compactor is not None:
            self._compactor.join()
        with self._lock:
            self._closed = True
            self._pending.clear()
        if not self._unsaved:
            _unlink(self.path)
        self._release()

    def discard(self) -> None:
        """Remove the file: its work is not wanted."""
        self._unsaved = 0
        self.close()

    def take_message(self) -> str:
        """Return a sentence on a disk that cannot be written, once; "" if there is nothing to say."""
        with self._lock:
            message, self._message = self._message, ""
            return message

    @property
    def _begun(self) -> bool:
        return self._end > 0 or self._unsaved > 0

    def _append(self, entry: Entry | _Undone | _Redone, counts: bool = True) -> None:
        with self._lock:
            if self._closed:
                return
            self._pending.append(_Pending.of(entry))
            self._unsaved += counts
            if self._begun:
                self._run()

    def _run(self) -> None:
        """Start the thread that writes, unless it runs or there is nothing to write."""
        ready = self._pending and self._begun and time.monotonic() >= self._refused_until
        if ready and self._thread is None:
            # no daemon: the end of the process waits until the entries are on disk
            self._thread = threading.Thread(target=self._write_pending, name=f"journal {self.path.stem}", daemon=False)
            self._thread.start()

    def _write_pending(self) -> None:
        while True:
            started = time.monotonic()
            with self._lock:
                batch = list(self._pending)
                if not batch:
                    self._thread = None
                    self._lock.notify_all()
                    return
            try:
                with self._file_guard:
                    self._write(batch)
                self._compact_if_large()
            except OSError as error:
                self._refuse(error)
                return
            except Exception:
                LOG.exception("The journal %s cannot go on.", self.path)
                self._give_up()
                return
            time.sleep(max(AUTOSAVE_SECONDS - (time.monotonic() - started), 0.0))

    def _write(self, batch: Sequence[_Pending]) -> None:
        """Write entries at the end of the file, all or none."""
        self._acquire()
        with open(self.path, "r+b" if self._end else "wb") as file:
            try:
                file.seek(self._end)
                for pending in batch:
                    for piece in framed(entry_bytes(self._resolved(pending.entry), pending.time)):
                        file.write(piece)
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    file.truncate(self._end)
                raise
            end = file.tell()
        with self._lock:
            self._end = end
            for _ in batch[: len(self._pending)]:
                self._pending.popleft()

    def _resolved(self, entry: Entry | _Undone | _Redone) -> Entry:
        """Return what to write: an edit that became part of a snapshot is taken back by an edit of its own."""
        if isinstance(entry, _Undone):
            folded = entry.edit.number in self._folded
            return replace(entry.edit.inverse, number=self.next_number()) if folded else UndoEntry(entry.edit.number)
        if isinstance(entry, _Redone):
            return entry.edit if entry.edit.number in self._folded else RedoEntry(entry.edit.number)
        return entry

    def _acquire(self) -> None:
        if self._file_lock is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file_lock = _locked(self.path)
            _make_room(self.path.parent)

    def _release(self) -> None:
        lock, self._file_lock = self._file_lock, None
        _let_go(lock, self.path)

    def _refuse(self, error: OSError) -> None:
        with self._lock:
            self._thread = None
            self._refused_until = time.monotonic() + RETRY_SECONDS
            if sum(entry.size for entry in self._pending) > PENDING:
                self._closed = True
                self._pending.clear()
            if not self._said:
                self._said = True
                self._message = (
                    f"Labels are not protected against a crash: {self.path.parent} cannot be written "
                    f"({error.strerror or error}); make room there, and save your labels."
                )
                LOG.warning("%s", self._message)
            self._lock.notify_all()

    def _give_up(self) -> None:
        with self._lock:
            self._thread = None
            self._closed = True
            self._pending.clear()
            self._message = "Labels are not protected against a crash any longer; save them."
            self._lock.notify_all()

    def _compact_if_large(self) -> None:
        """Begin to write the file anew with fewer edits; entries go on to the old one meanwhile."""
        if self._end > self._compact_at and (self._compactor is None or not self._compactor.is_alive()):
            self._compactor = threading.Thread(target=self._compact, args=(self._end,), name=f"fold {self.path.stem}")
            self._compactor.start()

    def _compact(self, end: int) -> None:
        with ExitStack() as released:
            try:
                self._write_fewer(end, released)
            except (OSError, ValueError) as error:
                LOG.info("The journal %s stays as it is: %s", self.path, error)
                self._compact_at = 2 * end

    def _write_fewer(self, end: int, released: ExitStack) -> None:
        file = self.path.read_bytes()[:end]
        entries, _, _ = _entries_in(file)
        fewer = compacted([entry for entry, _ in entries], self._limit // 4)
        numbers, kept = (
            {entry.number for entry in some if isinstance(entry, JournalEdit)}
            for some in ((entry for entry, _ in entries), fewer)
        )
        with atomic_path(self.path) as beside, beside.open("wb") as new:
            for entry in (fewer[0], *fewer):
                for piece in framed(entry_bytes(entry, entries[-1][1])):
                    new.write(piece)
            # from here on nobody writes to the old file, until the new one is in its place
            released.enter_context(self._file_guard)
            later = self.path.read_bytes()[end : self._end]
            turned = {e.number for e, _ in _entries_in(later)[0] if isinstance(e, UndoEntry | RedoEntry)}
            if turned & (numbers - kept):
                raise ValueError("what became part of a snapshot was taken back meanwhile")
            new.write(later)
            length = new.tell()
        self._folded |= numbers - kept
        self._end = length
        # where the labels alone are large, the next time is not at once
        self._compact_at = max(self._limit, 2 * length)


@dataclass(frozen=True, eq=False)
class _Undone:
    edit: JournalEdit


@dataclass(frozen=True, eq=False)
class _Redone:
    edit: JournalEdit


@dataclass(frozen=True, eq=False)
class _Pending:
    """What waits to be written, and when it was done."""

    entry: Entry | _Undone | _Redone
    time: float

    @classmethod
    def of(cls, entry: Entry | _Undone | _Redone) -> _Pending:
        return cls(entry, time.time())

    @property
    def size(self) -> int:
        """Bytes, about."""
        return self.entry.nbytes if isinstance(self.entry, JournalEdit) else 1000


@dataclass(frozen=True)
class Recoverable:
    """Work that was not saved when its process ended.

    Attributes
    ----------
    path
        The journal.
    name
        Of the image.
    time
        When something was done last, in local time.
    labels
        Number of labels.
    image_path
        The file of the image, "" if none is known.
    labels_name
        Of the Labels layer.
    unsaved
        Number of edits, undos and redos since the labels were saved.
    damaged
        Whether something in the journal cannot be read and is missing.
    """

    path: Path
    name: str
    time: datetime
    labels: int
    image_path: str
    labels_name: str
    unsaved: int
    damaged: bool

    def work(self) -> RecoveredWork:
        """Return the labels and what belongs to them; the journal stays as it is. Raises JournalError."""
        return replay(self.path)

    def resume(self) -> tuple[Journal, RecoveredWork]:
        """Take the journal over and go on in it: what is done from here on is appended.

        Raises
        ------
        JournalError
            If another process has taken it over or removed it, or it cannot be read.
        """
        lock = self._own()
        try:
            entries, damaged, end = _entries_in(_read(self.path))
            work = replayed([entry for entry, _ in entries], damaged)
            journal = Journal.__new__(Journal)
            journal._start(work.header, self.path, LARGEST)
            journal._file_lock, journal._end, journal._unsaved = lock, end, work.unsaved
            journal._number = max([0, *(entry.number for entry, _ in entries if isinstance(entry, JournalEdit))])
            journal._known = {entry.plane for entry, _ in entries if isinstance(entry, LabelsSnapshot)}
            held = {edit.number for edit in (*work.done, *work.undone)}
            journal._folded = set(range(1, journal._number + 1)) - held
        except ValueError as error:
            _let_go(lock, self.path)
            raise JournalError(f"The journal {self.path} cannot be used: {error}") from error
        return journal, work

    def discard(self) -> None:
        """Remove the journal: its work is not wanted. Raises JournalError, OSError."""
        lock = self._own()
        try:
            self.path.unlink(missing_ok=True)
        finally:
            _let_go(lock, self.path)

    def _own(self) -> BaseFileLock | None:
        try:
            lock = _locked(self.path)
        except TimeoutError as error:
            raise JournalError(
                f"The work on {self.name} is restored in another window already; go on with it there."
            ) from error
        if not self.path.exists():
            _let_go(lock, self.path)
            raise JournalError(f"The work on {self.name} was restored or discarded meanwhile.")
        return lock


class JournalError(UserError):
    """A journal cannot be used; the message is one sentence that says why."""


def recoverable(folder: Path | None = None) -> list[Recoverable]:
    """Return the work that was not saved when its process ended, the latest first.

    Journals of living processes are left out. Those of which all is saved, or in which nothing can be read, go away.

    Parameters
    ----------
    folder
        Where journals are; `journal_folder()` if None.
    """
    found = []
    for path in _journals(folder or journal_folder()):
        with suppress(OSError, TimeoutError), _held(path):
            item = _item(path)
            if item is not None:
                found.append(item)
    return sorted(found, key=lambda item: item.time, reverse=True)


def replay(path: Path) -> RecoveredWork:
    """Return the work in a journal.

    Raises
    ------
    JournalError
        If there is none, or it does not say what it is about.
    """
    entries, damaged, _ = _entries_in(_read(path))
    try:
        return replayed([entry for entry, _ in entries], damaged)
    except ValueError as error:
        raise JournalError(f"The journal {path} cannot be used: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise JournalError(f"The journal {path} cannot be read: {error.strerror}.") from error


def _item(path: Path) -> Recoverable | None:
    """Return what a dead process's journal holds, None where that is nothing (then it is removed)."""
    entries, damaged, _ = _entries_in(path.read_bytes())
    try:
        work = replayed([entry for entry, _ in entries], damaged, budget=0) if entries else None
    except ValueError as error:
        LOG.warning("%s is moved aside: %s", path, error)
        with suppress(OSError):
            os.replace(path, path.with_suffix(".damaged"))
        return None
    if work is None or not work.unsaved:
        _unlink(path)
        return None
    last = datetime.fromtimestamp(entries[-1][1]).astimezone()
    image, labels = work.header.image, work.header.labels
    return Recoverable(path, image.name, last, work.count, image.path, labels.name, work.unsaved, work.damaged)


def _entries_in(file: bytes) -> tuple[list[tuple[Entry, float]], bool, int]:
    """Return the entries in a journal with their times, whether any is missing, and where the last one ends.

    What is cut off at the end was never promised and is not missing.
    """
    entries: list[tuple[Entry, float]] = []
    damaged, end = False, 0
    for record in records(file):
        damaged |= record.start != end
        end = record.end
        try:
            entries.append(entry_of(record.content))
        except DamagedError as error:
            LOG.warning("An entry of a journal is left out: %s.", error)
            damaged = True
    return entries, damaged, end


def _journals(folder: Path) -> list[Path]:
    """Return the journals in a folder, without those that are being written anew."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))


def _lock_path(path: Path) -> Path:
    return path.with_suffix(".lock")


def _locked(path: Path) -> BaseFileLock | None:
    """Return the lock of a journal, held until it is released or the process dies; None where there are no locks.

    Raises
    ------
    TimeoutError
        If somebody holds it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(_lock_path(path), timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise TimeoutError(str(path)) from error
    except OSError as error:
        LOG.info("%s cannot be locked: %s", path, error)
        return None
    return lock


@contextmanager
def _held(path: Path) -> Iterator[None]:
    lock = _locked(path)
    try:
        yield
    finally:
        _let_go(lock, path)


def _let_go(lock: BaseFileLock | None, path: Path) -> None:
    """Release the lock of a journal; with the journal its lock file goes away."""
    if lock is not None:
        if not path.exists() and os.name != "nt":
            _unlink(_lock_path(path))
        lock.release()


def _make_room(folder: Path) -> None:
    """Remove the oldest journals of dead processes beyond `ALL_JOURNALS`."""
    with suppress(OSError):
        files = sorted(((f.stat().st_mtime, f.stat().st_size, f) for f in _journals(folder)), reverse=True)
        for at, total in enumerate(np.cumsum([size for _, size, _ in files]).tolist()):
            if total > ALL_JOURNALS:
                with suppress(TimeoutError), _held(files[at][2]):
                    _unlink(files[at][2])


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
