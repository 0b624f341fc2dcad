"""What happens to the annotated image in the viewer: another slice is shown, it looks different, it was moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.components import ViewerModel
from napari.layers import Image

from napari_samdepth.core.errors import LayerError
from napari_samdepth.session.encoding import Encoding
from napari_samdepth.session.geometry import shown_plane
from napari_samdepth.session.layers import spatial_shape
from napari_samdepth.session.offer import Offer
from napari_samdepth.session.state import SessionState

DIMS = ("current_step", "order", "ndisplay")
LOOK = ("data", "contrast_limits", "gamma", "projection_mode")
THICKNESS = ("margin_left", "margin_right")
PATIENCE = 0.3
"""Seconds without a change after which a look counts as chosen: sliders give many on their way."""
PLACE = ("scale", "translate", "rotate", "shear", "affine", "units")


class Watcher:
    """Listens to the viewer's dims and to the annotated image, and lets go of what is void then."""

    def __init__(
        self,
        viewer: ViewerModel,
        state: SessionState,
        encoding: Encoding,
        offer: Offer,
        encode: Callable[[float], None],
        turned: Callable[[], None],
        finish: Callable[[], None],
    ) -> None:
        """The session's parts, and three things to do.

        Parameters
        ----------
        viewer, state, encoding, offer
            The session's parts.
        encode
            Encodes the shown slice when that many seconds have passed without another request.
        turned
            Shows what is known of the slice that is shown now.
        finish
            Ends the annotation.
        """
        self._viewer = viewer
        self._state = state
        self._encoding = encoding
        self._offer = offer
        self._encode = encode
        self._turned = turned
        self._finish = finish
        self._image: Image | None = None
        for name in DIMS:
            getattr(viewer.dims.events, name).connect(self._on_view_changed)
        for name in THICKNESS:
            getattr(viewer.dims.events, name).connect(self._on_thickness_changed)
        viewer.dims.events.units.connect(self._on_place_changed)

    def follow(self, image: Image | None) -> None:
        """Listen to `image` from now on and to no other; None for no image at all."""
        for names, react in ((LOOK, self._on_look_changed), (PLACE, self._on_place_changed)):
            for name in names:
                if self._image is not None:
                    getattr(self._image.events, name).disconnect(react)
                if image is not None:
                    getattr(image.events, name).connect(react)
        self._image = image

    def close(self) -> None:
        """Stop listening for good."""
        self.follow(None)
        for name in DIMS:
            getattr(self._viewer.dims.events, name).disconnect(self._on_view_changed)
        for name in THICKNESS:
            getattr(self._viewer.dims.events, name).disconnect(self._on_thickness_changed)
        self._viewer.dims.events.units.disconnect(self._on_place_changed)

    def _on_view_changed(self, _event: Any = None) -> None:
        """Another slice may be shown: answers for the old one are void, its prompts stay in their slice."""
        if self._image is None:
            return
        try:
            key = shown_plane(self._image, self._viewer.dims).slice_key
        except LayerError as error:
            self._forget_plane(editing=0)
            self._turned()
            self._state.say(str(error))
            return
        if key == self._encoding.slice_key:
            return
        self._forget_plane(editing=0)
        self._turned()
        if self._encoding.instant:
            self._encode(0.0)
        else:
            self._state.say("Another slice is shown; it is encoded at the first click.")

    def _on_look_changed(self, event: Any) -> None:
        """What was encoded is void; where a mask is on offer, or about to be, it is made anew for the new look."""
        image, prompts = self._image, self._offer.prompts
        if image is not None and prompts is not None and prompts.preview.data.shape != spatial_shape(image):
            self._finish()
            self._state.say(f"“{image.name}” holds data of another size now; press Start to click on them.")
            return
        ended = self._encoding.end_searches() if event.type == "data" else ""
        awaited = self._offer.awaited or self._encoding.under_way
        self._forget_plane(self._offer.moment.editing)
        if awaited:
            self._encode(PATIENCE)
        if ended:
            self._state.say(f"“{image.name}” holds other data now. {ended}" if image is not None else ended)
        elif not awaited:
            self._state.say("The image looks different now; it is encoded anew at the next click.")

    def on_blend_changed(self, _event: Any = None) -> None:
        """The images that are seen together with the annotated one are blended otherwise now."""
        awaited = self._offer.awaited or self._encoding.under_way
        self._forget_plane(self._offer.moment.editing)
        if awaited:
            self._encode(PATIENCE)
        else:
            self._state.say("The image looks different now; it is encoded anew at the next click.")

    def _on_thickness_changed(self, event: Any) -> None:
        """A thicker or thinner slice of a stack is another picture, where it is projected."""
        image = self._image
        if image is not None and image.ndim > 2 and str(image.projection_mode) != "none":
            self._on_look_changed(event)

    def _on_place_changed(self, _event: Any = None) -> None:
        """The image was moved, or the view has other units: our own helper layers follow."""
        if self._offer.prompts is not None and self._image is not None:
            self._offer.prompts.place()

    def _forget_plane(self, editing: int) -> None:
        """What was encoded and decoded is void; the label `editing` goes on being refined."""
        self._encoding.drop()
        self._state.phase = "idle"
        self._offer.void(editing)
