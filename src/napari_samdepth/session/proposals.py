"""Boxes that words found: several objects at once, beside the one object being made."""

from __future__ import annotations

from dataclasses import replace

from napari.components import ViewerModel

from napari_samdepth.core.errors import LayerError
from napari_samdepth.session.geometry import Shown, shown_plane
from napari_samdepth.session.history import Commit
from napari_samdepth.session.offer import Offer
from napari_samdepth.session.searches import FoundBox, Sought
from napari_samdepth.session.state import SessionState

Placed = tuple[FoundBox, tuple[float, float, float, float]]
"""A box, and where it lies in a plane: (row_min, col_min, row_max, col_max) in plane pixels."""


class Proposals:
    """The boxes in the box layer that masks are to be made of; they are part of each moment of undo."""

    def __init__(self, viewer: ViewerModel, state: SessionState, offer: Offer) -> None:
        """The session's parts."""
        self._viewer = viewer
        self._state = state
        self._offer = offer

    @property
    def everywhere(self) -> tuple[FoundBox, ...]:
        """The boxes in any slice."""
        return self._offer.moment.prompts.found

    @property
    def here(self) -> list[FoundBox]:
        """The boxes in the shown slice."""
        shown = self._shown
        return [] if shown is None else [box for box, _ in self.placed(shown)]

    @property
    def sought(self) -> Sought | None:
        """What words found in the shown slice, None where nothing was looked for."""
        shown = self._shown
        if shown is None:
            return None
        found = self._offer.moment.sought
        return next((search for search in found if search.shown.slice_key == shown.slice_key), None)

    def placed(self, shown: Shown) -> list[Placed]:
        """Return the boxes in a slice of the image, and where they lie in its plane."""
        layers = self._offer.prompts
        if layers is None:
            return []
        placed = [(box, layers.box_in_plane(box.corners, shown)) for box in self.everywhere]
        return [(box, at) for box, at in placed if at is not None]

    def put(
        self,
        boxes: list[FoundBox],
        shown: Shown,
        step: bool,
        sought: Sought | None,
        commit: Commit | None = None,
    ) -> None:
        """Let the box layer hold these boxes in a slice; those of other slices stay.

        Parameters
        ----------
        boxes
            All boxes in the slice.
        shown
            The slice of the image.
        step
            Whether this can be undone by itself.
        sought
            What words found there, None where that is done with.
        commit
            A change of labels that belongs to it.
        """
        moment, layers = self._offer.moment, self._offer.prompts
        if layers is None:
            return
        there = {box for box, _ in self.placed(shown)}
        rest = [box for box in self.everywhere if box not in there]
        searches = [other for other in moment.sought if other.shown.slice_key != shown.slice_key]
        after = replace(
            moment,
            prompts=replace(moment.prompts, found=(*rest, *boxes)),
            sought=(*searches, *([] if sought is None else [sought])),
        )
        self._offer.beside(after, step, commit)
        layers.write(after.prompts)
        self.show()

    def show(self) -> None:
        """Tell the panels what is there in the shown slice, and the box layer what is drawn there from now on."""
        here, sought = self.here, self.sought
        self._state.boxes = len(here)
        self._state.words_found = 0 if sought is None else len(sought.detections)
        if self._offer.prompts is not None:
            self._offer.prompts.draw_as(here[-1].name if here else None)

    @property
    def _shown(self) -> Shown | None:
        layers = self._offer.prompts
        try:
            return None if layers is None else shown_plane(layers.image, self._viewer.dims)
        except LayerError:
            return None
