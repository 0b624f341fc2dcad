"""Fetching weights on demand: resumed where they stopped, checked before they count, kept in one folder.

Nothing is fetched unless `fetch` is called. A file is written beside its place under the name ``<file>.part``,
checked, and moved into place, so what is in place is whole and a good file never gives way to a bad one.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.inputs import silent
from napari_samdepth.models.protocols import Report
from napari_samdepth.models.registry import find, specs
from napari_samdepth.models.spec import HUB, ModelSpec
from napari_samdepth.models.weights.checksums import file_checksum, matches
from napari_samdepth.models.weights.connection import LOOK
from napari_samdepth.models.weights.fetch import FileNotOnServer, fetch_file
from napari_samdepth.models.weights.file_formats import check_content, unreadable

FOLDER_VARIABLE = "NAPARI_SAMDEPTH_MODELS"
ENDPOINT_VARIABLE = "HF_ENDPOINT"
_RECORD = "checksums.json"
_PUBLISHED = "published"
# What a file system without locks (some network drives) answers.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class ModelStatus:
    """Whether a model is on this machine.

    Attributes
    ----------
    name
        Of the model.
    present
        Whether it can be loaded without a network.
    path
        Its checkpoint file or folder; where it would be put if it is absent; None for what ships with the package.
    size
        Bytes on disk if present, else bytes to download (rounded where the source does not publish them).
    unverified
        Names of its files for which no checksum is published, so that nobody can say whether they are the right ones.
    problem
        Why it cannot be seen whether the model is there, "" where it can.
    """

    name: str
    present: bool
    path: Path | None
    size: int
    unverified: tuple[str, ...] = ()
    problem: str = ""


def models_folder() -> Path:
    """Return the folder of downloaded models: NAPARI_SAMDEPTH_MODELS, else one in the user's cache."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return Path(user_cache_path("napari-samdepth", appauthor=False)) / "models"


def local_path(spec: ModelSpec, folder: Path | None = None) -> Path | None:
    """Return where the files of a model are, or None if they are not (all) there.

    A checkpoint is looked for as ``<folder>/<model>/<file>`` and, put there by hand, as ``<folder>/<file>`` where only
    one model has a file of that name; a folder from the hub as ``<folder>/<model>`` and ``<folder>/<hub name>``.
    """
    root = folder or models_folder()
    if spec.url:
        shared = sum(spec.file_name == other.file_name for other in specs()) > 1
        places = [root / spec.name / spec.file_name] + ([] if shared else [root / spec.file_name])
        return next((place for place in places if os.path.isfile(place)), None)
    for place in (root / spec.name, root / spec.hub_id.rsplit("/", 1)[-1]):
        if spec.files and all(os.path.isfile(place / file) for file in spec.files):
            return place
    return None


def spec_status(spec: ModelSpec, folder: Path | None = None) -> ModelStatus:
    """Return whether a model of the catalog is on this machine, where, and how large it is."""
    if spec.ships:
        return ModelStatus(spec.name, True, None, 0)
    path = local_path(spec, folder)
    if path is not None:
        unverified = () if path.is_file() and spec.checksum else _unpublished(spec, path)
        return ModelStatus(spec.name, True, path, _size_of(path), unverified)
    root = folder or models_folder()
    place = root / spec.name
    expected = place / spec.file_name if spec.url else place
    return ModelStatus(spec.name, False, expected, spec.size, problem=_hidden(spec, root))


def _size_of(path: Path) -> int:
    try:
        files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
        return sum(file.stat().st_size for file in files)
    except OSError:
        return 0


def _hidden(spec: ModelSpec, root: Path) -> str:
    """Return why the system does not say whether a model's files are there, "" if it does."""
    names = (spec.file_name,) if spec.url else spec.files
    for path in [root / spec.name / name for name in names]:
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            return (
                f"{root} cannot be read ({error.strerror}); check its permissions, or set {FOLDER_VARIABLE} to another "
                "folder."
            )
    return ""


def verify(name: str, folder: Path | None = None, report: Report | None = None) -> ModelStatus:
    """Return the status of a model whose files were read again and found to be what they should be.

    A checkpoint is compared with the catalog's checksum, hub files with those recorded when they were downloaded.
    Where none was published, that says only that a file has not changed since (see `ModelStatus.unverified`).

    Raises
    ------
    ModelError
        If there is no such model, it is absent, or a file is not what it should be.
    Cancelled
        If `report` raises it.
    """
    spec = find(name)
    found = spec_status(spec, folder)
    if found.path is None:
        return found
    if not found.present:
        raise ModelError(missing(spec, folder))
    for file, checksum in _expected(spec, found.path).items():
        try:
            same = matches(file, checksum, report)
        except OSError as error:
            raise ModelError(unreadable(file, error)) from error
        if not same:
            raise ModelError(
                f"{file} is not what {spec.name} should be (its {checksum.partition(':')[0]} differs); delete it and "
                f"download the model again."
            )
        if file.name in found.unverified:
            check_content(file, file.name)
    return found


def _expected(spec: ModelSpec, path: Path) -> dict[Path, str]:
    if path.is_file():
        return {path: spec.checksum}
    if not (path / _RECORD).is_file():
        raise ModelError(f"{path} was not downloaded by napari-samdepth, so there is nothing to verify it with.")
    known = _record(path)
    found = {path / file: known[file] for file in (*spec.files, *spec.optional_files) if file in known}
    if not all(isinstance(checksum, str) and ":" in checksum for checksum in found.values()):
        raise ModelError(f"{path / _RECORD} is damaged; delete it and download the model again.")
    return found


def _record(path: Path) -> dict[str, Any]:
    """Return what was noted of a hub model's files when they came: checksums by name, and which were published."""
    try:
        known = json.loads((path / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def _published(path: Path) -> tuple[str, ...]:
    names = _record(path).get(_PUBLISHED)
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()


def _unpublished(spec: ModelSpec, path: Path) -> tuple[str, ...]:
    """Return the files of a model that is there for which no checksum was published."""
    if path.is_file():
        return (path.name,)
    published = _published(path)
    here = (*spec.files, *(file for file in spec.optional_files if os.path.isfile(path / file)))
    return tuple(file for file in here if file not in published)


def missing(spec: ModelSpec, folder: Path | None = None) -> str:
    """Return the sentence for a model that is not on this machine."""
    root = folder or models_folder()
    place = root / spec.name
    return _hidden(spec, root) or (
        f"{spec.name} is not on this machine; fetch it with `napari-samdepth models download {spec.name}` "
        f"({spec.size / 1e6:.0f} MB), or {_by_hand(spec, place)}."
    )


def _by_hand(spec: ModelSpec, place: Path) -> str:
    """Return which files a user without a network has to put where."""
    if spec.url:
        return f"put {spec.file_name} into {place} by hand"
    *others, last = [file for file in spec.files if not os.path.isfile(place / file)] or spec.files
    files = f"{', '.join(others)} and {last}" if others else last
    return f"put {files} of {spec.hub_id} into {place} by hand"


def fetch(name: str, folder: Path | None = None, report: Report | None = None) -> Path:
    """Return the path of a model's files, downloaded if they are not on this machine yet.

    Parameters
    ----------
    name
        Of the model.
    folder
        Where to keep it; `models_folder()` if None.
    report
        Told how far it is; raise `Cancelled` in it to stop. What was fetched stays and is resumed.

    Raises
    ------
    ModelError
        If there is no such model, no network, no room, or what came is not what it should be.
    Cancelled
        If `report` raises it.
    """
    return fetch_spec(find(name), folder, report)


def fetch_spec(spec: ModelSpec, folder: Path | None = None, report: Report | None = None) -> Path:
    """Return the path of a catalog spec's files, downloaded if need be, as `fetch` does."""
    if spec.ships:
        raise ModelError(f"{spec.name} ships with the package; there is nothing to download.")
    there = local_path(spec, folder)
    if there is not None and _as_it_says(spec, there):
        return there
    tell = report or silent
    place = (folder or models_folder()) / spec.name
    _make_room(spec, place)
    with _alone(spec, place, tell):
        there = local_path(spec, folder)
        if there is not None and _as_it_says(spec, there):  # another process has fetched it meanwhile
            return there
        if not spec.url:
            _fetch_folder(spec, place, tell)
            return place
        target = place / spec.file_name
        fetch_file(spec.url, target, spec.checksum, tell, spec.name, _by_hand(spec, place))
        return target


def _as_it_says(spec: ModelSpec, path: Path) -> bool:
    """Whether the files of a hub model are of the kind that their names say; others are fetched again."""
    if path.is_file():
        return True
    return all(_is_kind(path / file) for file in _unpublished(spec, path))


def _is_kind(file: Path) -> bool:
    try:
        check_content(file, file.name)
    except ModelError:
        return False
    return True


@contextmanager
def _alone(spec: ModelSpec, place: Path, tell: Report) -> Iterator[None]:
    """Wait until no other process fetches the model, and keep others from it; one that dies lets go of its lock."""
    from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

    name = place / ".lock"
    lock: BaseFileLock = FileLock(name, fallback_to_soft=False)
    soft = False
    while True:
        try:
            lock.acquire(blocking=False)
            break
        except Timeout:
            have = min(_parts(place), spec.size)
            size = f"{have / 1e6:.0f} of {spec.size / 1e6:.0f} MB"
            tell(have / spec.size, f"another process is downloading {spec.name}: {size}")
            time.sleep(LOOK)
        except OSError as error:
            if soft or error.errno not in _NO_LOCKS:
                raise ModelError(
                    f"{place} cannot be written ({error.strerror}); set {FOLDER_VARIABLE} to another folder."
                ) from error
            # a file that is there is the lock then; the name that this attempt has made must not be it
            name.unlink(missing_ok=True)
            lock, soft = SoftFileLock(place / ".softlock"), True
    try:
        yield
    finally:
        if not soft and os.name != "nt":
            # while it is still held: those who wait see that their file is gone and make a new one
            name.unlink(missing_ok=True)
        lock.release()


def _parts(place: Path) -> int:
    """Return how many bytes of a model have come."""
    try:
        return sum(file.stat().st_size for file in place.iterdir() if file.is_file())
    except OSError:  # one was moved into place just now
        return 0


def _make_room(spec: ModelSpec, place: Path) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(
            f"{place} cannot be made ({error.strerror}); set {FOLDER_VARIABLE} to another folder."
        ) from error
    have, free = _parts(place), shutil.disk_usage(place).free
    if free + have < spec.size * 1.02:
        raise ModelError(
            f"{spec.name} needs {spec.size / 1e6:.0f} MB and {place} has {free / 1e6:.0f} MB free; make room or set "
            f"{FOLDER_VARIABLE} to another folder."
        )


def _fetch_folder(spec: ModelSpec, place: Path, tell: Report) -> None:
    """Fetch a hub model file by file and record the checksums; what must be there comes first, the largest last."""
    endpoint = os.environ.get(ENDPOINT_VARIABLE) or HUB
    published = _published(place)
    record = {file: checksum for file, checksum in _record(place).items() if file != _PUBLISHED}
    # without a network the file to complain of is one that is needed
    for file in (*spec.files[:1], *spec.optional_files, *spec.files[1:]):
        target = place / file
        if not (target.is_file() and (file in published or _is_kind(target))):
            try:
                url, what = spec.file_url(file, endpoint), f"{file} of {spec.name}"
                checksum = fetch_file(url, target, "", tell, what, _by_hand(spec, place))
            except FileNotOnServer:
                if file in spec.files:
                    raise
                continue
            published = (*(name for name in published if name != file), *([file] if checksum else []))
            record[file] = checksum or f"sha256:{file_checksum(target, 'sha256', tell)}"
        elif file not in record:
            record[file] = f"sha256:{file_checksum(target, 'sha256', tell)}"
        _write_record(place, {**record, _PUBLISHED: list(published)})


def _write_record(place: Path, record: dict[str, Any]) -> None:
    beside = place / f"{_RECORD}.part"
    try:
        beside.write_text(json.dumps(record, indent=1), encoding="utf-8")
        os.replace(beside, place / _RECORD)
    except OSError as error:
        raise ModelError(f"{beside} cannot be written ({error.strerror}); make room and try again.") from error
