"""The Labels layers that accepted masks go to: which one belongs to an image, and edits of labels in them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np
import pandas as pd
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from numpy.typing import NDArray
from scipy import ndimage

from napari_samdepth.annotation.document import PlaneView
from napari_samdepth.annotation.history import LabelEdit
from napari_samdepth.annotation.transitions import MaskWrite
from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.errors import LayerError
from napari_samdepth.core.labelling import (
    LabelPatch,
    as_numbers,
    change_label,
    next_label,
    widened,
    write_labels,
    write_mask,
)
from napari_samdepth.measure.readout import plain_name
from napari_samdepth.session.geometry import Shown, matching_plane, plane_affine, shown_plane
from napari_samdepth.session.layers import empty_on, placement, spatial_shape

WHOLE_SCAN = 2**28
"""Largest number of pixels (0.1 s) that is looked through for the next free label."""
LEAST_FREE = 0.1
"""Share of a mask that must belong to no label yet: less is the rim of an object that has its label."""


class AlreadyLabelled(LayerError):
    """A mask lies nearly wholly on a label that is there; `label` is its number."""

    def __init__(self, label: int) -> None:
        """Say which label is there."""
        super().__init__(f"Label {label} is there already; refine it instead, or press Escape to drop this mask.")
        self.label = label


def layer_id(layer: Layer) -> str:
    """Return what identifies a layer as long as the program runs, whatever it is called."""
    return str(layer.unique_id)


def find_layer(viewer: ViewerModel, identity: str) -> Any:
    """Return the viewer's layer with this id, None where it is gone."""
    return next((layer for layer in viewer.layers if layer_id(layer) == identity), None)


class LabelsLayers:
    """Makes Labels layers and writes edits into them, never over other labels; takes edits back and does them again.

    Attributes
    ----------
    typed
        The number that the user gave for the next mask, also one that is there; 0 for the next free one.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        """Write into layers of `viewer`."""
        self._viewer = viewer
        self._taken: WeakKeyDictionary[LabelEdit, pd.DataFrame] = WeakKeyDictionary()
        self._made: dict[str, str] = {}
        self.typed = 0
        self._highest: tuple[ref[Labels], Any, int] | None = None
        self._writing = False

    def of(self, image: Image, identity: str) -> Labels | None:
        """Return the layer `identity` as the target of an image; None where it is gone or no longer fits."""
        layer: Labels | None = find_layer(self._viewer, identity)
        if layer is None:
            return None
        made_for_other = self._made.get(identity) not in (None, layer_id(image))
        if identity in self._made and (made_for_other or layer.data.shape != spatial_shape(image)):
            return None
        return layer

    def make(self, image: Image) -> Labels:
        """Return an empty layer for the masks of an image, named after it, not yet in the viewer."""
        layer = Labels(empty_on(image, np.uint16), name=f"{image.name} masks", **placement(image))
        self._made[layer_id(layer)] = layer_id(image)
        return layer

    def add(self, layer: Labels, image: Image) -> None:
        """Put a layer that was made into the viewer, above its image and the images on it."""
        selected = self._viewer.layers.selection.active
        position = next(at for at, other in enumerate(self._viewer.layers) if other is image) + 1
        while position < len(self._viewer.layers) and isinstance(self._viewer.layers[position], Image):
            position += 1
        self._viewer.layers.insert(position, layer)
        if selected is not None:
            self._viewer.layers.selection.active = selected

    def made(self, layer: Labels) -> bool:
        """Whether the session made this layer, for one image."""
        return layer_id(layer) in self._made

    def forget(self, layer: object) -> None:
        """A layer was removed."""
        if isinstance(layer, Layer):
            self._made.pop(layer_id(layer), None)
        if self._highest is not None and self._highest[0]() is layer:
            self._follow(None)

    def next_number(self, layer: Labels | None) -> int:
        """Return the next free label of a layer, 1 where there is none."""
        if layer is None:
            return 1
        known, data = self._highest, layer.data
        if known is not None and known[0]() is layer and known[1] is data:
            return known[2] + 1
        if layer.multiscale or data.size > WHOLE_SCAN:
            before = known[2] if known is not None and known[0]() is layer else 0
            plane = np.asarray(shown_plane(layer, self._viewer.dims).take(data[0] if layer.multiscale else data))
            highest = max(next_label(plane) - 1, before)
        else:
            highest = next_label(data) - 1
        self._follow(layer, highest)
        return highest + 1

    def write(self, write: MaskWrite, image: Image, layer: Labels) -> LabelEdit | None:
        """Write a mask as a new label, or change the label being refined by what differs from its pixels before.

        Returns None where nothing changes.

        Raises
        ------
        AlreadyLabelled
            If a new mask lies nearly wholly on a label that is there.
        LayerError
            If the layer cannot be written.
        """
        request, patch = write.request, write.patch
        check_writable(layer)
        number = request.editing or self.typed or self.next_number(layer)
        plane = matching_plane(image, as_shown(request.plane), layer, self._viewer.dims)
        self.widen(layer, number)
        view = plane_view(layer, plane)
        if request.editing and request.base is not None:
            added, removed = _difference(patch, request.base)
            change = change_label(
                view, self._moved(added, image, request.plane, layer, plane),
                self._moved(removed, image, request.plane, layer, plane), number,
            )  # fmt: skip
        else:
            moved = self._moved(patch, image, request.plane, layer, plane)
            change = write_mask(view, moved, number)
            there = _label_under(view, moved)
            if there and (change is None or change.count < LEAST_FREE * moved.area):
                raise AlreadyLabelled(there)
        if change is None:
            return None
        goes_on = bool(request.editing or (self.typed and (layer.data == number).any()))
        edit = LabelEdit(layer_id(layer), plane, change, () if goes_on else (number,), request.prompts)
        self._apply(layer, edit, number)
        self.typed = self.typed if request.editing else 0
        layer.selected_label = number
        return edit

    def write_many(
        self, found: NDArray[np.int32], count: int, image: Image, shown: Shown, layer: Labels
    ) -> tuple[LabelEdit | None, NDArray[np.integer[Any]]]:
        """Write labels 1 to `count` (H, W) of a full-resolution part of a plane beside those that are there.

        Returns the edit and the number that each got (count,), 0 for those of which nearly all belongs to labels that
        are there; None for the edit where nothing changes. Raises LayerError if the layer cannot be written, or lies
        on another grid than the image.
        """
        check_writable(layer)
        plane, theirs = matching_plane(image, shown, layer, self._viewer.dims), full_plane(image, shown)
        same = np.array_equal(plane_affine(layer, plane, image, theirs, self._viewer.dims), np.eye(2, 3))
        if not same or plane.shape != theirs.shape:
            raise LayerError(f"“{layer.name}” lies on another grid than the image; choose a new layer for these.")
        plane = replace(plane, origin=shown.origin, shape=shown.shape)
        view = plane_view(layer, plane)
        free = np.bincount(found[view == 0], minlength=count + 1)[1:]
        new = (free > 0) & (free >= LEAST_FREE * np.bincount(found.ravel(), minlength=count + 1)[1:])
        first = self.next_number(layer)
        last = first - 1 + int(new.sum())
        self.widen(layer, last)
        given = np.zeros(count, dtype=np.uint64)  # a label may need all 64 bits
        given[new] = np.arange(int(new.sum()), dtype=np.uint64) + np.uint64(first)
        numbers = as_numbers(given)
        numbered = np.concatenate([np.zeros(1, numbers.dtype), numbers]).astype(layer.data.dtype)[found]
        change = write_labels(plane_view(layer, plane), numbered)
        if change is None:
            return None, numbers
        edit = LabelEdit(layer_id(layer), plane, change, tuple(numbers[new].tolist()))
        self._apply(layer, edit, last)
        return edit, numbers

    def change(self, layer: Labels, plane: Shown, change: LabelPatch, created: tuple[int, ...] = ()) -> LabelEdit:
        """Apply a change of a layer's plane that a tool made. Raises LayerError if the layer cannot be written."""
        check_writable(layer)
        edit = LabelEdit(layer_id(layer), plane, change, created)
        self.widen(layer, int(change.after.max(initial=0)))
        self._apply(layer, edit, max(created, default=0))
        return edit

    def check_replay(self, edits: Iterable[LabelEdit], backwards: bool) -> None:
        """Raise LayerError if an edit could be taken back (or done again), but its layer is not to be written."""
        for edit in edits:
            layer = find_layer(self._viewer, edit.layer)
            if layer is not None and still_there(layer, edit, backwards):
                check_writable(layer)
                values = edit.change.before if backwards else edit.change.after
                _wide_enough(layer, int(values.max(initial=0)))

    def replay(self, edit: LabelEdit, backwards: bool) -> bool:
        """Take an edit back, or do it again; False where the layer or its pixels are no longer what they were."""
        layer = find_layer(self._viewer, edit.layer)
        if layer is None or not still_there(layer, edit, backwards):
            return False
        self._write_change(layer, edit, revert=backwards)
        if backwards:
            self._taken[edit] = take_features(layer, edit.created)
        elif len(table := self._taken.pop(edit, pd.DataFrame())):
            add_features(layer, table)
        self._follow(None)
        return True

    def mask_of(self, label: int, layer: Labels | None, image: Image, shown: Shown) -> Patch:
        """Return the mask of a label on the grid of the image's plane. Raises LayerError if it is not there."""
        if layer is None:
            raise LayerError("There are no labels to refine; accept a mask first.")
        own = matching_plane(image, shown, layer, self._viewer.dims)
        held = plane_view(layer, own) == label
        if label <= 0 or not held.any():
            raise LayerError(f"The shown slice has no label {label}; choose one that is there.")
        rows, cols = np.flatnonzero(held.any(axis=1)), np.flatnonzero(held.any(axis=0))
        box = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
        patch = Patch(held[box], (int(rows[0]), int(cols[0])))
        moved = clipped(move_patch(patch, layer, own, image, shown, self._viewer), shown.shape)
        if not moved.area:
            raise LayerError(f"No pixel of label {label} lies on the image; choose another one to refine.")
        return moved

    def on_layer(self, patch: Patch, image: Image, shown: Any, layer: Labels) -> tuple[Shown, Patch]:
        """Return where a plane of the image lies in `layer`, and the image's mask on its grid."""
        plane = matching_plane(image, shown, layer, self._viewer.dims)
        return plane, move_patch(patch, image, shown, layer, plane, self._viewer)

    def _moved(self, patch: Patch, image: Image, shown: Any, layer: Labels, plane: Shown) -> Patch:
        return move_patch(patch, image, shown, layer, plane, self._viewer)

    def _apply(self, layer: Labels, edit: LabelEdit, highest: int) -> None:
        before = self.next_number(layer) - 1
        self._write_change(layer, edit)
        if edit.created:
            take_features(layer, edit.created)
        self._follow(layer, max(before, highest))

    def _write_change(self, layer: Labels, edit: LabelEdit, revert: bool = False) -> None:
        """Write (or take back) a change of a plane, as one step of the layer's own undo history."""
        change = edit.change
        values = change.before if revert else change.after
        self.widen(layer, int(values.max(initial=0)))
        uniform = len(values) > 0 and bool((values == values[0]).all())
        value = int(values[0]) if uniform else np.asarray(values, dtype=layer.data.dtype)
        if not layer.visible:
            # napari leaves what is hidden as it was sliced last, and takes the dtype from there
            layer.set_view_slice()
        self._writing = True
        try:
            # another plugin may have switched on preserve_labels: data_setitem ignores it, and so must the change
            layer.data_setitem(as_shown(edit.plane).full_index(*change.indices), value)
        finally:
            self._writing = False

    def widen(self, layer: Labels, number: int) -> None:
        """Let a layer hold a number, in a wider dtype where need be. Raises LayerError where it cannot."""
        dtype = _wide_enough(layer, number)
        if dtype != layer.data.dtype:
            layer.data = layer.data.astype(dtype)

    def _follow(self, layer: Labels | None, highest: int = 0) -> None:
        """Remember a layer's highest label until somebody else changes its labels."""
        known = None if self._highest is None else self._highest[0]()
        for name in ("paint", "labels_update", "set_data", "data"):
            if known is not None and known is not layer:
                getattr(known.events, name).disconnect(self._on_changed)
            if layer is not None and known is not layer:
                getattr(layer.events, name).connect(self._on_changed)
        self._highest = None if layer is None else (ref(layer), layer.data, highest)

    def _on_changed(self, _event: Any = None) -> None:
        if not self._writing and self._highest is not None:
            layer = self._highest[0]()
            self._highest = None
            for name in ("paint", "labels_update", "set_data", "data"):
                if layer is not None:
                    getattr(layer.events, name).disconnect(self._on_changed)


def full_plane(image: Image, shown: Shown) -> Shown:
    """Return all of a plane at the image's full resolution."""
    return replace(shown, origin=None).at_full_resolution(spatial_shape(image))


def as_shown(plane: PlaneView | None) -> Shown:
    """Return a slice of the annotation as the plane of a layer's data that it is."""
    assert isinstance(plane, Shown)
    return plane


def check_writable(labels: Labels) -> None:
    """Raise LayerError where masks cannot be written into `labels`."""
    if labels.multiscale or not isinstance(labels.data, np.ndarray):
        raise LayerError(
            f"“{labels.name}” is {'multiscale' if labels.multiscale else 'not held in memory'} and cannot be written; "
            "choose an in-memory Labels layer or let the plugin make one."
        )
    if not labels.data.flags.writeable:
        raise LayerError(f"“{labels.name}” is read-only; duplicate the layer and choose the copy, or a new one.")
    if not labels.editable:
        raise LayerError(f"“{labels.name}” is locked; unlock it, or choose another Labels layer.")


def _wide_enough(labels: Labels, number: int) -> np.dtype[Any]:
    """Return the dtype in which a layer can hold `number`. Raises LayerError if there is none, or it is a file's."""
    try:
        dtype = widened(labels.data.dtype, number)
    except ValueError as error:
        raise LayerError(f"“{labels.name}” has no number left for a new label; choose another layer.") from error
    if dtype != labels.data.dtype and isinstance(labels.data, np.memmap):
        raise LayerError(
            f"“{labels.name}” is a file on disk of {labels.data.dtype}, which cannot hold label {number}; "
            f"save it as {dtype}, or choose another layer."
        )
    return dtype


def plane_view(labels: Labels, shown: Shown) -> NDArray[Any]:
    """Return a plane of an in-memory Labels layer as a writable view (H, W)."""
    view: NDArray[Any] = shown.take(labels.data)
    return view


def still_there(labels: Labels, edit: LabelEdit, revert: bool) -> bool:
    """Whether the pixels of an edit hold what it wrote (to revert it) or what it found (to apply it again)."""
    expected = edit.change.after if revert else edit.change.before
    if not isinstance(labels.data, np.ndarray):
        return False
    try:
        held = labels.data[as_shown(edit.plane).full_index(*edit.change.indices)]
    except IndexError:
        return False
    return bool(np.array_equal(held, expected))


def move_patch(
    patch: Patch, source: Layer, source_shown: Shown, target: Layer, target_shown: Shown, viewer: ViewerModel
) -> Patch:
    """Return a mask of the source's plane on the grid of the target's plane (nearest neighbour)."""
    matrix = plane_affine(target, target_shown, source, source_shown, viewer.dims)
    return transform_patch(patch, matrix, target_shown.shape)


def transform_patch(patch: Patch, matrix: NDArray[np.float64], shape: tuple[int, int]) -> Patch:
    """Return `patch` on another grid.

    Parameters
    ----------
    patch
        Mask on the source grid.
    matrix
        (2, 3), takes (row, col, 1) of the target grid to the source grid.
    shape
        (H, W) of the target grid.
    """
    if patch.mask.size == 0 or np.array_equal(matrix, np.eye(2, 3)):
        return patch
    row_min, col_min, row_max, col_max = patch.box
    corners = np.array([[r, c] for r in (row_min - 1, row_max) for c in (col_min - 1, col_max)], dtype=np.float64)
    inverse = np.linalg.inv(matrix[:, :2])
    target = (corners - matrix[:, 2]) @ inverse.T
    low = np.clip(np.floor(target.min(axis=0)).astype(int), 0, shape)
    high = np.clip(np.ceil(target.max(axis=0)).astype(int) + 1, 0, shape)
    size = tuple(int(extent) for extent in high - low)
    if min(size) == 0:
        return Patch(np.zeros((0, 0), dtype=bool), (0, 0))
    offset = matrix[:, :2] @ low + matrix[:, 2] - np.array([row_min, col_min])
    moved = ndimage.affine_transform(
        patch.mask.astype(np.uint8), matrix[:, :2], offset=offset, output_shape=size, order=0, mode="constant"
    )
    return Patch(moved.astype(bool), (int(low[0]), int(low[1])))


def clipped(patch: Patch, shape: tuple[int, int]) -> Patch:
    """Return the part of a mask that lies inside a plane of `shape` (H, W)."""
    low = np.clip(patch.box[:2], 0, shape)
    high = np.clip(patch.box[2:], low, shape)
    row, col = patch.origin
    inside = patch.mask[low[0] - row : high[0] - row, low[1] - col : high[1] - col]
    return Patch(inside, (int(low[0]), int(low[1])))


def _difference(new: Patch, old: Patch) -> tuple[Patch, Patch]:
    """Return what `new` has more than `old`, and what it lacks."""
    boxes = [patch.box for patch in (new, old) if patch.mask.size]
    low, high = np.min([box[:2] for box in boxes], axis=0), np.max([box[2:] for box in boxes], axis=0)
    origin = (int(low[0]), int(low[1]))
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    ours, theirs = (patch.moved((-origin[0], -origin[1])).full(size) if patch.mask.size else np.zeros(size, bool)
                    for patch in (new, old))  # fmt: skip
    return Patch(ours & ~theirs, origin), Patch(theirs & ~ours, origin)


def _label_under(labels: NDArray[Any], patch: Patch) -> int:
    """Return the label that covers most of a mask, 0 where there is none."""
    inside = clipped(patch, (labels.shape[0], labels.shape[1]))
    held = labels[inside.slices][inside.mask]
    held = held[held != 0]
    if held.size == 0:
        return 0
    numbers, counts = np.unique(held, return_counts=True)
    return int(numbers[np.argmax(counts)])


def write_features(labels: Labels, table: pd.DataFrame) -> None:
    """Write a table with an `index` column, by which napari matches labels, into the layer's features.

    Columns that the user has in `features` already and that the table does not bring stay, for all labels.
    """
    old, table = _alike(known_features(labels), table)
    brought = {plain_name(name) for name in table.columns}
    others = [name for name in old.columns if plain_name(name) not in brought]
    if others:
        told = old[["index", *others]].dropna(subset=others, how="all")
        table = table.merge(told, on="index", how="outer")
    labels.features = table


def _alike(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two tables whose label numbers are of one dtype: pandas joins int64 and uint64 as rounded floats."""
    dtypes = {table["index"].dtype for table in (first, second)}
    if len(dtypes) == 1 or np.dtype(np.uint64) not in dtypes:
        return first, second
    common = np.uint64 if all((table["index"] >= 0).all() for table in (first, second)) else object
    return first.astype({"index": common}), second.astype({"index": common})


def known_features(labels: Labels) -> pd.DataFrame:
    """Return the layer's features with a column `index`, each label once; without one napari counts the rows."""
    old: pd.DataFrame = labels.features
    if "index" not in old.columns:
        return old.assign(index=np.arange(len(old)))
    return old.drop_duplicates("index", keep="last")


def add_features(labels: Labels, table: pd.DataFrame) -> None:
    """Note in the features what is known of new labels (`index` and other columns); what is there of others stays."""
    old, table = _alike(known_features(labels), table)
    if len(old):
        table = pd.concat([old[~old["index"].isin(table["index"])], table], ignore_index=True)
    write_features(labels, table)


def take_features(labels: Labels, numbers: Collection[int]) -> pd.DataFrame:
    """Take what is known of labels out of the features, and return it: the numbers may be given to other objects."""
    old: pd.DataFrame = labels.features
    if "index" not in old.columns:
        return pd.DataFrame(old.iloc[:0])
    theirs = old["index"].isin(numbers)
    if theirs.any():
        labels.features = old[~theirs].reset_index(drop=True)
    return pd.DataFrame(old[theirs])
