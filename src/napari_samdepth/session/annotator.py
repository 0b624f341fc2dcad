"""From prompts to masks to labels: what the user does to the object being made, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Layer, Points
from numpy.typing import NDArray

from napari_samdepth.core.errors import LayerError
from napari_samdepth.session.blending import BlendWatcher, read_blended
from napari_samdepth.session.choices import Variant
from napari_samdepth.session.depths import Depths
from napari_samdepth.session.encoding import Encoded, Encoding
from napari_samdepth.session.geometry import serves, shown_plane, view_corners
from napari_samdepth.session.jobs import Lane
from napari_samdepth.session.layers import PlaneSource, read_view
from napari_samdepth.session.masks import MaskLayer
from napari_samdepth.session.offer import Offer
from napari_samdepth.session.prompt_layers import PromptLayers
from napari_samdepth.session.proposals import Proposals
from napari_samdepth.session.state import SessionState
from napari_samdepth.session.travel import Travel
from napari_samdepth.session.watcher import Watcher


class Annotator:
    """Follows the prompt layers, has masks offered for them, and writes accepted ones into labels."""

    def __init__(self, viewer: ViewerModel, lane: Lane, state: SessionState, depths: Depths) -> None:
        """The session's parts; `state` is where everything visible goes."""
        self._viewer = viewer
        self._lane = lane
        self._state = state
        self.encoding = Encoding(lane, state, self.fail)
        self.masks = MaskLayer(viewer, state)
        self.offer = Offer(viewer, lane, state, depths, self.masks, self.encoding)
        self.proposals = Proposals(viewer, state, self.offer)
        self._watcher = Watcher(
            viewer, state, self.encoding, self.offer, self._encode, self.proposals.show, self.finish
        )
        self.travel = Travel(viewer, lane, state, self.offer, self.masks, self.proposals, self._decode)
        self._blend = BlendWatcher(viewer, self._watcher.on_blend_changed)
        self.image: Image | None = None
        self.as_shown = False
        self._missed = ""

    def begin(self, image: Image, source: PlaneSource, variant: Variant, points: Points | None = None) -> None:
        """Open the prompt layers on `image` (or go on with them) and encode its shown plane.

        Raises LayerError if `points`, a layer of the user's to click in, has other dimensions than the image.
        """
        if points is not None and points.ndim != image.ndim:
            raise LayerError(
                f"“{points.name}” has {points.ndim} dimensions and “{image.name}” {image.ndim}; "
                "use a Points layer with as many as the image."
            )
        prompts, offer = self.offer.prompts, self.offer
        own = prompts is not None and (points is None or points is prompts.points)
        ended = self.encoding.end_searches()
        if image is not self.image or not own:
            self._open(image, points)
        if variant.model != self.encoding.variant.model:
            offer.history.forget_masks()
        if offer.moment.candidates is not None or offer.moment.feed is not None:
            # another model takes no logits of the one before, and its masks are not the ones on offer
            offer.show(offer.amend(replace(offer.moment, candidates=None, feed=None)))
        self._state.image, self._state.model = image.name, variant.model
        self._state.say(ended)
        if offer.prompts is not None:
            offer.prompts.focus()
        self._blend.follow(image if self.as_shown else None)
        self.encoding.request(image, source, variant, self._decode)

    def accept(self) -> int | None:
        """Make the mask on offer a label; return its number, None where there is no mask (yet).

        While the mask is still being decoded the wish is kept and carried out when it is there.
        """
        moment, prompts = self.offer.moment, self.offer.prompts
        if moment.candidates is None:
            wanted = bool(moment.editing) or not moment.prompts.empty
            self.offer.accept_when_decoded = wanted and self._lane.busy("embed", "decode")
            return None
        encoded = self.encoding.current
        if prompts is None or encoded is None:
            return None
        self.offer.accept_when_decoded = False
        label = moment.editing or None
        commit = self.masks.write(moment.candidates.patch(moment.chosen), encoded.image, encoded.shown, label)
        if commit is None and label is None:
            self._state.say("This mask adds nothing: its pixels belong to other labels already.", problem=True)
            return None
        after = moment.turned(prompts.cleared(encoded.shown), encoded.shown.slice_key)
        self.offer.push(after, commit)
        self._state.say("" if commit is not None else f"Label {label} stays as it was.")
        self.travel.show(after)
        return label or (int(commit.change.after.max()) if commit is not None else None)

    def clear(self) -> None:
        """Drop the mask on offer and its prompts; undo brings them back."""
        moment, prompts = self.offer.moment, self.offer.prompts
        self.offer.accept_when_decoded = False
        if prompts is None or (moment.prompts.empty and moment.candidates is None and not moment.editing):
            return
        self._lane.cancel("decode")
        shown = self.encoding.current.shown if self.encoding.current else None
        bare = replace(prompts.nothing, found=moment.prompts.found)
        after = moment.turned(prompts.cleared(shown) if shown else bare, self.offer.slice_key)
        self.offer.push(after)
        self.travel.show(after)

    def choose(self, index: int) -> None:
        """Show mask `index` of those on offer."""
        moment = self.offer.moment
        if moment.candidates is None or not 0 <= index < len(moment.candidates) or index == moment.chosen:
            return
        after = replace(moment, chosen=index)
        self.offer.push(after)
        self.offer.show(after)

    def next_candidate(self) -> None:
        """Show the next of the masks on offer."""
        moment = self.offer.moment
        if moment.candidates is not None:
            self.choose((moment.chosen + 1) % len(moment.candidates))

    def edit(self, label: int) -> None:
        """Refine an existing label of the shown plane: its mask is on offer again and clicks change it.

        Raises
        ------
        LayerError
            If nothing is started, or the shown plane has no such label.
        """
        encoded, layers = self.encoding.current, self.offer.prompts
        if encoded is None or layers is None:
            raise LayerError("Press Start first: a label is refined on an encoded image.")
        self.masks.mask_of(label, encoded.image, shown_plane(encoded.image, self._viewer.dims))
        self.offer.accept_when_decoded = False
        after = self.offer.moment.turned(layers.cleared(encoded.shown), encoded.shown.slice_key, editing=label)
        self.offer.push(after)
        self._state.say("")
        self.travel.show(after)

    def toggle_foreground(self, foreground: bool | None = None) -> None:
        """Say what a plain click means (Alt-click means the other); None flips it."""
        self._state.foreground = (not self._state.foreground) if foreground is None else foreground
        if self.offer.prompts is not None:
            self.offer.prompts.set_background(not self._state.foreground)

    @property
    def actions(self) -> dict[str, Callable[[], Any]]:
        """Keys of the prompt layers and what they do."""
        return {
            "Enter": lambda: self._attempt(self.accept),
            "Escape": self.clear,
            "Control-Z": self.travel.undo,
            "Control-Shift-Z": self.travel.redo,
            "N": self.next_candidate,
            "B": self.toggle_foreground,
        }

    def read_live(self) -> None:
        """Other depth is in use: read the mask on offer against it."""
        self.offer.read_live()

    def is_helper(self, layer: object) -> bool:
        """Whether `layer` is one of the prompt layers or the preview."""
        prompts = self.offer.prompts
        return prompts is not None and any(layer is own for own in prompts.layers)

    def forget(self, layer: Layer) -> None:
        """A layer was removed from the viewer."""
        self.masks.forget(layer)
        if self.image is not None and layer is self.image:
            self.finish()
            self._state.say(f"“{layer.name}” was removed; choose another image and press Start.")
        elif self.is_helper(layer):
            self.finish()
            self._state.say(f"“{layer.name}” was removed; press Start to click on.")

    def finish(self) -> None:
        """End the annotation: the prompt layers and their keys go away; labels and depth stay."""
        self.encoding.end_searches()
        self.encoding.drop()
        self._watcher.follow(None)
        self._blend.follow(None)
        self.image = None
        prompts = self.offer.close()
        self.travel.show_searches()
        if prompts is not None:
            prompts.close()
        self._state.phase = "idle"

    def close(self) -> None:
        """Stop for good: let go of the viewer."""
        self.finish()
        self._watcher.close()

    def fail(self, error: Exception) -> None:
        """Show what went wrong as one sentence."""
        self.offer.accept_when_decoded = False
        if self.encoding.current is None:
            self.encoding.give_up()
            self._state.phase = "idle"
        self._state.task = ""
        self._state.say(str(error) or type(error).__name__, problem=True)

    def _open(self, image: Image, points: Points | None) -> None:
        prompts = PromptLayers(self._viewer, image, self._on_prompts, self.actions, points)
        self.finish()
        self.image = image
        prompts.show()
        prompts.set_background(not self._state.foreground)
        self.offer.open(prompts)
        self.masks.turn_to(image)
        self._watcher.follow(image)

    def _on_prompts(self) -> None:
        """The user changed points or boxes."""
        before, prompts = self.offer.moment, self.offer.prompts
        if prompts is None:
            return
        new = prompts.read()
        if new.same(before.prompts):
            return
        if new.same_prompts(before.prompts):
            # boxes that words found: the object being made stays as it is
            self.offer.beside(before.edited(new), step=True)
            self.proposals.show()
            return
        grows = new.extends(before.prompts) and before.slice_key == self.offer.slice_key
        feed = (before.feedback if before.candidates is not None else before.feed) if grows else None
        after = before.turned(new, self.offer.slice_key, feed, before.editing)
        self.offer.push(after)
        self.offer.moment = after
        self.proposals.show()
        self._decode()
        missed = prompts.missed(new, before.prompts)
        if missed or self._state.message == self._missed:
            self._state.say(missed, problem=bool(missed))
        self._missed = missed

    def _decode(self) -> None:
        """Have masks offered for the present prompts, after encoding the shown slice where that is not done yet."""
        prompts, encoded = self.offer.prompts, self.encoding.current
        if prompts is None:
            return
        if encoded is not None and not self._serves(encoded, self._anchors()):
            self._look_again()
        elif encoded is not None:
            self.offer.decode(prompts, encoded, self._on_decoded, self.fail)
        elif not self._lane.busy("embed"):
            self._encode()

    def read(self, image: Image, anchors: NDArray[np.float64] | None = None) -> PlaneSource:
        """Return what of an image is looked at, by itself or blended with the others; see `read_view`."""
        return (read_blended if self.as_shown else read_view)(image, self._viewer, anchors)

    def _anchors(self) -> NDArray[np.float64]:
        """Return where the clicks, the box and the label being refined lie, as data points (n, ndim) of the image."""
        image, prompts, moment = self.image, self.offer.prompts, self.offer.moment
        if image is None or prompts is None:
            return np.zeros((0, 0))
        anchors = [prompts.anchors(moment.prompts)]
        if moment.editing:
            full = shown_plane(image, self._viewer.dims)
            try:
                row, col, row_end, col_end = self.masks.mask_of(moment.editing, image, full).box
            except LayerError:
                pass
            else:
                anchors.append(full.to_data(np.array([[row, col], [row_end - 1, col_end - 1]], dtype=np.float64)))
        return np.concatenate(anchors)

    def _serves(self, encoded: Encoded, anchors: NDArray[np.float64]) -> bool:
        """Whether what is encoded of a large picture still serves for what is looked at, and holds the anchors."""
        try:
            wanted = read_view(encoded.image, self._viewer, anchors).shown
        except LayerError:
            return True
        return serves(encoded.shown, wanted, encoded.image, anchors)

    def _look_again(self) -> None:
        """Encode the part of a large picture that is looked at now; masks of the part before are decoded anew."""
        self.offer.history.forget_masks()
        self.offer.void(self.offer.moment.editing)
        self._encode()

    def _on_decoded(self) -> None:
        if self.offer.accept_when_decoded:
            self._attempt(self.accept)

    def need_encoded(self, what: str) -> Encoded:
        """Return the encoded plane that `what` is done in.

        Raises
        ------
        LayerError
            If there is none (yet); where an image was started on, it is then being encoded.
        """
        encoded = self.encoding.current
        if encoded is not None and self._serves(encoded, view_corners(encoded.image, self._viewer)):
            return encoded
        if encoded is not None:
            self._look_again()
        if self.image is None:
            raise LayerError(f"Press Start first: {what} in an encoded image.")
        if not self.encoding.under_way:
            self._encode()
        if not self.encoding.under_way:
            raise LayerError(self._state.message)
        raise LayerError("The image is being encoded as it looks now; try again when that is done.")

    def _encode(self, patience: float = 0.0) -> None:
        """Encode the shown slice when `patience` seconds have passed without another request."""
        if self.image is None:
            return
        if self.encoding.given_up:
            self._state.say("The model is not loaded; press Start to load it.", problem=True)
            return
        try:
            source = self.read(self.image, self._anchors())
        except LayerError as error:
            self.fail(error)
            return
        self._state.say("")
        self.encoding.request(self.image, source, self.encoding.variant, self._decode, patience)

    def _attempt(self, action: Callable[[], Any]) -> None:
        """Do something outside of a dock, where nobody else would show a refusal."""
        try:
            action()
        except LayerError as error:
            self._state.say(str(error), problem=True)
