"""From prompts to masks to labels: the object being made, its history, and what happens to it in the viewer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Layer, Points

from napari_samdepth.core.candidates import Candidates, Patch
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.core.readout import mask_readout
from napari_samdepth.core.resample import mask_to_logits
from napari_samdepth.session.depths import Depths
from napari_samdepth.session.encoding import Encoded, Encoding
from napari_samdepth.session.geometry import LayerError, shown_plane
from napari_samdepth.session.history import Commit, History, Moment, PromptState, Step
from napari_samdepth.session.jobs import Lane
from napari_samdepth.session.layers import PlaneSource, PreviewWriter, read_plane, spatial_shape
from napari_samdepth.session.masks import MaskLayer
from napari_samdepth.session.prompt_layers import PromptLayers
from napari_samdepth.session.state import SessionState

EMPTY = PromptState(np.zeros((0, 2)), np.zeros(0, dtype=np.int64))
LOOK = ("data", "contrast_limits", "gamma")
PLACE = ("scale", "translate", "rotate", "shear", "affine", "units")

Answer = tuple[Candidates, Patch, dict[str, float]]
"""What a decode brings: the masks, the best one at image resolution, its readout."""


class Annotator:
    """Follows the prompt layers, asks the lane for masks, and writes accepted ones into labels."""

    def __init__(self, viewer: ViewerModel, lane: Lane, state: SessionState, depths: Depths) -> None:
        """The session's parts; `state` is where everything visible goes."""
        self._viewer = viewer
        self._lane = lane
        self._state = state
        self._depths = depths
        self._model = "builtin"
        self._prompts: PromptLayers | None = None
        self._preview: PreviewWriter | None = None
        self._history = History()
        self._moment = Moment(EMPTY)
        self._accept_when_decoded = False
        self.encoding = Encoding(lane, state, self.fail)
        self.masks = MaskLayer(viewer, state)
        self.image: Image | None = None
        for name in ("current_step", "order", "ndisplay"):
            getattr(viewer.dims.events, name).connect(self._on_view_changed)

    def begin(self, image: Image, source: PlaneSource, model: str, points: Points | None = None) -> None:
        """Open the prompt layers on `image` (or go on with them) and encode its shown plane.

        Raises LayerError if `points`, a layer of the user's to click in, has other dimensions than the image.
        """
        if points is not None and points.ndim != image.ndim:
            raise LayerError(
                f"“{points.name}” has {points.ndim} dimensions and “{image.name}” {image.ndim}; "
                "use a Points layer with as many as the image."
            )
        own = self._prompts is not None and (points is None or points is self._prompts.points)
        if image is not self.image or not own:
            self._open(image, points)
        if model != self._model:
            self._history.forget_masks()
        if self._moment.candidates is not None or self._moment.feed is not None:
            # another model takes no logits of the one before, and its masks are not the ones on offer
            self._show(self._amend(replace(self._moment, candidates=None, feed=None)))
        self._state.image, self._state.model = image.name, model
        self._say("")
        self._model = model
        if self._prompts is not None:
            self._prompts.focus()
        self.encoding.request(image, source, model, self._decode)

    def accept(self) -> int | None:
        """Make the mask on offer a label; return its number, None where there is no mask (yet).

        While the mask is still being decoded the wish is kept and carried out when it is there.
        """
        moment = self._moment
        if moment.candidates is None:
            wanted = bool(moment.editing) or not moment.prompts.empty
            self._accept_when_decoded = wanted and self._lane.busy("embed", "decode")
            return None
        encoded = self.encoding.current
        if self._prompts is None or encoded is None:
            return None
        self._accept_when_decoded = False
        label = moment.editing or None
        patch = moment.candidates.patch(moment.chosen)
        commit = self.masks.write(patch, encoded.image, encoded.shown, label)
        after = Moment(self._prompts.cleared(encoded.shown), encoded.shown.slice_key)
        if commit is None and label is None:
            self._say("This mask adds nothing: its pixels belong to other labels already.", problem=True)
            return None
        self._history.push(Step(moment, after, commit))
        self._say("" if commit is not None else f"Label {label} stays as it was.")
        self._restore(after)
        return label or (int(commit.change.after.max()) if commit is not None else None)

    def commit(self, commit: Commit) -> None:
        """Take a change of labels that was made beside the clicks into the history."""
        self._history.push(Step(self._moment, self._moment, commit))
        self._show_history()

    def clear(self) -> None:
        """Drop the mask on offer and its prompts; undo brings them back."""
        moment = self._moment
        self._accept_when_decoded = False
        if self._prompts is None or (moment.prompts.empty and moment.candidates is None and not moment.editing):
            return
        self._lane.cancel("decode")
        shown = self.encoding.current.shown if self.encoding.current else None
        prompts = self._prompts.cleared(shown) if shown else self._no_prompts()
        after = Moment(prompts, self._slice_key())
        self._history.push(Step(self._moment, after))
        self._restore(after)

    def undo(self) -> None:
        """Take back the last click, choice, clear or accepted label."""
        self._travel(self._history.undo(), backwards=True)

    def redo(self) -> None:
        """Do again what was undone last."""
        self._travel(self._history.redo(), backwards=False)

    def choose(self, index: int) -> None:
        """Show mask `index` of those on offer."""
        moment = self._moment
        if moment.candidates is None or not 0 <= index < len(moment.candidates) or index == moment.chosen:
            return
        after = replace(moment, chosen=index)
        self._history.push(Step(moment, after))
        self._show(after)

    def next_candidate(self) -> None:
        """Show the next of the masks on offer."""
        if self._moment.candidates is not None:
            self.choose((self._moment.chosen + 1) % len(self._moment.candidates))

    def edit(self, label: int) -> None:
        """Refine an existing label of the shown plane: its mask is on offer again and clicks change it.

        Raises
        ------
        LayerError
            If nothing is started, or the shown plane has no such label.
        """
        encoded = self.encoding.current
        if encoded is None:
            raise LayerError("Press Start first: a label is refined on an encoded image.")
        self.masks.mask_of(label, encoded.image, encoded.shown)
        self._accept_when_decoded = False
        prompts = self._prompts.cleared(encoded.shown) if self._prompts is not None else self._no_prompts()
        after = Moment(prompts, encoded.shown.slice_key, editing=label)
        self._history.push(Step(self._moment, after))
        self._say("")
        self._restore(after)

    def toggle_foreground(self, foreground: bool | None = None) -> None:
        """Say what a plain click means (Alt-click means the other); None flips it."""
        self._state.foreground = (not self._state.foreground) if foreground is None else foreground
        if self._prompts is not None:
            self._prompts.set_background(not self._state.foreground)

    @property
    def actions(self) -> dict[str, Callable[[], Any]]:
        """Keys of the prompt layers and what they do."""
        return {
            "Enter": lambda: self._attempt(self.accept),
            "Escape": self.clear,
            "Control-Z": self.undo,
            "Control-Shift-Z": self.redo,
            "N": self.next_candidate,
            "B": self.toggle_foreground,
        }

    def close(self) -> None:
        """Stop for good: let go of the viewer."""
        self.finish()
        for name in ("current_step", "order", "ndisplay"):
            getattr(self._viewer.dims.events, name).disconnect(self._on_view_changed)

    def is_helper(self, layer: object) -> bool:
        """Whether `layer` is one of the prompt layers or the preview."""
        return self._prompts is not None and any(layer is own for own in self._prompts.layers)

    def forget(self, layer: Layer) -> None:
        """A layer was removed from the viewer."""
        self.masks.forget(layer)
        if self.image is not None and layer is self.image:
            self.finish()
            self._say(f"“{layer.name}” was removed; choose another image and press Start.")
        elif self.is_helper(layer):
            self.finish()
            self._say(f"“{layer.name}” was removed; press Start to click on.")

    def _open(self, image: Image, points: Points | None) -> None:
        self.finish()
        self._history.keep_commits(Moment(EMPTY))
        self.image = image
        self._prompts = PromptLayers(self._viewer, image, self._on_prompts, self.actions, points)
        self._prompts.show()
        self._prompts.set_background(not self._state.foreground)
        self._preview = PreviewWriter(self._prompts.preview)
        # points that the user had already are prompts, but no step to be undone
        self._moment = Moment(self._prompts.read())
        self.masks.turn_to(image)
        for name in LOOK:
            getattr(image.events, name).connect(self._on_look_changed)
        for name in PLACE:
            getattr(image.events, name).connect(self._on_place_changed)

    def finish(self) -> None:
        """End the annotation: the prompt layers and their keys go away; labels and depth stay."""
        prompts, self._prompts, self._preview = self._prompts, None, None
        self._accept_when_decoded = False
        self.encoding.drop()
        self._lane.cancel("decode")
        if self.image is not None:
            for name in LOOK:
                getattr(self.image.events, name).disconnect(self._on_look_changed)
            for name in PLACE:
                getattr(self.image.events, name).disconnect(self._on_place_changed)
        self.image = None
        if prompts is not None:
            prompts.close()
        self._moment = Moment(EMPTY)
        self._state.phase, self._state.scores, self._state.live, self._state.editing = "idle", (), {}, 0

    def _no_prompts(self) -> PromptState:
        ndim = self.image.ndim if self.image is not None else 2
        return PromptState(np.zeros((0, ndim)), np.zeros(0, dtype=np.int64))

    def _slice_key(self) -> tuple[int, ...]:
        return self.encoding.current.shown.slice_key if self.encoding.current else ()

    def _on_prompts(self) -> None:
        """The user changed points or boxes."""
        if self._prompts is None:
            return
        before, new = self._moment, self._prompts.read()
        if new.same(before.prompts):
            return
        grows = new.extends(before.prompts) and before.slice_key == self._slice_key()
        feed = (before.logits if before.candidates is not None else before.feed) if grows else None
        after = Moment(new, self._slice_key(), None, 0, feed, before.editing)
        self._history.push(Step(before, after))
        self._moment = after
        self._show_history()
        self._decode()

    def _decode(self) -> None:
        """Ask for the masks of the present prompts; the answer to older prompts is void."""
        prompts, encoded, moment = self._prompts, self.encoding.current, self._moment
        if prompts is None:
            return
        if encoded is None:
            if not self._lane.busy("embed"):
                self._encode()
            return
        if moment.slice_key != encoded.shown.slice_key:
            # the label being refined belongs to the slice that it was taken from
            editing = 0 if moment.slice_key else moment.editing
            moment = self._amend(replace(moment, slice_key=encoded.shown.slice_key, feed=None, editing=editing))
        asked = prompts.prompts(moment.prompts, encoded.shown, moment.feed)
        label = self._label_of(moment, encoded)
        if asked is None and label is None:
            self._lane.cancel("decode")
            self._accept_when_decoded = False
            self._show(moment)
            return
        depth = self._depths.on_plane(encoded.image, encoded.shown)

        def work(_report: Any) -> Answer:
            candidates = _decoded(encoded, asked, label)
            patch = candidates.patch()
            return candidates, patch, mask_readout(patch, depth) if depth is not None and patch.area else {}

        self._lane.submit("decode", work, self._take_for(moment), self.fail, urgent=True)

    def _label_of(self, moment: Moment, encoded: Encoded) -> Patch | None:
        """Return the mask of the label being refined where a decode has to start from it, None otherwise."""
        if not moment.editing or moment.feed is not None:
            return None
        try:
            return self.masks.mask_of(moment.editing, encoded.image, encoded.shown)
        except LayerError:
            return None

    def _take_for(self, moment: Moment) -> Callable[[Answer], None]:
        """Return what takes the answer for `moment`, unless something newer is there."""

        def take(answer: Answer) -> None:
            candidates, patch, live = answer
            if self._moment is moment:
                self._show(self._amend(replace(moment, candidates=candidates, chosen=candidates.best)), patch, live)
                if self._accept_when_decoded:
                    self._attempt(self.accept)

        return take

    def _amend(self, new: Moment) -> Moment:
        self._history.amend(self._moment, new)
        self._moment = new
        return new

    def _show(self, moment: Moment, patch: Patch | None = None, live: dict[str, float] | None = None) -> None:
        """Make `moment` the present one: preview, scores, readout."""
        self._moment = moment
        encoded = self.encoding.current
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
        self._show_history()

    def _draw(self, patch: Patch | None) -> None:
        encoded = self.encoding.current
        if self._preview is None or self._prompts is None or self._prompts.preview not in self._viewer.layers:
            return
        if patch is None or encoded is None:
            self._preview.draw(None, None)
        else:
            self._preview.draw(*self.masks.on_layer(patch, encoded.image, encoded.shown, self._prompts.preview))

    def _restore(self, moment: Moment) -> None:
        """Make the layers and the mask on offer those of `moment`."""
        self._moment = moment
        if self._prompts is not None:
            fits = self.image is not None and moment.prompts.points.shape[1] == self.image.ndim
            self._prompts.write(moment.prompts if fits else self._no_prompts())
        here = moment.slice_key == self._slice_key()
        if moment.candidates is not None and here:
            self._show(moment)
        else:
            self._show(replace(moment, candidates=None) if moment.candidates is not None else moment)
            if moment.editing or not moment.prompts.empty:
                self._decode()

    def _travel(self, step: Step | None, backwards: bool) -> None:
        if step is None:
            return
        self._accept_when_decoded = False
        self._lane.cancel("decode")
        self._say("")
        if step.commit is not None and not self.masks.replay(step.commit, backwards):
            self._say("That label was changed or removed since, so its pixels stay as they are.", problem=True)
        self._restore(step.before if backwards else step.after)

    def _encode(self) -> None:
        if self.image is None:
            return
        try:
            source = read_plane(self.image, self._viewer)
        except LayerError as error:
            self.fail(error)
            return
        self._say("")
        self.encoding.request(self.image, source, self._model, self._decode)

    def _on_view_changed(self, _event: Any = None) -> None:
        """Another slice may be shown: answers for the old one are void, its prompts stay in their slice."""
        if self.image is None or self._prompts is None:
            return
        try:
            key: tuple[int, ...] | None = shown_plane(self.image, self._viewer.dims).slice_key
        except LayerError:
            key = None
        if key is not None and key == self.encoding.slice_key:
            return
        self._forget_plane(editing=0)
        if key is not None and self.encoding.instant(self._model):
            self._encode()
        else:
            self._say("Another slice is shown; it is encoded at the first click.")

    def _on_look_changed(self, _event: Any = None) -> None:
        image, prompts = self.image, self._prompts
        if image is not None and prompts is not None and prompts.preview.data.shape != spatial_shape(image):
            self.finish()
            self._say(f"“{image.name}” holds data of another size now; press Start to click on them.")
            return
        self._forget_plane(self._moment.editing)
        self._say("The image looks different now; it is encoded anew at the next click.")

    def _on_place_changed(self, event: Any) -> None:
        """The image was moved: our own helper layers follow it."""
        if self._prompts is not None and self.image is not None:
            for layer in self._prompts.own:
                setattr(layer, event.type, getattr(self.image, event.type))

    def _forget_plane(self, editing: int) -> None:
        """What was encoded and decoded is void; the label `editing` goes on being refined."""
        self._lane.cancel("decode")
        self._accept_when_decoded = False
        self.encoding.drop()
        self._state.phase = "idle"
        self._show(self._amend(replace(self._moment, candidates=None, feed=None, editing=editing)))

    def read_live(self) -> None:
        """Other depth is in use: read the mask on offer against it."""
        if self._moment.candidates is not None:
            self._show(self._moment)

    def _show_history(self) -> None:
        self._state.can_undo, self._state.can_redo = self._history.can_undo, self._history.can_redo

    def _say(self, message: str, problem: bool = False) -> None:
        self._state.message, self._state.problem = message, problem

    def _attempt(self, action: Callable[[], Any]) -> None:
        """Do something outside of a dock, where nobody else would show a refusal."""
        try:
            action()
        except LayerError as error:
            self._say(str(error), problem=True)

    def fail(self, error: Exception) -> None:
        """Show what went wrong as one sentence."""
        self._accept_when_decoded = False
        if self.encoding.current is None:
            self._state.phase = "idle"
        self._state.task = ""
        self._say(str(error) or type(error).__name__, problem=True)


def _decoded(encoded: Encoded, asked: Prompts | None, label: Patch | None) -> Candidates:
    """Return the masks for prompts; a label being refined is fed as a mask, or on offer itself without prompts."""
    if label is not None:
        rows, cols = np.nonzero(label.mask)
        row, col = label.origin
        box = (row + rows.min(), col + cols.min(), row + rows.max() + 1, col + cols.max() + 1)
        frame_of = encoded.segmenter.decode(encoded.embedding, Prompts(box=box))
        full = label.full(encoded.shown.shape)
        logits = mask_to_logits(full, frame_of.frame, frame_of.logits.shape[1:])
        if asked is None:
            return Candidates(logits[None], np.ones(1), frame_of.frame)
        asked = Prompts(asked.points, asked.labels, asked.box, logits)
    assert asked is not None
    return encoded.segmenter.decode(encoded.embedding, asked)
