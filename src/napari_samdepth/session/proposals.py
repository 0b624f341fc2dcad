"""Boxes that words found: several objects at once, beside the one object being made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from napari_samdepth.session.encoding import Encoding
from napari_samdepth.session.history import Commit, FoundBox
from napari_samdepth.session.jobs import Lane
from napari_samdepth.session.offer import Offer
from napari_samdepth.session.state import SessionState


class Proposals:
    """The boxes in the box layer that masks are to be made of; they are part of each moment of undo."""

    def __init__(
        self, lane: Lane, state: SessionState, encoding: Encoding, offer: Offer, decode: Callable[[], None]
    ) -> None:
        """The session's parts; `decode` asks for the masks of the present prompts."""
        self._lane = lane
        self._state = state
        self._encoding = encoding
        self._offer = offer
        self._decode = decode

    @property
    def here(self) -> list[tuple[FoundBox, tuple[float, float, float, float]]]:
        """What words found in the encoded slice: each box, and where it lies in the plane's pixels."""
        encoded, layers = self._encoding.current, self._offer.prompts
        if encoded is None or layers is None:
            return []
        placed = [(box, layers.box_in_plane(box.corners, encoded.shown)) for box in self.everywhere]
        return [(box, at) for box, at in placed if at is not None]

    @property
    def everywhere(self) -> tuple[FoundBox, ...]:
        """What words found in any slice."""
        return self._offer.moment.prompts.found

    @property
    def elsewhere(self) -> tuple[FoundBox, ...]:
        """What words found in other slices than the encoded one."""
        here = {box for box, _ in self.here}
        return tuple(box for box in self.everywhere if box not in here)

    def put(self, found: tuple[FoundBox, ...], step: bool, commit: Commit | None = None, write: bool = True) -> None:
        """Let the box layer hold these boxes for masks to be made of.

        Parameters
        ----------
        found
            All of them, in every slice.
        step
            Whether this can be undone by itself.
        commit
            A change of labels that belongs to it.
        write
            Whether the layer is to be written; not after the user changed it.
        """
        moment, layers = self._offer.moment, self._offer.prompts
        if layers is None:
            return
        after = replace(moment, prompts=replace(moment.prompts, found=found))
        pending = self._lane.busy("decode")
        if step:
            self._offer.push(after, commit)
            self._offer.moment = after
        else:
            self._offer.amend(after)
        self._state.boxes = len(found)
        if write:
            layers.write(after.prompts)
        if pending:
            # the answer under way is for the moment before
            self._decode()
