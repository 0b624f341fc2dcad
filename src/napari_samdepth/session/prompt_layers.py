"""The layers that the user clicks in: points, boxes and the preview; their events, their keys, their content."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Layer, Points
from numpy.typing import NDArray

from napari_samdepth.core.candidates import MaskInput
from napari_samdepth.core.errors import LayerError
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.session.box_layer import BoxLayer
from napari_samdepth.session.geometry import Shown, points_to_plane, shown_plane, tilted, unit_factors
from napari_samdepth.session.history import PromptState
from napari_samdepth.session.layers import new_preview, spatial_shape, view_placement
from napari_samdepth.session.lent_points import BACKGROUND, COLOURS, FEATURE, FOREGROUND, LentPoints

SETTLED = ("added", "removed", "changed")
"""Actions of a data event that come after the change (napari announces an action before it, too)."""


class PromptLayers:
    """Holds the three layer objects, never their names, and tells when their content changes."""

    def __init__(
        self,
        viewer: ViewerModel,
        image: Image,
        on_change: Callable[[], None],
        keys: dict[str, Callable[[], Any]],
        points: Points | None = None,
    ) -> None:
        """Prepare layers on the grid of `image`.

        Parameters
        ----------
        viewer
            The viewer.
        image
            The image that is annotated.
        on_change
            Called after the user has changed points or boxes.
        keys
            Key to action; bound to these layers only.
        points
            A layer of the user's to click in; None makes one.
        """
        self._viewer = viewer
        self.image = image
        self._on_change = on_change
        self._keys = keys
        self._quiet = False
        self._background = False
        self._lent: LentPoints | None = None if points is None else LentPoints(points)
        self.points = self._new_points(image) if points is None else points
        self._box_layer = BoxLayer(image, viewer.dims)
        self.boxes = self._box_layer.layer
        self.preview = new_preview(image)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The preview, the boxes and the points, from bottom to top."""
        return self.preview, self.boxes, self.points

    @property
    def own(self) -> tuple[Layer, ...]:
        """The layers that were made here: all, but for points that the user lent."""
        return self.layers[:2] if self._lent is not None else self.layers

    @property
    def nothing(self) -> PromptState:
        """What the layers hold when they are empty."""
        return PromptState.nothing(self.image.ndim)

    def show(self) -> None:
        """Add the layers to the viewer, above all others, and make the points ready for clicks."""
        for layer in self.layers:
            if layer not in self._viewer.layers:
                self._viewer.add_layer(layer)
            for key, action in self._keys.items():
                layer.bind_key(key, lambda _layer, act=action: act(), overwrite=True)
        self.points.events.data.connect(self._on_data)
        self.boxes.events.data.connect(self._on_data)
        self.points.mouse_drag_callbacks.insert(0, self._on_press)
        self.focus()

    def place(self) -> None:
        """Put our layers where the image is now, in the units that the view has now."""
        for layer in self.own:
            for name, value in view_placement(self.image, self._viewer.dims).items():
                if not _equal(getattr(layer, name), value):
                    setattr(layer, name, value)

    def focus(self) -> None:
        """Select the points layer in its add mode."""
        if self.points in self._viewer.layers:
            self._viewer.layers.selection.active = self.points
            self.points.mode = "add"

    def close(self) -> None:
        """Let go of the layers: callbacks and keys are released; our layers go away, one that was lent stays."""
        self.points.events.data.disconnect(self._on_data)
        self.boxes.events.data.disconnect(self._on_data)
        if self._on_press in self.points.mouse_drag_callbacks:
            self.points.mouse_drag_callbacks.remove(self._on_press)
        for layer in self.layers:
            for key in self._keys:
                layer.bind_key(key, None)
            if layer in self._viewer.layers and layer in self.own:
                self._viewer.layers.remove(layer)
        if self._lent is not None:
            self._lent.give_back()

    def set_background(self, background: bool) -> None:
        """Say what a plain click means from now on."""
        self._background = background
        self._set_default(background)

    def read(self) -> PromptState:
        """Return what the layers hold."""
        kinds = np.asarray(self.points.features[FEATURE] == FOREGROUND, dtype=np.int64)
        return PromptState(np.array(self.points.data, dtype=np.float64), kinds, *self._box_layer.read())

    def write(self, state: PromptState) -> None:
        """Make the layers hold `state`, without telling of a change."""
        with self._silence():
            self.points.selected_data = set()
            self.points.data = state.points
            if len(state.points):
                features = self.points.features.copy()
                features[FEATURE] = [FOREGROUND if kind else BACKGROUND for kind in state.labels]
                self.points.features = features
                self.points.refresh_colors()
            self._box_layer.write(state.boxes, state.found)
            self._set_default(self._background)

    def draw_as(self, name: str | None) -> None:
        """Say what a box drawn from now on is: a prompt, or (with a name) one more of those that words found."""
        self._box_layer.draw_as(name)

    def cleared(self, shown: Shown) -> PromptState:
        """Return the layers' content without what lies in the shown slice."""
        state = self.read()
        _, inside = self._in_plane(state.points, self.points, shown)
        boxes = tuple(box for box in state.boxes if self.box_in_plane(box, shown) is None)
        return PromptState(state.points[~inside], state.labels[~inside], boxes, state.found)

    def prompts(self, state: PromptState, shown: Shown, feed: MaskInput | None) -> Prompts | None:
        """Return what `state` asks for in the shown slice of the image, None if nothing."""
        points, inside = self._in_plane(state.points, self.points, shown)
        box = None
        for corners in state.boxes:
            box = self.box_in_plane(corners, shown) or box
        if not inside.any() and box is None and feed is None:
            return None
        return Prompts(points[inside], state.labels[inside], box, feed)

    def anchors(self, state: PromptState) -> NDArray[np.float64]:
        """Return where the clicks and the box of the shown slice lie, as data points (n, ndim) of the image."""
        full = shown_plane(self.image, self._viewer.dims)
        points, inside = self._in_plane(state.points, self.points, full)
        boxes = [at for box in state.boxes if (at := self.box_in_plane(box, full)) is not None]
        corners = np.array([corner for at in boxes for corner in (at[:2], at[2:])]).reshape(-1, 2)
        return full.to_data(np.concatenate([points[inside], corners]))

    def missed(self, new: PromptState, before: PromptState) -> str:
        """Return one sentence where what came with `new` lies in another slice of a tilted image, "" otherwise."""
        try:
            shown = shown_plane(self.image, self._viewer.dims)
        except LayerError:
            return ""
        points = new.points[len(before.points) :]
        boxes = [box for box in new.boxes if not any(np.array_equal(box, other) for other in before.boxes)]
        _, inside = self._in_plane(points, self.points, shown)
        lent = self.points if self._lent is not None else None
        if lent is not None and len(points) and not np.allclose(unit_factors(lent, self._viewer.dims), 1):
            return (
                f"“{lent.name}” is in other units than the view, and napari puts clicks in such a layer elsewhere; "
                "give it the units of the view, or press Start without it."
            )
        there = inside.all() and all(self.box_in_plane(box, shown) is not None for box in boxes)
        if there or not tilted(self.image, self._viewer.dims):
            return ""
        return (
            f"“{self.image.name}” is tilted, and this {'box' if boxes else 'click'} lies in another slice than the one "
            "shown; take the layer's rotation or shear away to click anywhere."
        )

    def box_in_plane(self, corners: NDArray[np.float64], shown: Shown) -> tuple[float, float, float, float] | None:
        """Return a box of the box layer as (row_min, col_min, row_max, col_max) in plane pixels of the image.

        None where it lies in another slice, or has no width or height.
        """
        mapped, within = self._in_plane(corners, self.boxes, shown)
        low, high = mapped.min(axis=0), mapped.max(axis=0)
        if not within.all() or not (high > low).all():
            return None
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def _in_plane(
        self, points: NDArray[np.float64], layer: Layer, shown: Shown
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return points_to_plane(points, layer, self.image, shown, self._viewer.dims)

    def _new_points(self, image: Image) -> Points:
        size = max(spatial_shape(image)[-2:]) / 60
        return Points(
            ndim=image.ndim,
            name="SAM prompts",
            size=max(size, 2.0),
            canvas_size_limits=(9, 14),
            features={FEATURE: np.array([], dtype=object)},
            feature_defaults={FEATURE: FOREGROUND},
            face_color=FEATURE,
            face_color_cycle=COLOURS,
            border_color="white",
            border_width=0.12,
            **view_placement(image, self._viewer.dims),
        )

    def _set_default(self, background: bool) -> None:
        kind = BACKGROUND if background else FOREGROUND
        with self._silence():
            # napari gives the current colour to the selected points, and selects the one clicked last
            self.points.selected_data = set()
            self.points.feature_defaults = {FEATURE: kind}
            self.points.current_face_color = COLOURS[kind]

    def _on_press(self, _layer: Points, event: Any) -> None:
        """Decide before napari adds the point whether it is foreground or background."""
        if str(self.points.mode) != "add":
            return
        alt = any(str(getattr(modifier, "name", modifier)).lower() == "alt" for modifier in event.modifiers)
        self._set_default(self._background != alt)

    def _on_data(self, event: Any) -> None:
        if self._quiet or str(getattr(event.action, "value", event.action)) not in SETTLED:
            return
        if event.source is self.boxes:
            with self._silence():
                self._box_layer.settle()
        self._on_change()

    @contextmanager
    def _silence(self) -> Iterator[None]:
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before


def _equal(one: Any, other: Any) -> bool:
    """Whether two values of a layer's placement are the same: numbers, matrices, names or units."""
    matrices = [getattr(value, "affine_matrix", value) for value in (one, other)]
    return bool(np.array_equal(*matrices)) if isinstance(matrices[0], np.ndarray) else bool(one == other)
