"""Depth layers of a session: made by a model or named by the user, and what of them lies on a plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image
from psygnal import Signal

from napari_samdepth.core.depthmap import DepthKind, DepthMap
from napari_samdepth.core.errors import LayerError
from napari_samdepth.core.no_reading import NoReading, checked_no_reading
from napari_samdepth.models.loading import load_depth_estimator
from napari_samdepth.session.choices import Variant, short_name
from napari_samdepth.session.depth_layers import (
    DENSE_PIXELS,
    DepthLayer,
    DepthSource,
    depth_layer_for,
    depth_source,
    fill_depth,
)
from napari_samdepth.session.geometry import Shown, shown_plane
from napari_samdepth.session.jobs import Lane
from napari_samdepth.session.layers import MAX_SIDE, METADATA_KEY, placement, plane_data, read_plane, spatial_shape
from napari_samdepth.session.speed import measured
from napari_samdepth.session.state import SessionState

if TYPE_CHECKING:
    from napari_samdepth.models.protocols import DepthEstimator, Report


class Depths:
    """Makes depth layers, remembers which one readouts use (`changed` is emitted then; `failed` with an error)."""

    changed = Signal()
    failed = Signal(object)

    def __init__(self, viewer: ViewerModel, lane: Lane, state: SessionState) -> None:
        """The session's parts."""
        self._viewer = viewer
        self._lane = lane
        self._state = state
        self._estimators: dict[str, DepthEstimator] = {}
        self.known: list[DepthLayer] = []
        self.active: DepthLayer | None = None
        self._plane: tuple[DepthSource, DepthMap] | None = None
        self._said = ""

    def add(self, image: Image, variant: Variant) -> None:
        """Estimate the depth of the shown plane of `image` on the lane and put it into a depth layer."""
        source, data = read_plane(image, self._viewer), image.data

        def work(report: Report) -> tuple[DepthEstimator, DepthMap]:
            estimator = self._estimators.get(variant.key)
            if estimator is None:
                report(0.0, f"loading {short_name(variant.model)}")
                estimator = load_depth_estimator(variant.model, report=report, precision=variant.precision)
                self._estimators[variant.key] = estimator
            rgb = source.render().rgb
            report(0.1, f"estimating depth on {estimator.device}")
            depth = measured("depth", variant.key, estimator, lambda tell: estimator.estimate(rgb, tell), report)
            return estimator, depth

        def done(result: tuple[DepthEstimator, DepthMap]) -> None:
            estimator, depth = result
            if image not in self._viewer.layers:
                return
            if image.data is not data:
                self._state.say(f"“{image.name}” holds other data now; add their depth anew.", problem=True)
            else:
                self._place(image, source.shown, depth)
                self._said = f"Depth by {estimator.name} on {estimator.device}."
                self._state.say(self._said)

        self._state.task, self._state.progress = "depth", 0.0
        self._lane.submit("depth", work, done, self.failed.emit)

    def use(
        self, layer: Image, kind: DepthKind, unit: str | None = None, no_reading: NoReading | None = "auto"
    ) -> None:
        """Let an Image layer of the user serve as depth; see `AnnotationSession.use_depth`.

        Raises
        ------
        LayerError
            If the layer is a colour image, or there is no such kind or value.
        """
        if kind not in get_args(DepthKind):
            raise LayerError(f"Depth is of kind {', '.join(get_args(DepthKind))}, got {kind!r}; choose one of these.")
        try:
            left_out = checked_no_reading(no_reading)
        except ValueError as error:
            raise LayerError(str(error)) from error
        if layer.rgb:
            raise LayerError(f"“{layer.name}” is a colour image; choose an image with one value per pixel as depth.")
        noted = DepthLayer.noted(layer)
        known = DepthLayer(layer, kind, unit, layer.name, noted.upsampling if noted else 1.0, left_out)
        # whatever was said before is of another depth
        missing = self._missing(known)
        self._said = f"{missing} and are left out; “No reading” in Depth changes that." if missing else ""
        self._state.say(self._said)
        self._activate(known)
        if missing:
            self._state.depth_text = f"{known.text}\n{missing}."

    def close(self) -> None:
        """Let go of all models and layers."""
        self._estimators.clear()
        self.known, self.active, self._plane = [], None, None

    def made(self, layer: Image) -> bool:
        """Whether a model made this depth layer (or what it was copied from): it is no picture to look at."""
        noted = layer.metadata.get(METADATA_KEY)
        return isinstance(noted, dict) and "image" in noted

    def find(self, layer: Image) -> DepthLayer:
        """Return what is known of a depth layer; one that carries our metadata is known (after a reload, too)."""
        for known in self.known:
            if known.layer is layer:
                return known
        noted = DepthLayer.noted(layer)
        if noted is not None:
            return noted
        raise LayerError(f"Say first what “{layer.name}” measures: in Depth, choose its kind and unit.")

    def forget(self, layer: Any) -> None:
        """A layer was removed: stop using it."""
        self.known = [known for known in self.known if known.layer is not layer]
        if self.active is not None and self.active.layer is layer:
            self.active = None
            self._state.depth_layer = self._state.depth_text = ""
            self._state.live = {}
            if self._said and self._state.message == self._said:
                self._state.say("")
            if self.known:
                self._activate(self.known[-1])

    def on_plane(self, image: Image, shown: Shown) -> DepthMap | None:
        """Return the active depth on the grid of an image's plane, None where there is none."""
        if self.active is None:
            return None
        try:
            source = depth_source(self.active, image, shown, self._viewer)
        except LayerError:
            return None
        if self._plane is None or not self._plane[0].same(source):
            self._plane = (source, source.render())
        return self._plane[1]

    def _missing(self, known: DepthLayer) -> str:
        """Return in words how much of a depth layer holds no reading, "" if nothing is missing.

        Of a layer that is large or not in memory it is the shown plane's share.
        """
        data = known.layer.data
        if isinstance(data, np.ndarray) and data.size <= DENSE_PIXELS:
            return known.missing(data)
        try:
            shown = shown_plane(known.layer, self._viewer.dims, MAX_SIDE)
        except LayerError:
            return ""
        return known.missing(plane_data(known.layer, shown))

    def _place(self, image: Image, shown: Shown, depth: DepthMap) -> None:
        """Fill the slice of the layer made for this image before, or make one, above the image and below the masks."""
        for known in self.known:
            made_for = known.layer.metadata.get(METADATA_KEY, {}).get("image")
            fits = not image.multiscale and known.layer.data.shape == spatial_shape(image)
            if made_for == image.unique_id and fits:
                for name, value in placement(image).items():
                    setattr(known.layer, name, value)
                fill_depth(known.layer, shown, depth)
                self._plane = None
                self._activate(DepthLayer.of(known.layer, depth))
                return
        layer = depth_layer_for(image, shown, depth)
        layer.metadata[METADATA_KEY]["image"] = image.unique_id
        selected = self._viewer.layers.selection.active
        position = next(at for at, other in enumerate(self._viewer.layers) if other is image)
        made = DepthLayer.of(layer, depth)
        # known as depth before it is there: panels must not offer it as an image to click on
        self.known.append(made)
        self._viewer.layers.insert(position + 1, layer)
        if selected is not None:
            self._viewer.layers.selection.active = selected
        self._activate(made)

    def _activate(self, known: DepthLayer) -> None:
        self.known = [other for other in self.known if other.layer is not known.layer] + [known]
        self.active = known
        self._state.depth_layer = known.layer.name
        self._state.depth_text = known.text
        self.changed.emit()
