"""Back and forth in the history: layers, the mask on offer and what searches found become those of another moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from napari.components import ViewerModel

from napari_samdepth.core.errors import LayerError
from napari_samdepth.session.geometry import show_plane
from napari_samdepth.session.history import Commit, Moment, Step
from napari_samdepth.session.jobs import Lane
from napari_samdepth.session.masks import MaskLayer
from napari_samdepth.session.offer import Offer
from napari_samdepth.session.proposals import Proposals
from napari_samdepth.session.state import SessionState


class Travel:
    """Takes steps back and does them again.

    Attributes
    ----------
    searches
        Called when what searches found may be another; they show it.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        lane: Lane,
        state: SessionState,
        offer: Offer,
        masks: MaskLayer,
        proposals: Proposals,
        decode: Callable[[], None],
    ) -> None:
        """The session's parts; `decode` asks for the masks of the present prompts."""
        self._viewer = viewer
        self._lane = lane
        self._state = state
        self._offer = offer
        self._masks = masks
        self._proposals = proposals
        self._decode = decode
        self.searches: Callable[[], None] = lambda: None

    def undo(self) -> None:
        """Take back the last click, choice, clear, accepted label, or change of what searches found."""
        self._go(self._offer.history.undo(), backwards=True)

    def redo(self) -> None:
        """Do again what was undone last."""
        self._go(self._offer.history.redo(), backwards=False)

    def show(self, moment: Moment) -> None:
        """Make the layers, the mask on offer and what searches found those of `moment`."""
        offer = self._offer
        offer.moment = moment
        if (layers := offer.prompts) is not None:
            nothing = layers.nothing
            fits = moment.prompts.points.shape[1] == nothing.points.shape[1]
            layers.write(moment.prompts if fits else nothing)
        self.show_searches()
        moment = offer.moment
        if moment.candidates is not None and moment.slice_key == offer.slice_key:
            offer.show(moment)
            return
        offer.show(replace(moment, candidates=None) if moment.candidates is not None else moment)
        if moment.editing or not moment.prompts.empty:
            self._decode()

    def show_searches(self) -> None:
        """Show what searches found, as the present moment holds it."""
        self._proposals.show()
        self.searches()

    def _go(self, step: Step | None, backwards: bool) -> None:
        if step is None:
            return
        self._offer.accept_when_decoded = False
        self._lane.cancel("decode")
        if step.place is not None and step.place.layer in self._viewer.layers:
            show_plane(step.place.layer, step.place.shown, self._viewer)
        self._state.say("")
        if step.commit is not None:
            self._replay(step.commit, backwards)
        self.show(step.before if backwards else step.after)

    def _replay(self, commit: Commit, backwards: bool) -> None:
        try:
            done = self._masks.replay(commit, backwards)
        except LayerError as error:
            self._state.say(str(error), problem=True)
            return
        if not done:
            self._state.say("That label was changed or removed since, so its pixels stay as they are.", problem=True)
