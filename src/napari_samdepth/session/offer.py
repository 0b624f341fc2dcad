"""The object being made: the masks on offer for the present prompts, decoded on the lane and drawn into the preview."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from napari.components import ViewerModel

from napari_samdepth.core.candidates import Candidates, Patch
from napari_samdepth.core.errors import LayerError
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.measure.readout import mask_readout
from napari_samdepth.session.depths import Depths
from napari_samdepth.session.encoding import Encoded, Encoding
from napari_samdepth.session.geometry import shown_plane
from napari_samdepth.session.history import Commit, History, Moment, Place, PromptState, Step
from napari_samdepth.session.jobs import Lane
from napari_samdepth.session.layers import PreviewWriter
from napari_samdepth.session.masks import MaskLayer
from napari_samdepth.session.prompt_layers import PromptLayers
from napari_samdepth.session.state import SessionState

EMPTY = PromptState.nothing(ndim=2)

Answer = tuple[Candidates, Patch, dict[str, float]]
"""What a decode brings: the masks, the best one at image resolution, its readout."""


class Offer:
    """The present moment of the object being made, and the steps that led there.

    Attributes
    ----------
    prompts
        The prompt layers, None before the first start.
    history
        What can be undone and redone.
    moment
        The object being made.
    accept_when_decoded
        Whether the user accepted the mask before it was there.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        lane: Lane,
        state: SessionState,
        depths: Depths,
        masks: MaskLayer,
        encoding: Encoding,
    ) -> None:
        """The session's parts; `state` is where everything visible goes."""
        self._viewer = viewer
        self._lane = lane
        self._state = state
        self._depths = depths
        self._masks = masks
        self._encoding = encoding
        self._preview: PreviewWriter | None = None
        self.prompts: PromptLayers | None = None
        self.history = History()
        self.moment = Moment(EMPTY)
        self.accept_when_decoded = False

    @property
    def slice_key(self) -> tuple[int, ...]:
        """The slice that is encoded, () if none."""
        return self._encoding.current.shown.slice_key if self._encoding.current else ()

    @property
    def awaited(self) -> bool:
        """Whether masks are on offer or being decoded."""
        return self.moment.candidates is not None or self._lane.busy("decode")

    def open(self, prompts: PromptLayers) -> None:
        """Begin with new prompt layers."""
        self.prompts = prompts
        self._preview = PreviewWriter(prompts.preview)
        # points that the user had already are prompts, but no step to be undone
        self.moment = Moment(prompts.read())

    def close(self) -> PromptLayers | None:
        """Let go of the prompt layers and return them; only what wrote labels can be undone from now on."""
        prompts, self.prompts, self._preview = self.prompts, None, None
        self.accept_when_decoded = False
        self._lane.cancel("decode")
        self.moment = Moment(EMPTY)
        self.history.keep_commits(self.moment)
        self._state.scores, self._state.live, self._state.editing = (), {}, 0
        return prompts

    def push(self, after: Moment, commit: Commit | None = None) -> None:
        """The user did something that leads to `after`, and wrote `commit`."""
        self.history.push(Step(self.moment, after, commit, self._place(commit)))
        self.show_history()

    def amend(self, new: Moment) -> Moment:
        """Let `new` stand for the present moment, in the steps that hold it, too."""
        self.history.amend(self.moment, new)
        self.moment = new
        return new

    def beside(self, after: Moment, step: bool, commit: Commit | None = None) -> None:
        """What searches found changed, and led to `after`; the object being made stays as it is.

        Parameters
        ----------
        after
            The moment from now on.
        step
            Whether this can be undone by itself.
        commit
            A change of labels that belongs to it.
        """
        if step:
            self.push(after, commit)
            self.moment = after
        else:
            self.amend(after)

    def void(self, editing: int) -> None:
        """What was decoded is void; the label `editing` goes on being refined."""
        self._lane.cancel("decode")
        self.accept_when_decoded = False
        self.show(self.amend(replace(self.moment, candidates=None, feed=None, editing=editing)))

    def decode(
        self, prompts: PromptLayers, encoded: Encoded, done: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        """Ask for the masks of the present prompts; the answer to older ones is void.

        Parameters
        ----------
        prompts
            The prompt layers.
        encoded
            The plane that they are read in.
        done
            Called when the masks are on offer.
        failed
            Called with what went wrong.
        """
        moment = self.moment
        if moment.slice_key != encoded.shown.slice_key:
            # the label being refined belongs to the slice that it was taken from
            editing = 0 if moment.slice_key else moment.editing
            moment = self.amend(replace(moment, slice_key=encoded.shown.slice_key, feed=None, editing=editing))
        asked = prompts.prompts(moment.prompts, encoded.shown, moment.feed)
        label = self._label_of(moment, encoded)
        if asked is None and label is None:
            self._lane.cancel("decode")
            self.accept_when_decoded = False
            self.show(moment)
            return
        depth = self._depths.on_plane(encoded.image, encoded.shown)

        def work(_report: Any) -> Answer:
            candidates = _decoded(encoded, asked, label)
            patch = candidates.patch()
            return candidates, patch, mask_readout(patch, depth) if depth is not None and patch.area else {}

        def take(answer: Answer) -> None:
            candidates, patch, live = answer
            # searches may have found something meanwhile
            if self.moment.asks_as(moment):
                self.show(self.amend(replace(self.moment, candidates=candidates, chosen=candidates.best)), patch, live)
                done()

        self._lane.submit("decode", work, take, failed, urgent=True)

    def show(self, moment: Moment, patch: Patch | None = None, live: dict[str, float] | None = None) -> None:
        """Make `moment` the present one: preview, scores, readout."""
        self.moment = moment
        encoded = self._encoding.current
        if moment.candidates is not None and patch is None:
            patch = moment.candidates.patch(moment.chosen)
        if live is None and patch is not None and encoded is not None and patch.area:
            depth = self._depths.on_plane(encoded.image, encoded.shown)
            live = mask_readout(patch, depth) if depth is not None else {}
        self._draw(patch)
        self._state.scores = () if moment.candidates is None else tuple(float(s) for s in moment.candidates.scores)
        self._state.chosen = moment.chosen
        self._state.live = live or {}
        self._state.editing = moment.editing
        self.show_history()

    def show_history(self) -> None:
        """Show whether there is something to undo and redo."""
        self._state.can_undo, self._state.can_redo = self.history.can_undo, self.history.can_redo

    def read_live(self) -> None:
        """Other depth is in use: read the mask on offer against it."""
        if self.moment.candidates is not None:
            self.show(self.moment)

    def _place(self, commit: Commit | None) -> Place | None:
        """Return where the user is at work, None where no plane is shown."""
        if commit is not None:
            return Place(commit.layer, commit.shown)
        if self.prompts is None:
            return None
        try:
            return Place(self.prompts.image, shown_plane(self.prompts.image, self._viewer.dims))
        except LayerError:
            return None

    def _label_of(self, moment: Moment, encoded: Encoded) -> Patch | None:
        """Return the mask of the label being refined where a decode has to start from it, None otherwise."""
        if not moment.editing or moment.feed is not None:
            return None
        try:
            return self._masks.mask_of(moment.editing, encoded.image, encoded.shown)
        except LayerError:
            return None

    def _draw(self, patch: Patch | None) -> None:
        encoded = self._encoding.current
        if self._preview is None or self.prompts is None or self.prompts.preview not in self._viewer.layers:
            return
        if patch is None or encoded is None:
            self._preview.draw(None, None)
        else:
            self._preview.draw(*self._masks.on_layer(patch, encoded.image, encoded.shown, self.prompts.preview))


def _decoded(encoded: Encoded, asked: Prompts | None, label: Patch | None) -> Candidates:
    """Return the masks for prompts; a label being refined is fed as a mask, or on offer itself without prompts."""
    if label is not None:
        if asked is None:
            return Candidates.of_masks([label], image_shape=encoded.shown.shape)
        asked = Prompts(asked.points, asked.labels, asked.box, label)
    assert asked is not None
    return encoded.segmenter.decode(encoded.embedding, asked)
