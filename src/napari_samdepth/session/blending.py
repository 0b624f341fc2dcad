"""All visible images as napari's canvas blends them, for models that are to see what the user sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image
from napari.utils.theme import get_theme
from numpy.typing import NDArray
from psygnal import Signal
from scipy import ndimage

from napari_samdepth.core.errors import LayerError
from napari_samdepth.core.plane import Plane
from napari_samdepth.session.geometry import plane_affine
from napari_samdepth.session.layers import METADATA_KEY, PlaneSource, read_view

SHOWN = ("visible", "opacity", "blending", "colormap", "interpolation2d")
"""Events of a layer, beside those of its values and its place, that change how it is blended."""
CHANGES = (*SHOWN, "data", "contrast_limits", "gamma", "projection_mode", "scale", "translate", "rotate", "shear")


@dataclass(frozen=True, eq=False)
class Part:
    """One image to be blended: its plane, how the target's plane maps onto it ((2, 3), row and col), and its look."""

    source: PlaneSource
    matrix: NDArray[np.float64]
    colormap: Any
    opacity: float
    blending: str
    smooth: bool

    def render(self, shape: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return colours from 0 to 1 with opacity (H, W, 4) on the target's grid, and where the image is."""
        values = self.source.read().astype(np.float32)
        planes = [values] if values.ndim == 2 else list(np.moveaxis(values, -1, 0))
        inside = np.ones(shape, dtype=bool)
        if planes[0].shape != shape or not np.array_equal(self.matrix, np.eye(2, 3)):
            inside = self._moved(np.ones(planes[0].shape, dtype=np.float32), shape, order=0) > 0
            planes = [self._moved(plane, shape, order=int(self.smooth)) for plane in planes]
        (low, high), gamma = self.source.limits, self.source.gamma
        shown = [np.clip((plane - low) / (high - low), 0, 1) ** gamma for plane in planes]
        if len(shown) == 1:
            colours = np.asarray(self.colormap.map(shown[0].ravel()), dtype=np.float32).reshape(*shape, 4)
        else:
            alpha: NDArray[Any] = np.ones(shape, dtype=np.float32)
            if len(planes) == 4:
                alpha = planes[3] / (255 if self.source.dtype.kind in "ui" else 1)
            colours = np.stack([*shown[:3], np.clip(alpha, 0, 1)], axis=-1)
        colours = np.nan_to_num(colours)
        colours[..., 3] *= self.opacity
        return colours, inside

    def _moved(self, plane: NDArray[np.float32], shape: tuple[int, int], order: int) -> NDArray[np.float32]:
        moved: NDArray[np.float32] = ndimage.affine_transform(
            plane,
            self.matrix[:, :2],
            offset=self.matrix[:, 2],
            output_shape=shape,
            order=order,
            mode="grid-constant" if order == 0 else "nearest",
        )
        return moved


@dataclass(frozen=True, eq=False)
class BlendedSource(PlaneSource):
    """A plane of one image with all that is blended there, not yet computed.

    Attributes
    ----------
    parts
        The visible images from bottom to top.
    background
        (3,) colour of the canvas from 0 to 1.
    """

    parts: tuple[Part, ...] = ()
    background: tuple[float, ...] = (0.0, 0.0, 0.0)

    def render(self) -> Plane:
        """Blend the images by napari's rules for the first one and for those above it. Any thread."""
        canvas = np.broadcast_to(np.asarray(self.background, dtype=np.float32), (*self.shown.shape, 3)).copy()
        for number, part in enumerate(self.parts):
            colours, inside = part.render(self.shown.shape)
            above = _blended(part.blending, colours[..., :3], colours[..., 3:], canvas, first=number == 0)
            canvas = np.where(inside[..., None], np.clip(above, 0, 1), canvas)
        return Plane(np.rint(canvas * 255).astype(np.uint8))


def _blended(
    mode: str, colour: NDArray[np.float32], alpha: NDArray[np.float32], below: NDArray[np.float32], first: bool
) -> NDArray[np.float32]:
    """Return one layer over what is below it. Rules of OpenGL as napari 0.9 sets them (napari._vispy.layers.base)."""
    if first and mode in ("minimum", "additive"):
        return colour if mode == "minimum" else colour * alpha
    if mode == "additive":
        return colour * alpha + below
    if not first and mode in ("opaque", "minimum", "multiplicative"):
        return {"opaque": colour, "minimum": np.minimum(colour, below), "multiplicative": colour * below}[mode]
    return colour * alpha + below * (1 - alpha)


def read_blended(image: Image, viewer: ViewerModel, points: NDArray[np.float64] | None = None) -> BlendedSource:
    """Return the plane of `image` that `read_view` gives, with all visible images as the canvas blends them.

    Depth that a model made is left out: it is no picture to look at. Raises LayerError as `read_view` does.
    """
    own = read_view(image, viewer, points)
    parts = []
    for layer in viewer.layers:
        if not isinstance(layer, Image) or not layer.visible or METADATA_KEY in layer.metadata:
            continue
        try:
            source = own if layer is image else read_view(layer, viewer)
        except LayerError:
            continue
        matrix = plane_affine(image, own.shown, layer, source.shown, viewer.dims)
        smooth = str(layer.interpolation2d) != "nearest"
        parts.append(Part(source, matrix, layer.colormap, float(layer.opacity), str(layer.blending), smooth))
    background = viewer.canvas.background_color_override
    if background is None:
        background = np.array(get_theme(viewer.theme).canvas.as_rgb_tuple()[:3]) / 255
    colour = tuple(float(channel) for channel in background[:3])
    return BlendedSource(own.shown, own.data, own.rgb, own.limits, own.gamma, own.projection, tuple(parts), colour)


class BlendWatcher:
    """Tells when the visible images are blended otherwise than before."""

    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        """Begin with no image followed."""
        self._viewer = viewer
        self._layers: list[Image] = []
        self._image: Image | None = None

    def follow(self, image: Image | None) -> None:
        """Listen to the images around `image` (and to how itself is blended) from now on; None for none."""
        events = self._viewer.layers.events
        if self._image is None and image is not None:
            for name in ("inserted", "removed", "reordered"):
                getattr(events, name).connect(self._on_layers)
        elif self._image is not None and image is None:
            for name in ("inserted", "removed", "reordered"):
                getattr(events, name).disconnect(self._on_layers)
        self._image = image
        self._connect()

    def _connect(self) -> None:
        for layer in self._layers:
            for name in CHANGES:
                getattr(layer.events, name).disconnect(self._on_change)
        images = [layer for layer in self._viewer.layers if isinstance(layer, Image)] if self._image else []
        self._layers = [layer for layer in images if METADATA_KEY not in layer.metadata]
        for layer in self._layers:
            for name in CHANGES:
                getattr(layer.events, name).connect(self._on_change)

    def _on_change(self, event: Any) -> None:
        # others hear of the annotated image's own values
        if event.source is not self._image or event.type in SHOWN:
            self.changed.emit()

    def _on_layers(self, event: Any) -> None:
        before = len(self._layers)
        self._connect()
        if event.type == "reordered" or len(self._layers) != before:
            self.changed.emit()
