"""Fetching weights on demand: resumed where they stopped, checked before they count, kept in one folder.

Nothing is fetched unless `fetch` is called. A file is written beside its place under the name ``<file>.part``,
checked, and moved into place, so what is in place is whole and a good file never gives way to a bad one.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.catalog import entries, find
from napari_samdepth.models.entry import HUB, ModelEntry
from napari_samdepth.models.inputs import silent
from napari_samdepth.models.protocols import Report
from napari_samdepth.models.weights.checksums import file_checksum, matches
from napari_samdepth.models.weights.fetch import FileNotOnServer, fetch_file

FOLDER_VARIABLE = "NAPARI_SAMDEPTH_MODELS"
ENDPOINT_VARIABLE = "HF_ENDPOINT"
_RECORD = "checksums.json"


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
    """

    name: str
    present: bool
    path: Path | None
    size: int


def models_folder() -> Path:
    """Return the folder of downloaded models: NAPARI_SAMDEPTH_MODELS, else one in the user's cache."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return Path(user_cache_path("napari-samdepth", appauthor=False)) / "models"


def local_path(entry: ModelEntry, folder: Path | None = None) -> Path | None:
    """Return where the files of a model are, or None if they are not (all) there.

    A checkpoint is looked for as ``<folder>/<model>/<file>`` and, put there by hand, as ``<folder>/<file>`` where only
    one model has a file of that name; a folder from the hub as ``<folder>/<model>`` and ``<folder>/<hub name>``.
    """
    root = folder or models_folder()
    if entry.url:
        shared = sum(entry.file_name == other.file_name for other in entries()) > 1
        places = [root / entry.name / entry.file_name] + ([] if shared else [root / entry.file_name])
        return next((place for place in places if place.is_file()), None)
    for place in (root / entry.name, root / entry.hub_id.rsplit("/", 1)[-1]):
        if entry.files and all((place / file).is_file() for file in entry.files):
            return place
    return None


def entry_status(entry: ModelEntry, folder: Path | None = None) -> ModelStatus:
    """Return whether a model of the catalog is on this machine, where, and how large it is."""
    if entry.ships:
        return ModelStatus(entry.name, True, None, 0)
    path = local_path(entry, folder)
    if path is not None:
        files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
        return ModelStatus(entry.name, True, path, sum(file.stat().st_size for file in files))
    place = (folder or models_folder()) / entry.name
    return ModelStatus(entry.name, False, place / entry.file_name if entry.url else place, entry.size)


def verify(name: str, folder: Path | None = None, report: Report | None = None) -> ModelStatus:
    """Return the status of a model whose files were read again and found to be what they should be.

    A checkpoint is compared with the catalog's checksum, hub files with those recorded when they were downloaded.

    Raises
    ------
    ModelError
        If there is no such model, it is absent, or a file is not what it should be.
    Cancelled
        If `report` raises it.
    """
    entry = find(name)
    found = entry_status(entry, folder)
    if found.path is None:
        return found
    if not found.present:
        raise ModelError(missing(entry, folder))
    for file, checksum in _expected(entry, found.path).items():
        if not matches(file, checksum, report):
            raise ModelError(
                f"{file} is not what {entry.name} should be (its {checksum[:6]} differs); delete it and "
                f"download the model again."
            )
    return found


def _expected(entry: ModelEntry, path: Path) -> dict[Path, str]:
    if path.is_file():
        return {path: entry.checksum}
    record = path / _RECORD
    if not record.is_file():
        raise ModelError(f"{path} was not downloaded by napari-samdepth, so there is nothing to verify it with.")
    known = json.loads(record.read_text(encoding="utf-8"))
    return {path / file: str(known[file]) for file in (*entry.files, *entry.optional_files) if file in known}


def missing(entry: ModelEntry, folder: Path | None = None) -> str:
    """Return the sentence for a model that is not on this machine."""
    place = (folder or models_folder()) / entry.name
    return (
        f"{entry.name} is not on this machine; fetch it with `napari-samdepth models download {entry.name}` "
        f"({entry.size / 1e6:.0f} MB), or {_by_hand(entry, place)}."
    )


def _by_hand(entry: ModelEntry, place: Path) -> str:
    """Return which files a user without a network has to put where."""
    if entry.url:
        return f"put {entry.file_name} into {place} by hand"
    *others, last = [file for file in entry.files if not (place / file).is_file()] or entry.files
    files = f"{', '.join(others)} and {last}" if others else last
    return f"put {files} of {entry.hub_id} into {place} by hand"


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
    return fetch_entry(find(name), folder, report)


def fetch_entry(entry: ModelEntry, folder: Path | None = None, report: Report | None = None) -> Path:
    """Return the path of a catalog entry's files, downloaded if need be, as `fetch` does."""
    if entry.ships:
        raise ModelError(f"{entry.name} ships with the package; there is nothing to download.")
    there = local_path(entry, folder)
    if there is not None:
        return there
    tell = report or silent
    place = (folder or models_folder()) / entry.name
    _make_room(entry, place)
    if entry.url:
        target = place / entry.file_name
        fetch_file(entry.url, target, entry.checksum, tell, entry.name, _by_hand(entry, place))
        return target
    _fetch_folder(entry, place, tell)
    return place


def _make_room(entry: ModelEntry, place: Path) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(
            f"{place} cannot be made ({error.strerror}); set {FOLDER_VARIABLE} to another folder."
        ) from error
    have = sum(part.stat().st_size for part in place.glob("*.part"))
    free = shutil.disk_usage(place).free
    if free + have < entry.size * 1.02:
        raise ModelError(
            f"{entry.name} needs {entry.size / 1e6:.0f} MB and {place} has {free / 1e6:.0f} MB free; make room or set "
            f"{FOLDER_VARIABLE} to another folder."
        )


def _fetch_folder(entry: ModelEntry, place: Path, tell: Report) -> None:
    """Fetch a hub model file by file and record the checksums; what must be there comes first, the largest last."""
    endpoint = os.environ.get(ENDPOINT_VARIABLE) or HUB
    record: dict[str, str] = {}
    # without a network the file to complain of is one that is needed
    for file in (*entry.files[:1], *entry.optional_files, *entry.files[1:]):
        target = place / file
        if not target.is_file():
            try:
                url, what = entry.file_url(file, endpoint), f"{file} of {entry.name}"
                fetch_file(url, target, "", tell, what, _by_hand(entry, place))
            except FileNotOnServer:
                if file in entry.files:
                    raise
                continue
        record[file] = f"sha256:{file_checksum(target, 'sha256')}"
    beside = place / f"{_RECORD}.part"
    beside.write_text(json.dumps(record, indent=1), encoding="utf-8")
    os.replace(beside, place / _RECORD)
