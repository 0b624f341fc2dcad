"""The layers that the user clicks and draws in: points, shapes and the preview; read as values, drawn from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from napari.components import Dims, ViewerModel
from napari.layers import Image, Labels, Layer, Points, Shapes
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray
from psygnal import Signal

from napari_samdepth.annotation.document import DRAWN, DetectionBox, Document, DrawnPrompts, DrawnShape, ShapeKind
from napari_samdepth.core.candidates import Patch
from napari_samdepth.session.geometry import Shown, points_between, unit_factors
from napari_samdepth.session.layers import empty_on, placement, spatial_shape, view_placement

SETTLED = ("added", "removed", "changed")
"""Actions of a data event that come after the change (napari announces an action before it, too)."""

FEATURE = "prompt"
FOREGROUND, BACKGROUND, WAITING = "foreground", "background", "waiting"
COLOURS = {FOREGROUND: "#2ecc71", BACKGROUND: "#e74c3c", WAITING: "#b0b7bd"}
SHAPE_COLOUR = "#f1c40f"

NO_NUMBER = -2
"""In the column `number` of the shapes: a prompt. Others are as in `DetectionBox.number`."""

KINDS: dict[str, ShapeKind] = {
    "rectangle": "box",
    "ellipse": "box",
    "polygon": "lasso",
    "path": "scribble",
    "line": "scribble",
}
"""What a shape of napari's is as a prompt."""
AS_DRAWN: dict[ShapeKind, str] = {"box": "rectangle", "scribble": "path", "lasso": "polygon"}


class PromptLayers:
    """Holds the three layer objects, never their names, and tells when the user changes their content."""

    changed = Signal()

    def __init__(self, viewer: ViewerModel, image: Image, points: Points | None = None) -> None:
        """Prepare layers on the grid of `image`; `points` is a layer of the user's to click in, None makes one."""
        self._viewer = viewer
        self.image = image
        self._quiet = False
        self._background = False
        self._users: UsersPoints | None = None if points is None else UsersPoints(points)
        self.points = _new_points(image, viewer.dims) if points is None else points
        self.shapes = _new_shapes(image, viewer.dims)
        self.preview = _new_preview(image)
        self._preview = PreviewWriter(self.preview)
        self._keys: tuple[str, ...] = ()
        # shapes that are to be drawn when the view is flat again: napari 0.9 stumbles over paths in a view in 3-D
        self._later: DrawnPrompts | None = None

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The preview, the shapes and the points, from bottom to top."""
        return self.preview, self.shapes, self.points

    @property
    def own(self) -> tuple[Layer, ...]:
        """The layers that were made here: all, but for points of the user's."""
        return self.layers[:2] if self._users is not None else self.layers

    @property
    def points_are_users(self) -> bool:
        """Whether the points lie in a layer of the user's."""
        return self._users is not None

    def show(self, keys: dict[str, Callable[[], Any]]) -> None:
        """Add the layers to the viewer, above all others, ready for clicks; `keys` act in these layers only."""
        for layer in self.layers:
            if layer not in self._viewer.layers:
                self._viewer.add_layer(layer)
        self.bind(keys)
        self.points.events.data.connect(self._on_data)
        self.shapes.events.data.connect(self._on_data)
        self.points.mouse_drag_callbacks.insert(0, self._on_press)
        self.focus()

    def bind(self, keys: dict[str, Callable[[], Any]]) -> None:
        """Let more keys act in these layers, until they go."""
        self._keys = tuple(dict.fromkeys((*self._keys, *keys)))
        for layer in self.layers:
            for key, action in keys.items():
                layer.bind_key(key, lambda _layer, act=action: act(), overwrite=True)

    def place(self) -> None:
        """Put our layers where the image is now, in the units that the view has now."""
        for layer in self.own:
            for name, value in view_placement(self.image, self._viewer.dims).items():
                if not _equal(getattr(layer, name), value):
                    setattr(layer, name, value)

    @property
    def in_other_units(self) -> bool:
        """Whether the points lie in a user's layer in other units than the view: napari misplaces clicks there."""
        return self._users is not None and not np.allclose(unit_factors(self.points, self._viewer.dims), 1)

    def focus(self) -> None:
        """Select the points layer in its add mode."""
        if self.points in self._viewer.layers:
            self._viewer.layers.selection.active = self.points
            self.points.mode = "add"

    def close(self) -> None:
        """Let go of the layers: callbacks and keys are released; our layers go away, the user's stays as it was."""
        self.points.events.data.disconnect(self._on_data)
        self.shapes.events.data.disconnect(self._on_data)
        if self._on_press in self.points.mouse_drag_callbacks:
            self.points.mouse_drag_callbacks.remove(self._on_press)
        for layer in self.layers:
            for key in self._keys:
                layer.bind_key(key, None)
            if layer in self._viewer.layers and layer in self.own:
                self._viewer.layers.remove(layer)
        if self._users is not None:
            self._users.give_back()

    def read(self, used: NDArray[np.float64] | None) -> DrawnPrompts:
        """Return what the layers hold, in data pixels of the image; points `used` (k, ndim) count no longer."""
        kinds = np.asarray(self.points.features[FEATURE], dtype=object)
        points = np.array(self.points.data, dtype=np.float64).reshape(-1, self.points.ndim)
        counts = np.isfinite(points).all(axis=1) & np.asarray(self.points.shown, dtype=bool) & (kinds != WAITING)
        points = points_between(points[counts], self.points, self.image, self._viewer.dims)
        labels = (kinds[counts] != BACKGROUND).astype(np.int64)
        if used is not None and len(used):
            free = _unused(points, used)
            points, labels = points[free], labels[free]
        return DrawnPrompts(points, labels, *self._read_shapes())

    def draw(self, before: Document, after: Document) -> None:
        """Let the layers hold what `after` has drawn where that differs from `before`, without telling of a change."""
        told, waiting = after.drawn, _waiting_points(after)
        with self._silence():
            if self._users is not None:
                self._users.draw(_all_points(before), _all_points(after), told, self.image, self._viewer)
            elif not self._holds(told, waiting):
                self._draw_points(told, waiting)
            nothing = DrawnPrompts.nothing(told.ndim)
            flat = self._viewer.dims.ndisplay == 2
            self._later = None if flat else told
            if flat and not replace(nothing, shapes=told.shapes, detections=told.detections).same(
                DrawnPrompts(nothing.points, nothing.labels, *self._read_shapes())
            ):
                self._draw_shapes(told)
            if before.foreground != after.foreground:
                self.set_background(not after.foreground)

    def draw_preview(self, plane: Shown | None, patch: Patch | None) -> None:
        """Show a mask (plane pixels of the full resolution) instead of the one before; None clears."""
        if self.preview in self._viewer.layers:
            self._preview.draw(plane, patch)

    def draw_as(self, name: str | None) -> None:
        """Say what a box drawn from now on is: a prompt, or (with a name) one more that a text prompt found."""
        number = NO_NUMBER if name is None else DRAWN
        label = BACKGROUND if self._background else FOREGROUND
        self.shapes.feature_defaults = _shape_default(name or "", number, label)

    def set_background(self, background: bool) -> None:
        """Say what a plain click means from now on."""
        self._background = background
        self._set_default(background)
        defaults = self.shapes.feature_defaults
        self.draw_as(str(defaults["name"].iloc[0]) if int(defaults["number"].iloc[0]) != NO_NUMBER else None)

    def _holds(self, drawn: DrawnPrompts, waiting: NDArray[np.float64]) -> bool:
        """Whether the points layer holds these points already, as it does after a click."""
        kinds = np.asarray(self.points.features[FEATURE], dtype=object)
        data = np.array(self.points.data, dtype=np.float64).reshape(-1, self.points.ndim)
        rows = points_between(data, self.points, self.image, self._viewer.dims)
        there = kinds == WAITING
        labels = (kinds[~there] != BACKGROUND).astype(np.int64)
        return (
            _same_points(rows[~there], drawn.points)
            and np.array_equal(labels, drawn.labels)
            and _same_points(rows[there], waiting)
        )

    def _read_shapes(self) -> tuple[tuple[DrawnShape, ...], tuple[DetectionBox, ...]]:
        if self._later is not None:
            return self._later.shapes, self._later.detections
        prompts, detections = [], []
        rows = self.shapes.features.itertuples(index=False)
        for vertices, kind, row in zip(self.shapes.data, self.shapes.shape_type, rows, strict=True):
            placed = points_between(np.array(vertices, dtype=np.float64), self.shapes, self.image, self._viewer.dims)
            # shapes that another plugin put there know of no number
            if row.number == NO_NUMBER or np.isnan(row.number):
                label = int(row.prompt != BACKGROUND)
                prompts.append(DrawnShape(KINDS[str(kind)], placed, label if KINDS[str(kind)] == "scribble" else 1))
            else:
                detections.append(DetectionBox(placed, str(row.name), float(row.score), int(row.number)))
        return tuple(prompts), tuple(detections)

    def _draw_points(self, drawn: DrawnPrompts, waiting: NDArray[np.float64]) -> None:
        points = self.points
        points.selected_data = set()
        points.data = self._to_layer(np.concatenate([drawn.points, waiting]), points)
        if len(points.data):
            features = points.features.copy()
            kinds = [FOREGROUND if kind else BACKGROUND for kind in drawn.labels]
            features[FEATURE] = [*kinds, *[WAITING] * len(waiting)]
            points.features = features
            points.refresh_colors()
        self._set_default(self._background)

    def _draw_shapes(self, drawn: DrawnPrompts) -> None:
        layer = self.shapes
        if drawn.detections and not (layer.features["number"] != NO_NUMBER).any():
            layer.mode = "select"  # what a text prompt found is there to be looked through, moved and deleted
        if layer.nshapes:
            layer.selected_data = set(range(layer.nshapes))
            layer.remove_selected()
        shapes = [(shape.vertices, AS_DRAWN[shape.kind]) for shape in drawn.shapes]
        shapes += [(box.corners, "rectangle") for box in drawn.detections]
        if shapes:
            layer.add(
                [self._to_layer(vertices, layer) for vertices, _ in shapes], shape_type=[kind for _, kind in shapes]
            )
            layer.selected_data = set()
        layer.features = _shape_features(drawn)
        if layer.nshapes:
            layer.edge_color = [COLOURS[BACKGROUND] if not shape.label else SHAPE_COLOUR for shape in drawn.shapes] + [
                SHAPE_COLOUR
            ] * len(drawn.detections)
        layer.refresh_text()

    def _to_layer(self, points: NDArray[np.float64], layer: Layer) -> NDArray[np.float64]:
        return points_between(points, self.image, layer, self._viewer.dims)

    def _set_default(self, background: bool) -> None:
        kind = BACKGROUND if background else FOREGROUND
        with self._silence():
            # napari gives the current colour to the selected points, and selects the one clicked last
            self.points.selected_data = set()
            defaults = dict(self.points.feature_defaults.iloc[0]) if len(self.points.feature_defaults) else {}
            self.points.feature_defaults = {**defaults, FEATURE: kind}
            self.points.current_face_color = COLOURS[kind]

    def _on_press(self, _layer: Points, event: Any) -> None:
        """Decide before napari adds the point whether it is foreground or background."""
        if str(self.points.mode) != "add":
            return
        held = {str(getattr(modifier, "name", modifier)).lower() for modifier in event.modifiers}
        # window managers take Alt-click for themselves here and there
        other = bool(held & {"alt", "shift"}) or getattr(event, "button", 1) == 2
        self._set_default(self._background != other)

    def _on_data(self, event: Any) -> None:
        action = str(getattr(event.action, "value", event.action))
        if action == "adding" and event.source is self.points and not self._quiet:
            self._forget_waiting()
        if self._quiet or action not in SETTLED:
            return
        if event.source is self.shapes:
            with self._silence():
                self._settle_shapes()
        self.changed.emit()

    def _forget_waiting(self) -> None:
        """Let a point be what a click is: napari gives new ones the kind of the selected one, which may wait."""
        defaults = self.points.feature_defaults
        if len(defaults) and defaults[FEATURE].iloc[0] == WAITING:
            self._set_default(self._background)

    def _settle_shapes(self) -> None:
        """After the user drew: one box or lasso at a time, a new one replaces the one before; scribbles add up."""
        layer = self.shapes
        # napari 0.9 tells of a shape before it stops drawing it, and stumbles over a polygon if another one goes then;
        # of one too small to be kept it forgets the shape, but not its row of features
        layer._is_creating = False
        if len(layer.features) > layer.nshapes:
            layer.features = layer.features.iloc[: layer.nshapes]
        regions = [
            index
            for index, (kind, number) in enumerate(zip(layer.shape_type, layer.features["number"], strict=True))
            if number == NO_NUMBER and KINDS[str(kind)] != "scribble"
        ]
        if len(regions) > 1:
            layer.selected_data = set(regions[:-1])
            layer.remove_selected()

    @contextmanager
    def _silence(self) -> Iterator[None]:
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before


class UsersPoints:
    """A Points layer of the user's that serves for clicks: its points stay, and get their own colours back."""

    def __init__(self, layer: Points) -> None:
        """Give the layer the feature that tells foreground from background, and its colours."""
        self._layer = layer
        self._mode = str(layer.face_color_mode)
        self._own: dict[bytes, list[Any]] = {}
        for point, colour in zip(layer.data, layer.face_color.copy(), strict=True):
            self._own.setdefault(point.tobytes(), []).append(colour)
        # napari tells nowhere else which feature colours follow
        followed = getattr(getattr(layer, "_face", None), "color_properties", None)
        self._followed = "" if self._mode == "direct" or followed is None else str(followed.name)
        self._cycle, self._limits = layer.face_color_cycle, layer.face_contrast_limits
        self._usual = layer.current_face_color
        features = layer.features.copy()
        if FEATURE not in features.columns:
            features[FEATURE] = np.full(len(layer.data), FOREGROUND, dtype=object)
            layer.features = features
        defaults = dict(layer.feature_defaults.iloc[0]) if len(layer.feature_defaults) else {}
        layer.feature_defaults = {**defaults, FEATURE: FOREGROUND}
        layer.face_color_cycle = COLOURS
        layer.face_color = FEATURE

    def draw(
        self,
        before: NDArray[np.float64],
        after: NDArray[np.float64],
        drawn: DrawnPrompts,
        image: Image,
        viewer: ViewerModel,
    ) -> None:
        """Take away the points that undo takes back, and put back those that redo does again; all others stay."""
        layer = self._layer
        placed = points_between(np.array(layer.data, dtype=np.float64), layer, image, viewer.dims)
        gone = before[_unused(before, after)]
        rows = np.flatnonzero(~_unused(placed, gone))
        if len(rows):
            layer.selected_data = set(rows.tolist())
            layer.remove_selected()
            placed = np.delete(placed, rows, axis=0)
        new = after[_unused(after, before)]
        new = new[_unused(new, placed)]
        for point in new:
            alike = np.flatnonzero((drawn.points == point).all(axis=1))
            background = len(alike) > 0 and not drawn.labels[alike[0]]
            defaults = dict(layer.feature_defaults.iloc[0])
            layer.feature_defaults = {**defaults, FEATURE: BACKGROUND if background else FOREGROUND}
            layer.add(points_between(point[None], image, layer, viewer.dims)[0])
            layer.feature_defaults = defaults
        layer.selected_data = set()

    def give_back(self) -> None:
        """Colour the points as they were, by a feature or each; those that came since as new ones had been."""
        layer = self._layer
        layer.selected_data = set()
        if self._followed in layer.features.columns:
            layer.face_color = self._followed
            layer.face_color_mode = self._mode
            layer.face_color_cycle = self._cycle
            if self._limits is not None:
                layer.face_contrast_limits = self._limits
            return
        layer.face_color_mode = "direct"
        layer.current_face_color = self._usual
        if len(layer.data):
            layer.face_color = self._usual
            left = {place: list(colours) for place, colours in self._own.items()}
            layer.face_color = [
                of.pop(0) if (of := left.get(point.tobytes())) else colour
                for point, colour in zip(layer.data, layer.face_color, strict=True)
            ]


class PreviewWriter:
    """Draws one mask at a time into the preview layer, touching only what changes."""

    def __init__(self, layer: Labels) -> None:
        """Draw into `layer`."""
        self.layer = layer
        self._drawn: tuple[Shown, Patch] | None = None

    def draw(self, shown: Shown | None, patch: Patch | None) -> None:
        """Show `patch` (plane pixels of the full resolution) instead of what was drawn before; None clears."""
        if self._drawn is None and (shown is None or patch is None or not patch.mask.size):
            return
        data = self.layer.data
        if self._drawn is not None:
            shown_before, before = self._drawn
            shown_before.take(data)[before.slices][before.mask] = 0
        self._drawn = None
        if shown is not None and patch is not None and patch.mask.size:
            shown.take(data)[patch.slices][patch.mask] = 1
            self._drawn = (shown, patch)
        self.layer.refresh()


def _new_points(image: Image, dims: Dims) -> Points:
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
        **view_placement(image, dims),
    )


def _new_shapes(image: Image, dims: Dims) -> Shapes:
    layer = Shapes(
        ndim=image.ndim,
        name="SAM shapes",
        face_color="transparent",
        edge_color=SHAPE_COLOUR,
        edge_width=max(max(spatial_shape(image)[-2:]) / 250, 1.0),
        features=_shape_features(DrawnPrompts.nothing(image.ndim)),
        feature_defaults=_shape_default("", NO_NUMBER, FOREGROUND),
        text={"string": "{text}", "color": SHAPE_COLOUR, "size": 9, "anchor": "upper_left"},
        **view_placement(image, dims),
    )
    layer.mode = "add_rectangle"  # whoever selects it wants to drag a box
    return layer


def _new_preview(image: Image) -> Labels:
    """Return the layer that shows the mask being made: uint8, 1 where the mask is, drawn in cyan."""
    colours = DirectLabelColormap(color_dict={None: (0, 0, 0, 0), 0: (0, 0, 0, 0), 1: (0.0, 0.9, 1.0, 1.0)})
    return Labels(empty_on(image, np.uint8), name="SAM preview", colormap=colours, opacity=0.55, **placement(image))


def _shape_features(drawn: DrawnPrompts) -> pd.DataFrame:
    prompts, boxes = drawn.shapes, drawn.detections
    table = {
        "name": np.array([""] * len(prompts) + [box.name for box in boxes], dtype=object),
        "score": np.array([np.nan] * len(prompts) + [box.score for box in boxes], dtype=np.float64),
        "number": np.array([NO_NUMBER] * len(prompts) + [box.number for box in boxes], dtype=np.int64),
        "text": np.array([""] * len(prompts) + [_text(box) for box in boxes], dtype=object),
        FEATURE: np.array(
            [FOREGROUND if shape.label else BACKGROUND for shape in prompts] + [FOREGROUND] * len(boxes), dtype=object
        ),
    }
    return pd.DataFrame(table)


def _shape_default(name: str, number: int, prompt: str) -> dict[str, object]:
    return {"name": name, "score": np.nan, "number": number, "text": name, FEATURE: prompt}


def _text(box: DetectionBox) -> str:
    return box.name if np.isnan(box.score) else f"{box.name} {box.score:.2f}"


def _same_points(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> bool:
    return ours.shape == theirs.shape and np.allclose(ours, theirs, atol=1e-6)


def _waiting_points(document: Document) -> NDArray[np.float64]:
    """Return the points (n, ndim) of the objects that wait for the model."""
    parts = [request.prompts.points for request in document.waiting]
    return np.concatenate(parts) if parts else np.zeros((0, document.drawn.ndim))


def _all_points(document: Document) -> NDArray[np.float64]:
    """Return the points (n, ndim) that a layer of the user's holds: prompts, and those used up."""
    used = document.used
    return document.drawn.points if used is None else np.concatenate([document.drawn.points, used])


def _unused(points: NDArray[np.float64], used: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which points (n,) bool are not among `used`; each of those stands for one point."""
    left = [tuple(point) for point in np.round(used, 6)]
    free = np.ones(len(points), dtype=bool)
    for index, point in enumerate(map(tuple, np.round(points, 6))):
        if point in left:
            left.remove(point)
            free[index] = False
    return free


def _equal(one: Any, other: Any) -> bool:
    """Whether two values of a layer's placement are the same: numbers, matrices, names or units."""
    matrices = [getattr(value, "affine_matrix", value) for value in (one, other)]
    return bool(np.array_equal(*matrices)) if isinstance(matrices[0], np.ndarray) else bool(one == other)
