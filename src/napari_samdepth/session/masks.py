"""The Labels layer that accepted masks go to: chosen by the user or made by the session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from napari.components import ViewerModel
from napari.layers import Image, Labels
from numpy.typing import NDArray

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.errors import LayerError
from napari_samdepth.core.labelling import as_numbers, next_label, replace_label, widened, write_labels, write_mask
from napari_samdepth.session.geometry import Shown, plane_affine, shown_plane
from napari_samdepth.session.history import Commit
from napari_samdepth.session.layers import (
    add_features,
    check_writable,
    clipped,
    move_patch,
    new_masks,
    plane_view,
    spatial_shape,
    still_there,
    take_features,
    write_change,
)
from napari_samdepth.session.state import SessionState

WHOLE_SCAN = 2**28
"""Largest number of pixels (0.1 s) that is looked through for the next free label."""
LEAST_FREE = 0.1
"""Share of a found mask that must belong to no label yet: less is the rim of an object that has its label."""


class MaskLayer:
    """Writes masks as labels, never over other labels, and takes them back."""

    def __init__(self, viewer: ViewerModel, state: SessionState) -> None:
        """`state.next_label` is kept up to date."""
        self._viewer = viewer
        self._state = state
        self._highest = 0
        self._made_for: Image | None = None
        self._taken: WeakKeyDictionary[Commit, pd.DataFrame] = WeakKeyDictionary()
        self.layer: Labels | None = None

    def use(self, layer: Labels) -> None:
        """Let accepted masks go to `layer`. Raises LayerError if it cannot be written."""
        check_writable(layer)
        self.layer = layer
        self._made_for = None
        self._highest = 0
        self.refresh_next()

    def turn_to(self, image: Image) -> None:
        """Another image is annotated, or one of another size: a layer made for the one does not serve the next."""
        layer, made_for = self.layer, self._made_for
        fits = made_for is image and layer is not None and layer.data.shape == spatial_shape(image)
        if made_for is not None and not fits:
            self.layer = self._made_for = None
            self._highest = 0
        self.refresh_next()

    def forget(self, layer: object) -> None:
        """A layer was removed: stop using it."""
        if layer is self.layer:
            self.layer = None
            self._highest = 0
            self.refresh_next()

    def refresh_next(self) -> None:
        """Look up the next free label."""
        if self.layer is not None:
            data = self.layer.data
            if data.size > WHOLE_SCAN:
                data = plane_view(self.layer, shown_plane(self.layer, self._viewer.dims))
            self._highest = max(next_label(data) - 1, self._highest if data is not self.layer.data else 0)
        self._state.next_label = self._highest + 1

    def write(self, patch: Patch, image: Image, shown: Shown, label: int | None) -> Commit | None:
        """Write a mask of the image's plane as a new label, or as `label` (which becomes exactly the mask).

        Returns None where nothing changes. Raises LayerError if the layer cannot be written.
        """
        layer = self._layer_for(image)
        check_writable(layer)
        self.refresh_next()
        number = label or self._state.next_label
        target, moved = self.on_layer(patch, image, shown, layer)
        if label and shown.origin is not None:
            moved = self._with_rest(moved, label, layer, target, image, shown)
        self._widen(layer, number)
        write = replace_label if label else write_mask
        change = write(plane_view(layer, target), moved, number)
        if change is None:
            return None
        write_change(layer, target, change)
        if not label:
            take_features(layer, [number])
        self._highest = max(self._highest, number)
        self._state.next_label = self._highest + 1
        layer.selected_label = number
        return Commit(layer, target, change, () if label else (number,))

    def _with_rest(self, moved: Patch, label: int, layer: Labels, target: Shown, image: Image, shown: Shown) -> Patch:
        """Return a mask together with what of a label lies outside of the window that the mask was made in."""
        pixels = np.argwhere(plane_view(layer, target) == label)
        matrix = plane_affine(layer, target, image, shown, self._viewer.dims)
        at = pixels @ matrix[:, :2].T + matrix[:, 2]
        rest = pixels[((at < -0.5) | (at > np.array(shown.shape) - 0.5)).any(axis=1)]
        if not len(rest):
            return moved
        boxes = np.array([[*rest.min(axis=0), *(rest.max(axis=0) + 1)], *([moved.box] if moved.mask.size else [])])
        low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        both = np.zeros(high - low, dtype=bool)
        if moved.mask.size:
            row, col = moved.box[:2] - low
            both[row : row + moved.mask.shape[0], col : col + moved.mask.shape[1]] = moved.mask
        both[tuple((rest - low).T)] = True
        return Patch(both, (int(low[0]), int(low[1])))

    def write_many(
        self, found: NDArray[np.int32], count: int, image: Image, part: Shown, commit: Callable[[Commit], None]
    ) -> NDArray[np.integer[Any]] | None:
        """Write labels 1 to `count` (H, W) of a `part` of the image's full plane beside those that are there, at once.

        Returns the number that each got (count,), 0 for those of which nearly all belongs to labels that are there;
        None where nothing changes. Raises LayerError if the layer cannot be written, or lies on another grid than the
        image.
        """
        layer = self._layer_for(image)
        check_writable(layer)
        self.refresh_next()
        shown, theirs = shown_plane(layer, self._viewer.dims), shown_plane(image, self._viewer.dims)
        same = np.array_equal(plane_affine(layer, shown, image, theirs, self._viewer.dims), np.eye(2, 3))
        if not same or shown.shape != theirs.shape:
            raise LayerError(f"“{layer.name}” lies on another grid than the image; choose “new: SAM masks” for these.")
        shown = replace(shown, origin=part.origin, shape=part.shape)
        free = np.bincount(found[plane_view(layer, shown) == 0], minlength=count + 1)[1:]
        new = (free > 0) & (free >= LEAST_FREE * np.bincount(found.ravel(), minlength=count + 1)[1:])
        last = self._state.next_label - 1 + int(new.sum())
        self._widen(layer, last)
        given = np.zeros(count, dtype=np.uint64)  # a label may need all 64 bits
        given[new] = np.arange(int(new.sum()), dtype=np.uint64) + np.uint64(self._state.next_label)
        numbers = as_numbers(given)
        numbered = np.concatenate([np.zeros(1, numbers.dtype), numbers]).astype(layer.data.dtype)[found]
        change = write_labels(plane_view(layer, shown), numbered)
        if change is None:
            return None
        write_change(layer, shown, change)
        self._highest, self._state.next_label = last, last + 1
        commit(Commit(layer, shown, change, tuple(numbers[new].tolist())))
        return numbers

    def _widen(self, layer: Labels, number: int) -> None:
        try:
            dtype = widened(layer.data.dtype, number)
        except ValueError as error:
            raise LayerError(f"“{layer.name}” has no number left for a new label; choose another layer.") from error
        if dtype != layer.data.dtype:
            layer.data = layer.data.astype(dtype)

    def replay(self, commit: Commit, backwards: bool) -> bool:
        """Take a change back, or do it again; False where the layer or its pixels are no longer what they were.

        Raises LayerError if the layer cannot be written any longer.
        """
        layer = commit.layer
        if layer not in self._viewer.layers or not still_there(layer, commit.shown, commit.change, backwards):
            return False
        check_writable(layer)
        write_change(layer, commit.shown, commit.change, revert=backwards)
        if backwards:
            self._taken[commit] = take_features(layer, commit.created)
        elif len(table := self._taken.pop(commit, pd.DataFrame())):
            add_features(layer, table)
        self._highest = 0
        self.refresh_next()
        return True

    def mask_of(self, label: int, image: Image, shown: Shown) -> Patch:
        """Return the mask of a label on the grid of the image's plane. Raises LayerError if it is not there."""
        if self.layer is None:
            raise LayerError("There are no labels to refine; accept a mask first.")
        own = shown_plane(self.layer, self._viewer.dims)
        held = plane_view(self.layer, own) == label
        if label <= 0 or not held.any():
            raise LayerError(f"The shown slice has no label {label}; choose one that is there.")
        rows, cols = np.flatnonzero(held.any(axis=1)), np.flatnonzero(held.any(axis=0))
        box = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
        patch = Patch(held[box], (int(rows[0]), int(cols[0])))
        moved = clipped(move_patch(patch, self.layer, own, image, shown, self._viewer), shown.shape)
        if not moved.area:
            raise LayerError(f"No pixel of label {label} lies on the image; choose another one to refine.")
        return moved

    def on_layer(self, patch: Patch, image: Image, shown: Shown, layer: Labels) -> tuple[Shown, Patch]:
        """Return where the shown plane lies in `layer`, and the image's mask on its grid."""
        target = shown_plane(layer, self._viewer.dims)
        return target, move_patch(patch, image, shown, layer, target, self._viewer)

    def _layer_for(self, image: Image) -> Labels:
        if self.layer is None or self.layer not in self._viewer.layers:
            layer = new_masks(image)
            selected = self._viewer.layers.selection.active
            position = next(at for at, other in enumerate(self._viewer.layers) if other is image) + 1
            while position < len(self._viewer.layers) and isinstance(self._viewer.layers[position], Image):
                position += 1
            # known as ours before it is there: the dock shows where masks go as soon as it hears of the layer
            self.layer, self._made_for, self._highest = layer, image, 0
            self._viewer.layers.insert(position, layer)
            if selected is not None:
                self._viewer.layers.selection.active = selected
        return self.layer
