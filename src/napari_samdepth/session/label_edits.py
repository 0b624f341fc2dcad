"""Tools on labels that are there, each a step of undo: delete, merge, split, fill, keep the largest piece, smooth."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Labels

from napari_samdepth.annotation.transitions import EditLabels
from napari_samdepth.core.errors import LayerError
from napari_samdepth.core.label_tools import (
    delete_labels,
    fill_holes,
    keep_largest,
    merge_labels,
    smooth_label,
    split_label,
)
from napari_samdepth.core.labelling import IntArray, LabelPatch
from napari_samdepth.session.annotator import Annotator
from napari_samdepth.session.geometry import Shown, from_world, shown_plane
from napari_samdepth.session.labels import check_writable, plane_view

CLICK_DISTANCE = 5.0
"""Canvas pixels within which a press and release are a click, as in napari."""

Tool = Callable[[IntArray], LabelPatch | None]


class LabelEdits:
    """Changes labels of the layer that accepted masks go to, or of another one; each change is one step of undo."""

    def __init__(self, viewer: ViewerModel, annotator: Annotator) -> None:
        """Edit labels in `viewer`; `annotator` keeps the steps."""
        self._viewer = viewer
        self._annotator = annotator
        self._splitting: tuple[Labels, int, list[Any]] | None = None

    @property
    def splitting(self) -> int:
        """The label that the next two clicks split, 0 for none."""
        return 0 if self._splitting is None else self._splitting[1]

    def layer(self, labels: Labels | None) -> Labels:
        """Return a layer to edit; None takes the one that masks go to. Raises LayerError if there is none."""
        layer = labels if labels is not None else self._annotator.layer
        if layer is None:
            raise LayerError("There are no labels yet; accept a mask first, or choose a Labels layer.")
        check_writable(layer)
        return layer

    def under_cursor(self, labels: Labels | None = None) -> int:
        """Return the label under the mouse in the shown slice, 0 for none."""
        layer = labels if labels is not None else self._annotator.layer
        return 0 if layer is None else self._at(layer, self._viewer.cursor.position)

    def delete(self, numbers: Collection[int], labels: Labels | None = None) -> None:
        """Make labels background, in all slices."""
        layer = self.layer(labels)
        self._everywhere(layer, numbers, lambda plane: delete_labels(plane, numbers))

    def merge(self, numbers: Collection[int], into: int, labels: Labels | None = None) -> None:
        """Give the pixels of labels the number `into`, in all slices."""
        layer = self.layer(labels)
        self._need(layer, [into])
        if not set(numbers) - {into}:
            raise LayerError(f"Choose another label to be merged into label {into}.")
        self._everywhere(layer, set(numbers) - {into}, lambda plane: merge_labels(plane, numbers, into))

    def split(
        self, label: int, first: tuple[float, float], second: tuple[float, float], labels: Labels | None = None
    ) -> int:
        """Split a label of the shown slice between two points, (row, col) in the plane; return the new number."""
        layer = self.layer(labels)
        number = self._annotator.labels.next_number(layer)
        self._annotator.labels.widen(layer, number)
        self._here(layer, label, lambda plane: split_label(plane, label, first, second, number), (number,))
        return number

    def fill_holes(self, label: int, labels: Labels | None = None) -> None:
        """Fill the background that a label encloses in the shown slice."""
        self._here(self.layer(labels), label, lambda plane: fill_holes(plane, label))

    def keep_largest(self, label: int, labels: Labels | None = None) -> None:
        """Keep the largest piece of a label in the shown slice."""
        self._here(self.layer(labels), label, lambda plane: keep_largest(plane, label))

    def smooth(self, label: int, labels: Labels | None = None) -> None:
        """Smooth a label's outline in the shown slice."""
        self._here(self.layer(labels), label, lambda plane: smooth_label(plane, label))

    def begin_split(self, label: int, labels: Labels | None = None) -> None:
        """Let the next two clicks on the canvas split a label of the shown slice; they are no prompts."""
        layer = self.layer(labels)
        self._need(layer, [label])
        self.end_split()
        self._splitting = (layer, label, [])
        prompts = self._annotator.prompts
        if prompts is not None:
            prompts.focus()
            # a click adds a point only in its add mode
            prompts.points.mode = "pan_zoom"
        self._viewer.mouse_drag_callbacks.append(self._on_press)
        self._annotator.say(f"Click in each of the two parts of label {label}; Escape leaves it whole.")

    def end_split(self) -> None:
        """Let clicks be prompts again."""
        if self._splitting is None:
            return
        self._splitting = None
        if self._on_press in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_press)
        prompts = self._annotator.prompts
        if prompts is not None and str(prompts.points.mode) == "pan_zoom":
            prompts.focus()
        self._annotator.say("")

    def _on_press(self, _viewer: ViewerModel, event: Any) -> Iterator[None]:
        start = np.array(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if self._splitting is None or np.linalg.norm(np.array(event.pos) - start) > CLICK_DISTANCE:
            return
        layer, label, clicks = self._splitting
        if self._at(layer, event.position) != label:
            self._annotator.say(f"That is not label {label}; click in each of its two parts.", problem=True)
            return
        clicks.append(self._plane_point(layer, event.position))
        if len(clicks) < 2:
            self._annotator.say(f"Now click in the other part of label {label}.")
            return
        self.end_split()
        try:
            self.split(label, clicks[0], clicks[1], layer)
        except LayerError as error:
            self._annotator.say(str(error), problem=True)

    def _plane_point(self, layer: Labels, position: Any) -> tuple[float, float]:
        world = np.asarray(position, dtype=np.float64)[None]
        row, col = shown_plane(layer, self._viewer.dims).from_data(from_world(layer, world, self._viewer.dims))[0]
        return float(row), float(col)

    def _at(self, layer: Labels, position: Any) -> int:
        try:
            plane = plane_view(layer, shown_plane(layer, self._viewer.dims))
        except (LayerError, AttributeError):
            return 0
        if len(position) != self._viewer.dims.ndim:
            return 0
        row, col = (int(np.floor(at + 0.5)) for at in self._plane_point(layer, position))
        inside = 0 <= row < plane.shape[0] and 0 <= col < plane.shape[1]
        return int(plane[row, col]) if inside else 0

    def _need(self, layer: Labels, numbers: Collection[int]) -> None:
        for number in numbers:
            if number <= 0 or not (layer.data == number).any():
                raise LayerError(f"“{layer.name}” has no label {number}; choose one that is there.")

    def _here(self, layer: Labels, label: int, tool: Tool, created: tuple[int, ...] = ()) -> None:
        """Change the shown slice by a tool, as one step."""
        shown = shown_plane(layer, self._viewer.dims)
        if label <= 0 or not (plane_view(layer, shown) == label).any():
            raise LayerError(f"The shown slice has no label {label}; choose one that is there.")
        self._change(layer, [shown], tool, created)

    def _everywhere(self, layer: Labels, numbers: Collection[int], tool: Tool) -> None:
        """Change all slices that hold one of some labels, as one step."""
        self._need(layer, numbers)
        shown = shown_plane(layer, self._viewer.dims)
        axes = (shown.rows_axis, shown.cols_axis)
        held = np.isin(layer.data, list(numbers)).any(axis=axes)
        others = [axis for axis in range(layer.ndim) if axis not in axes]
        planes = []
        for at in np.argwhere(held):
            point = [0] * layer.ndim
            for axis, position in zip(others, at, strict=True):
                point[axis] = int(position)
            planes.append(replace(shown, point=tuple(point)))
        # undo goes to the step's last slice: that is the shown one where it is among them
        planes.sort(key=lambda plane: plane.slice_key == shown.slice_key)
        self._change(layer, planes, tool)

    def _change(self, layer: Labels, planes: Collection[Shown], tool: Tool, created: tuple[int, ...] = ()) -> None:
        changes = []
        for plane in planes:
            try:
                changes.append((plane, tool(plane_view(layer, plane))))
            except ValueError as error:
                raise LayerError(str(error)) from error
        edits = [
            self._annotator.labels.change(layer, plane, change, created)
            for plane, change in changes
            if change is not None
        ]
        if edits:
            self._annotator.dispatch(EditLabels(), tuple(edits))
            self._annotator.say("")
        else:
            self._annotator.say("There is nothing to change.")
