"""The entries of a journal as bytes: labels as runs, masks as bits, both compressed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.journal import (
    Entry,
    JournalEdit,
    JournalHeader,
    LabelPrompts,
    LabelsSnapshot,
    LayerReference,
    PlaneChange,
    PlanePosition,
    PromptShape,
    RedoEntry,
    SavedEntry,
    UndoEntry,
)
from napari_samdepth.core.labelling import IntArray, LabelPatch
from napari_samdepth.storage.records import Buffer, DamagedError, packed, unpacked

Arrays = dict[str, NDArray[Any]]


def entry_bytes(entry: Entry, time: float) -> list[Buffer]:
    """Return an entry and when it was made, in seconds since the epoch, as bytes in pieces."""
    arrays: Arrays = {}
    match entry:
        case JournalHeader():
            about: dict[str, Any] = {
                "entry": "header",
                "image": _layer_json(entry.image),
                "labels": _layer_json(entry.labels),
                "started": entry.started,
                "version": entry.version,
                "empty": entry.empty,
            }
        case LabelsSnapshot():
            about = {"entry": "snapshot", "plane": _plane_json(entry.plane), "shape": entry.labels.shape}
            _add_runs(arrays, "labels", np.ascontiguousarray(entry.labels).reshape(-1))
        case JournalEdit():
            about = {
                "entry": "edit",
                "number": entry.number,
                "changes": [_change_json(change, arrays, str(at)) for at, change in enumerate(entry.changes)],
                "created": [int(label) for label in entry.created],
                "prompts": prompts_json(entry.prompts, arrays),
                "features": [[int(label), _plain(said)] for label, said in entry.features.items()],
            }
        case UndoEntry() | RedoEntry():
            about = {"entry": "undo" if isinstance(entry, UndoEntry) else "redo", "number": entry.number}
        case SavedEntry():
            about = {"entry": "saved", "path": entry.path}
    return packed({**about, "time": time}, arrays, compress=True)


def entry_of(content: Buffer) -> tuple[Entry, float]:
    """Return the entry in bytes, and when it was made. Raises DamagedError."""
    about, arrays = unpacked(content)
    try:
        return _entry(about, arrays), float(about["time"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DamagedError(f"an entry cannot be read ({error})") from error


def prompts_json(prompts: Sequence[LabelPrompts], arrays: Arrays) -> list[Any]:
    """Return prompts as JSON and put their arrays into `arrays`."""
    found = []
    for at, one in enumerate(prompts):
        arrays[f"points {at}"], arrays[f"point labels {at}"] = one.points, one.point_labels
        for index, shape in enumerate(one.shapes):
            arrays[f"shape {at} {index}"] = shape.vertices
        plane = None if one.plane is None else _plane_json(one.plane)
        found.append([int(one.label), one.model, plane, [[shape.kind, int(shape.label)] for shape in one.shapes]])
    return found


def prompts_of(listed: Sequence[Any], arrays: Mapping[str, NDArray[Any]]) -> tuple[LabelPrompts, ...]:
    """Return what `prompts_json` was given."""
    return tuple(
        LabelPrompts(
            label=int(label),
            points=_own(arrays[f"points {at}"]),
            point_labels=_own(arrays[f"point labels {at}"]),
            shapes=tuple(
                PromptShape(str(kind), _own(arrays[f"shape {at} {index}"]), int(sign))
                for index, (kind, sign) in enumerate(shapes)
            ),
            plane=None if plane is None else _plane(plane),
            model=str(model),
        )
        for at, (label, model, plane, shapes) in enumerate(listed)
    )


def _own(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy, which does not keep the bytes of the whole file."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _entry(about: dict[str, Any], arrays: Arrays) -> Entry:
    match about["entry"]:
        case "header":
            image, labels = _layer(about["image"]), _layer(about["labels"])
            return JournalHeader(image, labels, float(about["started"]), about["version"], bool(about["empty"]))
        case "snapshot":
            rows, cols = about["shape"]
            return LabelsSnapshot(_plane(about["plane"]), _from_runs(arrays, "labels", rows * cols).reshape(rows, cols))
        case "edit":
            changes = tuple(_change(change, arrays, str(at)) for at, change in enumerate(about["changes"]))
            features = {int(label): said for label, said in about["features"]}
            prompts = prompts_of(about["prompts"], arrays)
            return JournalEdit(int(about["number"]), changes, tuple(about["created"]), prompts, features)
        case "undo":
            return UndoEntry(int(about["number"]))
        case "redo":
            return RedoEntry(int(about["number"]))
        case "saved":
            return SavedEntry(str(about["path"]))
    raise ValueError(f"nobody knows a {about['entry']!r}")


def _layer_json(layer: LayerReference) -> dict[str, Any]:
    return {
        "name": layer.name,
        "path": layer.path,
        "shape": [int(size) for size in layer.shape],
        "dtype": layer.dtype,
        "digest": layer.digest,
        "placement": _plain(layer.placement),
    }


def _layer(found: dict[str, Any]) -> LayerReference:
    shape = tuple(int(size) for size in found["shape"])
    return LayerReference(found["name"], found["path"], shape, found["dtype"], found["digest"], found["placement"])


def _plane_json(plane: PlanePosition) -> list[Any]:
    return [plane.rows_axis, plane.cols_axis, plane.point]


def _plane(found: Sequence[Any]) -> PlanePosition:
    rows_axis, cols_axis, point = found
    return PlanePosition(rows_axis, cols_axis, tuple(point))


def _change_json(change: PlaneChange, arrays: Arrays, name: str) -> list[Any]:
    patch = change.patch
    arrays[f"{name} changed"] = np.packbits(patch.changed)
    _add_runs(arrays, f"{name} before", patch.before)
    _add_runs(arrays, f"{name} after", patch.after)
    return [_plane_json(change.plane), [int(edge) for edge in patch.box]]


def _change(found: Sequence[Any], arrays: Arrays, name: str) -> PlaneChange:
    plane, (row_min, col_min, row_max, col_max) = found
    shape = (row_max - row_min, col_max - col_min)
    changed = np.unpackbits(arrays[f"{name} changed"], count=shape[0] * shape[1]).astype(bool).reshape(shape)
    changed.flags.writeable = False
    count = int(np.count_nonzero(changed))
    before, after = (_from_runs(arrays, f"{name} {which}", count) for which in ("before", "after"))
    return PlaneChange(_plane(plane), LabelPatch((row_min, col_min, row_max, col_max), changed, before, after))


def _add_runs(arrays: Arrays, name: str, values: IntArray) -> None:
    """Put labels (k,) into `arrays` as values that are repeated."""
    if values.size and values.strides == (0,):
        starts = np.zeros(1, dtype=np.int64)
    else:
        starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])[: values.size])
    arrays[name], arrays[f"{name} runs"] = values[starts], np.diff(starts, append=values.size)


def _from_runs(arrays: Mapping[str, NDArray[Any]], name: str, count: int) -> IntArray:
    values, runs = arrays[name], arrays[f"{name} runs"]
    if values.dtype.kind not in "iu" or runs.min(initial=0) < 0 or runs.sum() != count:
        raise ValueError("labels in it have not the number they should have")
    if len(values) == 1:
        return np.broadcast_to(values[0].copy(), (count,))
    found: IntArray = np.repeat(values, runs)
    found.flags.writeable = False
    return found


def _plain(said: Any) -> Any:
    """Return what JSON holds: numpy's numbers as Python's, sequences as lists, anything else as text."""
    if said is None or isinstance(said, str | bool | int | float):
        return said
    if isinstance(said, np.generic | np.ndarray):
        return _plain(said.tolist())
    if isinstance(said, Mapping):
        return {str(name): _plain(value) for name, value in said.items()}
    if isinstance(said, list | tuple | set | frozenset):
        return [_plain(value) for value in said]
    return str(said)
