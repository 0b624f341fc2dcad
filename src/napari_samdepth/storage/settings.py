"""What the plugin remembers on this machine: own checkpoints, how long models take, sizes; one small JSON file."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import stat
import statistics
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from napari_samdepth.storage.atomic import atomic_path

logger = logging.getLogger(__name__)

FOLDER_VARIABLE = "NAPARI_SAMDEPTH_SETTINGS"
TASKS = ("segment", "depth", "text")
RUNS_KEPT = 5
LARGEST = 2**20
"""Bytes; a settings file above this is no settings file."""
PATIENCE = 10.0
"""Seconds to wait for another process that is changing the settings."""

EMBEDDING_CACHE_BYTES = 4 * 10**9
"""Bytes that embeddings on disk may take unless the user says otherwise."""

_OWN, _TIMINGS, _CACHE = "own_models", "timings", "embedding_cache_bytes"
# What a file system without locks (some network drives) answers.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
_lock = threading.Lock()
_read: dict[Path, tuple[tuple[int, ...], Settings]] = {}


@dataclass(frozen=True)
class OwnModel:
    """A checkpoint of the user's.

    Attributes
    ----------
    task
        One of `TASKS`.
    path
        Absolute path of a file or folder, which may be gone by now.
    """

    task: str
    path: str

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"A model's task must be one of {', '.join(TASKS)}, got {self.task!r}.")
        if not isinstance(self.path, str) or "\0" in self.path or not Path(self.path).is_absolute():
            raise ValueError(f"An own model is remembered by its absolute path, got {self.path!r}.")


@dataclass(frozen=True)
class Timing:
    """How long one image took.

    Attributes
    ----------
    task
        One of `TASKS`.
    model
        Catalog name, or path of an own model.
    machine
        What it ran on.
    seconds
        The last runs, at most `RUNS_KEPT`, each positive.
    """

    task: str
    model: str
    machine: str
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not all(isinstance(text, str) for text in (self.task, self.model, self.machine)):
            raise ValueError(f"A timing names task, model and machine as text, got {self!r}.")
        numbers = all(isinstance(run, (int, float)) and math.isfinite(run) and run > 0 for run in self.seconds)
        if not self.seconds or not numbers:
            raise ValueError(f"A timing holds positive seconds, got {self.seconds!r}.")

    @property
    def typical(self) -> float:
        """The median of the runs, in seconds."""
        return float(statistics.median(self.seconds))


@dataclass(frozen=True)
class Settings:
    """All that is remembered.

    Attributes
    ----------
    own
        Checkpoints of the user's.
    timings
        How long models take.
    other
        What a later version put into the file, kept as it is.
    embedding_cache_bytes
        How many bytes embeddings on disk may take; 0 keeps none there.
    """

    own: tuple[OwnModel, ...] = ()
    timings: tuple[Timing, ...] = ()
    other: Mapping[str, Any] = field(default_factory=dict)
    embedding_cache_bytes: int = EMBEDDING_CACHE_BYTES

    def __post_init__(self) -> None:
        size = self.embedding_cache_bytes
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise ValueError(f"The embedding cache takes a whole number of bytes from 0 on, got {size!r}.")

    def with_own(self, model: OwnModel) -> Settings:
        """Return settings that hold an own model as well, once."""
        return self if model in self.own else replace(self, own=(*self.own, model))

    def without_own(self, model: OwnModel) -> Settings:
        """Return settings without an own model and its timings."""
        timings = (timing for timing in self.timings if (timing.task, timing.model) != (model.task, model.path))
        return replace(self, own=tuple(own for own in self.own if own != model), timings=tuple(timings))

    def with_run(self, task: str, model: str, machine: str, seconds: float) -> Settings:
        """Return settings with one more measured run; the oldest beyond `RUNS_KEPT` is dropped."""
        before = self.timing(task, model, machine)
        runs = (*(before.seconds if before else ()), round(float(seconds), 4))[-RUNS_KEPT:]
        others = tuple(timing for timing in self.timings if timing is not before)
        return replace(self, timings=(*others, Timing(task, model, machine, runs)))

    def timing(self, task: str, model: str, machine: str) -> Timing | None:
        """Return what was measured of a model on a machine, None if nothing was."""
        key = (task, model, machine)
        return next((timing for timing in self.timings if (timing.task, timing.model, timing.machine) == key), None)


def settings_path() -> Path:
    """Return the settings file: in the folder NAPARI_SAMDEPTH_SETTINGS, else in the user's folder of settings."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen).expanduser() / "settings.json"
    from platformdirs import user_config_path

    return Path(user_config_path("napari-samdepth", appauthor=False)) / "settings.json"


class _Damaged(Exception):
    """The file is there, and holds no settings."""


def load_settings() -> Settings:
    """Return what is remembered; nothing where there is no file, or none that can be read.

    A damaged file is moved aside, to ``settings.damaged.json`` beside it.
    """
    with _lock:
        path = settings_path()
        try:
            return _load(path)
        except _Damaged:
            pass
        except OSError as error:
            logger.warning("The plugin's settings cannot be read: %s", error)
            return Settings()
        try:
            with _alone(path):  # another process may have mended it by now
                return _load_or_move_aside(path)
        except OSError as error:
            logger.warning("The plugin's settings are damaged and cannot be moved aside: %s", error)
            return Settings()


def change_settings(change: Callable[[Settings], Settings]) -> Settings:
    """Read the settings, change them, write them, and return them; no other process writes in between.

    Raises
    ------
    OSError
        If the file cannot be read or written, or another process keeps it locked for `PATIENCE` seconds.
    """
    with _lock:
        path = settings_path()
        with _alone(path):
            before = _load_or_move_aside(path)
            after = change(before)
            if after != before:
                text = json.dumps(_as_json(after), indent=2, ensure_ascii=False)
                with atomic_path(path) as beside:
                    beside.write_text(text + "\n", encoding="utf-8")
            return after


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from changing a file; a process that dies lets go of its lock."""
    from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(f"{path.name}.lock")
    lock: BaseFileLock = FileLock(name, PATIENCE, poll_interval=0.02, fallback_to_soft=False)
    removed_by_us = os.name != "nt"
    try:
        try:
            lock.acquire()
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            # a file that is there is the lock then; the name that this attempt has made must not be it
            name.unlink(missing_ok=True)
            soft = path.with_name(f"{path.name}.softlock")
            lock, removed_by_us = SoftFileLock(soft, PATIENCE, poll_interval=0.02), False
            lock.acquire()
    except Timeout as error:
        raise TimeoutError(errno.ETIMEDOUT, "another process keeps it locked", str(path)) from error
    try:
        yield
    finally:
        if removed_by_us:
            # while it is still held: those who wait see that their file is gone and make a new one
            name.unlink(missing_ok=True)
        lock.release()


def _load_or_move_aside(path: Path) -> Settings:
    try:
        return _load(path)
    except _Damaged as error:
        aside = path.with_name("settings.damaged.json")
        logger.warning("%s is damaged (%s); it is moved to %s.", path, error, aside.name)
        os.replace(path, aside)
        return Settings()


def _load(path: Path) -> Settings:
    """Return the content of a file; read again only after it was written."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return Settings()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
    known = _read.get(path)
    if known is not None and known[0] == stamp:
        return known[1]
    try:
        settings = _parsed(path, found.st_size)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _Damaged(str(error)) from error
    _read[path] = (stamp, settings)
    return settings


def _parsed(path: Path, size: int) -> Settings:
    if size > LARGEST:
        raise ValueError(f"{size} bytes are too many")
    data = json.loads(path.read_text(encoding="utf-8"))
    other = {name: value for name, value in data.items() if name not in (_OWN, _TIMINGS, _CACHE)}
    own = tuple(OwnModel(item["task"], item["path"]) for item in data.get(_OWN, []))
    timings = tuple(
        Timing(item["task"], item["model"], item["machine"], tuple(item["seconds"])[-RUNS_KEPT:])
        for item in data.get(_TIMINGS, [])
    )
    return Settings(own, timings, other, data.get(_CACHE, EMBEDDING_CACHE_BYTES))


def _as_json(settings: Settings) -> dict[str, Any]:
    chosen = settings.embedding_cache_bytes
    return {
        **settings.other,
        **({} if chosen == EMBEDDING_CACHE_BYTES else {_CACHE: chosen}),
        _OWN: [{"task": own.task, "path": own.path} for own in settings.own],
        _TIMINGS: [
            {"task": kept.task, "model": kept.model, "machine": kept.machine, "seconds": list(kept.seconds)}
            for kept in settings.timings
        ],
    }
