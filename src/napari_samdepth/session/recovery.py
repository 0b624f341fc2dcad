"""Labels that outlive a crash: what the session does to Labels layers goes to journals, and comes back from them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from numpy.typing import NDArray

from napari_samdepth.annotation.document import Document, DrawnPrompts
from napari_samdepth.annotation.history import History, LabelEdit, Step
from napari_samdepth.core.journal import (
    JournalEdit,
    JournalHeader,
    LabelPrompts,
    LayerReference,
    PlaneChange,
    PlanePosition,
    PromptShape,
    RecoveredWork,
)
from napari_samdepth.session.geometry import Shown
from napari_samdepth.session.labels import LabelsLayers, add_features, as_shown, find_layer, layer_id
from napari_samdepth.session.layers import placement, spatial_shape
from napari_samdepth.storage.images import read_labels
from napari_samdepth.storage.journal import Journal, recoverable
from napari_samdepth.storage.journal import Recoverable as Recoverable  # noqa: PLC0414 (docks show it)
from napari_samdepth.storage.prompts import image_digest

COUNTED = 2**28
"""Largest number of pixels (0.1 s) that is looked through for labels that were there before."""
FILES_COMPARED = 20
"""Files that are read at most to find out whether labels were saved with napari's own save."""


class Journals:
    """Keeps a journal for every Labels layer that the session writes into; nothing here raises for a disk."""

    def __init__(self) -> None:
        """Begin with none: a journal is made with the first edit of a layer."""
        self._journals: dict[str, Journal] = {}
        self._noted: WeakKeyDictionary[LabelEdit, JournalEdit] = WeakKeyDictionary()
        self._undone: dict[str, set[int]] = {}

    def note(
        self,
        edits: Sequence[LabelEdit],
        viewer: ViewerModel,
        layers: LabelsLayers,
        image: Image | None,
        model: str,
    ) -> None:
        """Edits were made, by one action of the user's."""
        for identity in dict.fromkeys(edit.layer for edit in edits):
            layer = find_layer(viewer, identity)
            if layer is None:
                continue
            of_layer = [edit for edit in edits if edit.layer == identity]
            if identity not in self._journals:
                empty = _was_empty(layer, of_layer) if layer.data.size <= COUNTED else layers.made(layer)
                self._journals[identity] = Journal(_header(layer, image, empty))
            self._note(of_layer, layer, self._journals[identity], image, model)

    def note_travel(self, edits: Sequence[LabelEdit], backwards: bool) -> None:
        """Edits of one step were taken back (`backwards`), or done again."""
        noted: dict[JournalEdit, str] = {self._noted[edit]: edit.layer for edit in edits if edit in self._noted}
        for one, identity in noted.items():
            journal, undone = self._journals.get(identity), self._undone.setdefault(identity, set())
            parts = [edit for edit in edits if self._noted.get(edit) is one]
            if journal is None:
                continue
            if len(parts) < len(one.changes):
                self._write_again(journal, parts, backwards)
            elif backwards:
                journal.undo(one)
                undone.add(one.number)
            elif one.number in undone:
                journal.redo(one)
                undone.discard(one.number)
            else:
                # something was written in between, after which a journal knows of no redo
                again = replace(one, number=journal.next_number())
                journal.edit(again)
                self._remember(parts, again)

    def saved(self, layer: Labels, path: str | os.PathLike[str]) -> None:
        """The labels as they are were saved to a file."""
        journal = self._journals.get(layer_id(layer))
        if journal is not None:
            journal.saved(str(path))

    def unsaved(self, layer: Labels) -> int:
        """Return how many edits of a layer are only in its journal."""
        journal = self._journals.get(layer_id(layer))
        return 0 if journal is None else journal.unsaved

    def discard(self, layer: Labels) -> None:
        """What was done to a layer is not wanted; a new journal begins with its next edit."""
        journal = self._journals.pop(layer_id(layer), None)
        if journal is not None:
            journal.discard()

    def forget(self, layer: object) -> None:
        """A layer was removed: what was not saved of it can be recovered."""
        journal = self._journals.pop(layer_id(layer), None) if isinstance(layer, Layer) else None
        if journal is not None:
            journal.close()

    def close(self) -> None:
        """Let go of all files; what was not saved can be recovered."""
        for journal in self._journals.values():
            journal.close()
        self._journals.clear()

    def flush(self) -> bool:
        """Wait until everything is on disk; False where it is not."""
        done = [journal.flush() for journal in self._journals.values()]
        return all(done)

    def take_message(self) -> str:
        """Return a sentence on a disk that cannot be written, once; "" if there is nothing to say."""
        said = [message for journal in self._journals.values() if (message := journal.take_message())]
        return said[0] if said else ""

    def adopt(self, recovered: Recovered) -> None:
        """Go on in a journal that was recovered."""
        identity = layer_id(recovered.layer)
        self._journals[identity] = recovered.journal
        self._noted.update(recovered.noted)
        self._undone[identity] = set(recovered.undone)

    def _note(
        self, edits: Sequence[LabelEdit], layer: Labels, journal: Journal, image: Image | None, model: str
    ) -> None:
        for plane in {_position(edit.plane) for edit in edits}:
            if not journal.knows(plane):
                # what it held before: as it is, without these edits
                held = plane.take(layer.data).copy()
                for edit in reversed(edits):
                    if _position(edit.plane) == plane:
                        _whole(edit).patch.revert(held)
                journal.snapshot(plane, held)
        one = JournalEdit(
            journal.next_number(),
            tuple(_whole(edit) for edit in edits),
            tuple(number for edit in edits for number in edit.created),
            tuple(said for edit in edits if (said := _prompts(edit, image, model)) is not None),
        )
        journal.edit(one)
        self._undone.pop(layer_id(layer), None)
        self._remember(edits, one)

    def _remember(self, edits: Iterable[LabelEdit], one: JournalEdit) -> None:
        for edit in edits:
            self._noted[edit] = one

    def _write_again(self, journal: Journal, edits: Sequence[LabelEdit], backwards: bool) -> None:
        """Note some edits of a step by themselves: the others no longer fitted the labels."""
        changes = [_whole(edit) for edit in edits]
        changes = [change.inverse for change in reversed(changes)] if backwards else changes
        journal.edit(JournalEdit(journal.next_number(), tuple(changes)))


@dataclass(frozen=True, eq=False)
class Recovered:
    """Labels that came back: the layer, not yet in a viewer, its steps, and what to say of them."""

    layer: Labels
    history: History
    journal: Journal
    noted: Mapping[LabelEdit, JournalEdit]
    undone: tuple[int, ...]
    said: str


def restored(item: Recoverable, image: Image | None, nothing: Document) -> Recovered:
    """Return the labels of a journal as a layer, with the steps that can be undone.

    Parameters
    ----------
    item
        One of `recoverable`.
    image
        The image that it belongs to; None where it is not there any longer.
    nothing
        The document that every step begins and ends with.

    Raises
    ------
    JournalError
        If it is restored elsewhere, was discarded, or cannot be read.
    """
    journal, work = item.resume()
    header, said = work.header, []
    labels = work.labels
    if not work.complete:
        labels, lost = _with_rest(work)
        said.append(lost)
    if work.damaged:
        said.append("Something of it could not be read and is missing.")
    if image is None:
        said.append(f"Its image, {header.image.path or header.image.name}, is not here.")
    elif _changed(header, image):
        said.append(f"“{image.name}” is not as it was when these labels were made.")
    place = placement(image) if image is not None and _fits(labels, image) else _placement(header.labels)
    layer = Labels(labels, name=header.labels.name, **place)
    features = [{"index": label, **what} for label, what in work.features.items()]
    if features:
        import pandas as pd

        add_features(layer, pd.DataFrame(features))
    pairs = {edit: one for one in (*work.done, *work.undone) for edit in _edits(one, layer)}
    steps = {one.number: _step(one, pairs, nothing) for one in (*work.done, *work.undone)}
    history = History(tuple(steps[one.number] for one in work.done), tuple(steps[one.number] for one in work.undone))
    undone = tuple(one.number for one in work.undone)
    count = f"{work.count:,} label{'' if work.count == 1 else 's'} restored."
    return Recovered(layer, history, journal, pairs, undone, " ".join([count, *filter(None, said)]))


def image_of(item: Recoverable, viewer: ViewerModel) -> Image | None:
    """Return the image in a viewer that recoverable work belongs to, None where it is not there.

    That is the one read from the same file, else the one of that name and shape.
    """
    images = [layer for layer in reversed(viewer.layers) if isinstance(layer, Image)]
    for image in images:
        path = str(image.source.path or "")
        if path and item.image_path and os.path.abspath(path) == item.image_path:
            return image
    named = (image for image in images if image.name == item.name)
    return next(named, None)


def unsaved_work() -> list[Recoverable]:
    """Return what was not saved when its process ended, the latest first.

    What was saved with napari's own save, which tells nobody, is found by comparing the files where napari saved last;
    its journal goes away.
    """
    return [item for item in recoverable() if not _was_saved(item)]


def _was_saved(item: Recoverable) -> bool:
    """Whether a file that is newer than the last edit holds the labels; then the journal is removed."""
    work = None
    for path in _newer_files(item):
        try:
            saved = read_labels(path)
            work = work or item.work()
        except (OSError, ValueError, MemoryError):
            continue
        if saved.shape == np.squeeze(work.labels).shape and np.array_equal(saved, np.squeeze(work.labels)):
            item.discard()
            return True
    return False


def _newer_files(item: Recoverable) -> list[Path]:
    from napari.settings import get_settings

    folders = [Path(folder) for folder in get_settings().application.save_history]
    folders += [Path(item.image_path).parent] if item.image_path else []
    found: list[tuple[float, Path]] = []
    for folder in dict.fromkeys(folders):
        try:
            files = [*folder.glob("*.tif"), *folder.glob("*.tiff"), *folder.glob("*/*.tif")]
            times = [(file.stat().st_mtime, file) for file in files]
        except OSError:
            continue
        found += [(at, file) for at, file in times if at >= item.time.timestamp()]
    return [file for _, file in sorted(found)][:FILES_COMPARED]


def _header(layer: Labels, image: Image | None, empty: bool) -> JournalHeader:
    from napari_samdepth import __version__

    labels = _reference(layer)
    return JournalHeader(labels if image is None else _reference(image), labels, time.time(), __version__, empty)


def _was_empty(layer: Labels, edits: Sequence[LabelEdit]) -> bool:
    """Whether a layer held nothing before these edits."""
    put = sum(int(np.count_nonzero(edit.change.after)) for edit in edits)
    taken = any(edit.change.before.any() for edit in edits)
    return not taken and int(np.count_nonzero(layer.data)) == put


def _reference(layer: Image | Labels) -> LayerReference:
    data = layer.data[0] if layer.multiscale else layer.data
    path = str(layer.source.path or "")
    # lazy data may take minutes to read
    digest = image_digest(data) if isinstance(data, np.ndarray) and isinstance(layer, Image) else ""
    return LayerReference(
        layer.name, os.path.abspath(path) if path else "", spatial_shape(layer), str(data.dtype), digest, _place(layer)
    )


def _place(layer: Layer) -> dict[str, Any]:
    place = placement(layer)
    affine = getattr(place["affine"], "affine_matrix", place["affine"])
    return {**place, "affine": np.asarray(affine), "units": [str(unit) for unit in place["units"]]}


def _placement(reference: LayerReference) -> dict[str, Any]:
    """Return the keyword arguments that put a layer where it was."""
    arrays = {name: np.asarray(value) for name, value in reference.placement.items() if name in ("affine", "rotate")}
    plain = {
        name: tuple(value)
        for name, value in reference.placement.items()
        if name in ("scale", "translate", "shear", "units", "axis_labels")
    }
    return {**plain, **arrays}


def _position(plane: Any) -> PlanePosition:
    shown: Shown = as_shown(plane)
    return PlanePosition(shown.rows_axis, shown.cols_axis, shown.point)


def _whole(edit: LabelEdit) -> PlaneChange:
    """Return an edit as a change of the whole plane."""
    row, col = as_shown(edit.plane).origin or (0, 0)
    box = edit.change.box
    moved = (box[0] + row, box[1] + col, box[2] + row, box[3] + col)
    return PlaneChange(_position(edit.plane), replace(edit.change, box=moved))


def _prompts(edit: LabelEdit, image: Image | None, model: str) -> LabelPrompts | None:
    drawn: DrawnPrompts | None = edit.prompts
    numbers = np.unique(edit.change.after)
    label = edit.created[0] if edit.created else int(numbers.max(initial=0))
    if drawn is None or drawn.empty or image is None or label <= 0:
        return None
    shapes = tuple(PromptShape(shape.kind, shape.vertices, shape.label) for shape in drawn.shapes)
    return LabelPrompts(label, drawn.points, drawn.labels, shapes, None, model)


def _edits(one: JournalEdit, layer: Labels) -> list[LabelEdit]:
    shape = layer.data.shape
    return [
        LabelEdit(
            layer_id(layer),
            Shown(plane.rows_axis, plane.cols_axis, plane.point, (shape[plane.rows_axis], shape[plane.cols_axis])),
            change.patch,
            one.created if at == 0 else (),
        )
        for at, change in enumerate(one.changes)
        for plane in [change.plane]
    ]


def _step(one: JournalEdit, pairs: Mapping[LabelEdit, JournalEdit], nothing: Document) -> Step:
    edits = tuple(edit for edit, noted in pairs.items() if noted is one)
    place = (edits[-1].layer, edits[-1].plane) if edits else ("", None)
    return Step(nothing, nothing, edits, *place)


def _changed(header: JournalHeader, image: Image) -> bool:
    now = _reference(image)
    return now.shape != header.image.shape or bool(header.image.digest and now.digest != header.image.digest)


def _fits(labels: NDArray[Any], image: Image) -> bool:
    return labels.shape == spatial_shape(image)


def _with_rest(work: RecoveredWork) -> tuple[NDArray[Any], str]:
    """Return the labels with what their file holds where nothing was done, and what to say where that is not known."""
    path = work.header.labels.path
    why = f"What “{work.header.labels.name}” held in other slices is not known."
    if not path:
        return work.labels, why
    try:
        held = read_labels(path)
    except (OSError, ValueError, MemoryError):
        return work.labels, why
    if held.shape != work.labels.shape:
        return work.labels, why
    known = np.zeros(work.labels.shape, dtype=bool)
    for plane in work.known:
        plane.take(known)[...] = True
    return np.where(known, work.labels, held), ""
