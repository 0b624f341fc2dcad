"""The annotation in a viewer: what happens there becomes actions, and the document becomes layers and work.

The document is the only state of an annotation. Every change of it goes through `dispatch`: labels are written first,
which may be refused; then the document, its history, the layers and what is asked of the model follow.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Points
from napari.utils.notifications import ErrorNotification, notification_manager
from numpy.typing import NDArray

from napari_samdepth.annotation.document import DecodeRequest, Document
from napari_samdepth.annotation.history import History, LabelEdit, Step
from napari_samdepth.annotation.transitions import (
    AcceptObject,
    Action,
    Answer,
    Change,
    ChooseCandidate,
    ClearObject,
    DrawPrompts,
    ForgetMasks,
    GiveUp,
    LeaveImage,
    MaskWrite,
    RefineLabel,
    SetForeground,
    ShowPlane,
    StartImage,
    UseLabels,
    detections_in,
    transition,
)
from napari_samdepth.core.candidates import Candidates, Patch
from napari_samdepth.core.errors import LayerError, UserError
from napari_samdepth.measure.readout import mask_readout
from napari_samdepth.session.blending import BlendWatcher, read_blended
from napari_samdepth.session.choices import Variant, short_name
from napari_samdepth.session.decode import decode
from napari_samdepth.session.depths import Depths
from napari_samdepth.session.encoding import Encoded, EncodedPlanes
from napari_samdepth.session.geometry import serves, show_plane, shown_plane, tilted, view_corners
from napari_samdepth.session.jobs import Lane
from napari_samdepth.session.labels import (
    AlreadyLabelled,
    LabelsLayers,
    as_shown,
    check_writable,
    find_layer,
    layer_id,
)
from napari_samdepth.session.layers import PlaneSource, read_plane, read_view, spatial_shape
from napari_samdepth.session.prompt_layers import PromptLayers
from napari_samdepth.session.recovery import Journals, Recovered
from napari_samdepth.session.state import SessionState

if TYPE_CHECKING:
    from napari_samdepth.models.protocols import Report

LOG = logging.getLogger(__name__)

DIMS = ("current_step", "order", "ndisplay")
LOOK = ("data", "contrast_limits", "gamma", "projection_mode")
THICKNESS = ("margin_left", "margin_right")
PLACE = ("scale", "translate", "rotate", "shear", "affine", "units")
PATIENCE = 0.3
"""Seconds without a change after which a look counts as chosen: sliders give many on their way."""
SEARCHES = ("everything", "words")
"""Kinds of work that go on in the plane they were begun in, whatever is shown."""


class Annotator:
    """Holds the document of a viewer's annotation and its history.

    Attributes
    ----------
    document
        The annotation as it is.
    history
        What can be undone and redone.
    image
        The image being annotated, None for none.
    prompts
        Its prompt layers, None for none.
    labels
        Writes into Labels layers.
    journals
        What was written is kept there until it is saved.
    variant
        The model asked for last, and its precision.
    each_click
        Whether every click makes an object of its own.
    as_shown
        Whether the model sees all visible images as the canvas blends them, not the annotated one alone.
    """

    def __init__(self, viewer: ViewerModel, lane: Lane, state: SessionState, depths: Depths) -> None:
        """The session's parts; `state` is where everything visible goes."""
        self._viewer = viewer
        self._lane = lane
        self._state = state
        self._depths = depths
        self.planes = EncodedPlanes()
        self.labels = LabelsLayers(viewer)
        self.journals = Journals()
        self.document = Document()
        self.history = History()
        self.image: Image | None = None
        self.prompts: PromptLayers | None = None
        self.variant = Variant()
        self.each_click = False
        self.as_shown = False
        self._blend = BlendWatcher(viewer)
        self._blend.changed.connect(self._on_blend_changed)
        self.encoded: Encoded | None = None
        self._wanted: PlaneSource | None = None
        self._given_up = False
        self._worked: Variant | None = None
        self._recheck = False
        self._asked: dict[int, str] = {}
        self._refused: dict[int, Candidates] = {}
        self._missed = ""
        self._followed: Image | None = None
        for name in DIMS:
            getattr(viewer.dims.events, name).connect(self._on_view_changed)
        for name in THICKNESS:
            getattr(viewer.dims.events, name).connect(self._on_thickness_changed)
        viewer.dims.events.units.connect(self._on_place_changed)

    # what the user does

    def begin(
        self, image: Image, source: PlaneSource, variant: Variant, points: Points | None, labels: Labels | None
    ) -> None:
        """Open the prompt layers on `image` (or go on with them) and encode its shown plane.

        Raises LayerError if `points`, a layer of the user's to click in, has other dimensions than the image, or
        `labels` cannot be written.
        """
        if points is not None and points.ndim != image.ndim:
            raise LayerError(
                f"“{points.name}” has {points.ndim} dimensions and “{image.name}” {image.ndim}; "
                "use a Points layer with as many as the image."
            )
        if labels is not None:
            check_writable(labels)
        ended = self.end_searches()
        own = self.prompts is not None and (points is None or points is self.prompts.points)
        if image is not self.image or not own:
            self._open(image, source, points)
        self._choose_target(image, labels)
        self._given_up = False
        if variant != self.variant:
            self.history = self.history.without_masks()
        self.variant = variant
        self._blend.follow(image if self.as_shown else None)
        self._encode(source)
        self.dispatch(ForgetMasks())
        self._state.image, self._state.model = image.name, variant.model
        self._state.say(ended)
        if self.prompts is not None:
            self.prompts.focus()

    def accept(self) -> int | None:
        """Make the mask on offer a label; return its number, None where there is no mask (yet).

        While the mask is still being decoded the object waits for it, and the next click begins the next object.

        Raises LayerError if the Labels layer cannot be written.
        """
        self._retry()
        editing = self.document.current_here.editing
        try:
            change, edits = self.dispatch(AcceptObject())
        except AlreadyLabelled as error:
            self._state.occupied = error.label
            self._state.say(str(error), problem=True)
            return None
        if not change.step or (self.document.waiting and not change.writes):
            return None
        if editing:
            self._state.say("" if edits else f"Label {editing} stays as it was.")
            return editing
        if not edits:
            return None
        self._state.say("")
        return int(edits[0].change.after[0])

    def clear(self) -> None:
        """Drop the mask on offer and its prompts; undo brings them back."""
        self.dispatch(ClearObject())

    def choose(self, index: int) -> None:
        """Show mask `index` of those on offer."""
        self.dispatch(ChooseCandidate(index))

    def next_candidate(self) -> None:
        """Show the next of the masks on offer."""
        candidates = self.document.current.candidates
        if candidates is not None:
            self.choose((self.document.current.chosen + 1) % len(candidates))

    def edit(self, label: int) -> None:
        """Refine an existing label of the shown plane: it is on offer as it is, and clicks change it near to them.

        Raises LayerError if nothing is started, or the shown plane has no such label.
        """
        if self.image is None or self.encoded is None or self.prompts is None:
            raise LayerError("Press Start first: a label is refined on an encoded image.")
        full = shown_plane(self.image, self._viewer.dims)
        whole = self.labels.mask_of(label, self.layer, self.image, full)
        corners = np.array([whole.box[:2], np.array(whole.box[2:]) - 1], dtype=np.float64)
        self._state.say("")
        if self._serves(self.encoded, full.to_data(corners)):
            base = self.labels.mask_of(label, self.layer, self.image, self.encoded.shown)
            self.dispatch(RefineLabel(label, base, self.encoded.shown.shape))
        else:
            # it lies outside of the part that is encoded: that comes anew, around the label
            self.encoded = None
            self.dispatch(ShowPlane(full))
            self.dispatch(RefineLabel(label, whole, full.shape))
            self._encode()
        self.prompts.focus()

    def toggle_foreground(self, foreground: bool | None = None) -> None:
        """Say what a plain click means (Alt-, Shift- or right-click means the other); None flips it."""
        self.dispatch(SetForeground(not self.document.foreground if foreground is None else foreground))

    def set_each_click(self, each: bool | None = None) -> None:
        """Say whether every click makes an object of its own from now on; None flips it."""
        self.each_click = not self.each_click if each is None else each
        self._publish()

    def number_next(self, label: int) -> None:
        """Give the next mask this number, also one that is there, to go on with it; 0 for the next free one."""
        self.labels.typed = label
        self._publish()

    def say(self, message: str, problem: bool = False) -> None:
        """Show one sentence, "" for none."""
        self._state.say(message, problem)

    def undo(self) -> None:
        """Take back the last click, choice, clear, accepted label, or change of what searches found.

        What changed a Labels layer that cannot be written now stays, and can be undone when it can.
        """
        self._go(*self.history.undo(), backwards=True)

    def redo(self) -> None:
        """Do again what was undone last."""
        self._go(*self.history.redo(), backwards=False)

    def recover(self, recovered: Recovered, image: Image | None) -> None:
        """Put labels that came back into the viewer; masks of `image` go to them, and undo takes their steps back."""
        layer = recovered.layer
        if image is None:
            self._viewer.add_layer(layer)
        else:
            # known as the image's before it is there: docks must not take it for another one
            self.document = transition(self.document, UseLabels(layer_id(image), layer_id(layer))).document
            self.labels.add(layer, image)
        self.journals.adopt(recovered)
        ours = self.history
        self.history = replace(
            ours, done=(*recovered.history.done, *ours.done), undone=ours.undone or recovered.history.undone
        )
        self._publish()
        self._state.say(recovered.said)

    # the labels that masks go to

    @property
    def layer(self) -> Labels | None:
        """The Labels layer that accepted masks go to, None where one is to be made."""
        targets, image = self.document.targets, self.image
        if image is None:
            return find_layer(self._viewer, targets.get("", "")) if "" in targets else None
        return self.labels.of(image, targets.get(layer_id(image), ""))

    def target_layer(self, image: Image) -> Labels:
        """Return the Labels layer that the masks of `image` go to, made where there is none."""
        layer = self.layer
        if layer is None:
            layer = self.labels.make(image)
            # known as the image's before it is there: docks must not take it for one of the user's
            self.document = transition(self.document, UseLabels(layer_id(image), layer_id(layer))).document
            self.labels.add(layer, image)
        return layer

    def use(self, layer: Labels | None) -> None:
        """Let accepted masks go to `layer` from now on, None for a new one. Raises LayerError if it is not writable."""
        if layer is not None:
            check_writable(layer)
        identity = "" if layer is None else layer_id(layer)
        if self.image is not None:
            self.dispatch(UseLabels(layer_id(self.image), identity))
        # what was chosen stays chosen for the images that have no layer of their own
        self.dispatch(UseLabels("", identity if layer is None or not self.labels.made(layer) else ""))
        self._retry()

    # what others do

    def dispatch(self, action: Action, edits: tuple[LabelEdit, ...] = ()) -> tuple[Change, tuple[LabelEdit, ...]]:
        """Carry out an action; `edits` were made already and belong to it. Returns the change and all its edits.

        Raises LayerError where labels cannot be written: then nothing has changed.
        """
        before = self.document
        change = transition(before, action)
        edits = (*edits, *(edit for write in change.writes if (edit := self._write(write)) is not None))
        self.journals.note(edits, self._viewer, self.labels, self.image, self.variant.model)
        after = change.document
        # writing the first label makes its layer, which becomes the image's
        after = replace(after, targets=self.document.targets) if change.writes else after
        if change.step:
            self.history = self.history.pushed(Step(before, after, edits, *self._place(edits)))
        if change.settles is not None:
            self.history = self.history.written(change.settles, edits)
        match action:
            case Answer(key=key, candidates=candidates):
                self.history = self.history.amended(lambda document: document.answered(key, candidates))
            case GiveUp(key=key):
                self.history = self.history.amended(lambda document: document.settled(key))
            case ForgetMasks():
                self.history = self.history.without_masks()
            case StartImage() | LeaveImage():
                self.history = self.history.label_edits(after)
            case _:
                pass
        self.document = after
        self._draw(before)
        if said := change.say or self.journals.take_message():
            self._state.say(said, problem=True)
        return change, edits

    def need_encoded(self, what: str) -> Encoded:
        """Return the encoded plane that `what` is done in.

        Raises LayerError if there is none (yet); where an image was started on, it is then being encoded.
        """
        if self.encoded is not None and self._serves(self.encoded, view_corners(self.encoded.image, self._viewer)):
            return self.encoded
        if self.encoded is not None:
            self._encode()
        if self.image is None:
            raise LayerError(f"Press Start first: {what} in an encoded image.")
        if not self.encoding:
            self._encode()
        if not self.encoding:
            raise LayerError(self._state.message)
        raise LayerError("The image is being encoded as it looks now; try again when that is done.")

    def read(self, image: Image, anchors: NDArray[np.float64] | None = None) -> PlaneSource:
        """Return what of an image is looked at, by itself or blended with the others; see `read_view`."""
        return (read_blended if self.as_shown else read_view)(image, self._viewer, anchors)

    @property
    def encoding(self) -> bool:
        """Whether a plane is being encoded."""
        return self._lane.busy("embed")

    def give_up(self) -> None:
        """What was under way was cancelled: a model that is not there is not loaded before the user asks for it."""
        self._given_up = not self.planes.loaded(self.variant)
        self._asked.clear()
        for request in self.document.waiting:
            self.dispatch(GiveUp(request.key))

    def drop_plane(self) -> None:
        """Forget the current plane and any request for one; searches go on in theirs."""
        self._lane.cancel("embed")
        self.encoded = self._wanted = None

    def end_searches(self) -> str:
        """Cancel the searches under way; return a sentence on it, "" if there was none."""
        if not self._lane.busy(*SEARCHES):
            return ""
        self._lane.cancel(*SEARCHES)
        return "The search under way was ended; start it anew when the image is encoded."

    def read_live(self) -> None:
        """Other depth is in use: read the mask on offer against it."""
        current = self.document.current_here
        self._show_live(None if current.candidates is None else current.candidates.patch(current.chosen))

    def is_helper(self, layer: object) -> bool:
        """Whether `layer` is one of the prompt layers or the preview."""
        return self.prompts is not None and any(layer is own for own in self.prompts.layers)

    def forget(self, layer: Layer) -> None:
        """A layer was removed from the viewer."""
        self.labels.forget(layer)
        self.journals.forget(layer)
        if self.image is not None and layer is self.image:
            self.finish()
            self._state.say(f"“{layer.name}” was removed; choose another image and press Start.")
        elif self.is_helper(layer):
            self.finish()
            self._state.say(f"“{layer.name}” was removed; press Start to click on.")
        else:
            self._publish()

    def finish(self) -> None:
        """End the annotation: the prompt layers and their keys go away; labels and depth stay."""
        self.end_searches()
        self.drop_plane()
        self._follow(None)
        self._blend.follow(None)
        prompts, self.prompts, self.image = self.prompts, None, None
        lost = len(self.document.waiting)
        self.dispatch(LeaveImage())
        self._refused.clear()
        if prompts is not None:
            prompts.changed.disconnect(self._on_prompts)
            prompts.close()
        self._state.phase = "idle"
        if lost:
            self._state.say(f"{lost} accepted without a mask yet, and given up with the image.", problem=True)

    def close(self) -> None:
        """Stop for good: let go of the viewer and of all models."""
        self.finish()
        self.journals.close()
        self.planes.clear()
        for name in DIMS:
            getattr(self._viewer.dims.events, name).disconnect(self._on_view_changed)
        for name in THICKNESS:
            getattr(self._viewer.dims.events, name).disconnect(self._on_thickness_changed)
        self._viewer.dims.events.units.disconnect(self._on_place_changed)

    def fail(self, error: Exception) -> None:
        """Show what went wrong: a sentence for the user as it is, anything else as a fault of the plugin."""
        self._state.task = ""
        if self.encoded is None and not self.encoding:
            self._given_up = not self.planes.loaded(self.variant)
            self._state.phase = "idle"
        if isinstance(error, UserError):
            self._state.say(str(error), problem=True)
            return
        LOG.error("A fault of the plugin", exc_info=error)
        self._state.say(f"A fault of the plugin ({type(error).__name__}: {error}); please report it.", problem=True)
        notification_manager.dispatch(ErrorNotification(error))

    # from the viewer

    def _open(self, image: Image, source: PlaneSource, points: Points | None) -> None:
        prompts = PromptLayers(self._viewer, image, points)
        self.finish()
        self.image, self.prompts = image, prompts
        prompts.show(self._keys)
        prompts.set_background(not self.document.foreground)
        used = np.zeros((0, image.ndim)) if prompts.points_are_users else None
        self.dispatch(StartImage(layer_id(image), source.shown, prompts.read(used), used))
        prompts.changed.connect(self._on_prompts)
        self._follow(image)

    @property
    def _keys(self) -> dict[str, Any]:
        return {
            "Enter": lambda: self._attempt(self.accept),
            "Escape": self.clear,
            "Control-Z": self.undo,
            "Control-Shift-Z": self.redo,
            "N": self.next_candidate,
            "B": self.toggle_foreground,
            "E": self.set_each_click,
        }

    def _choose_target(self, image: Image, labels: Labels | None) -> None:
        """Let the masks of an image go to its own layer: named now, had before, or chosen for all."""
        targets = self.document.targets
        if labels is not None:
            self.use(labels)
        elif self.labels.of(image, targets.get(layer_id(image), "")) is None:
            self.dispatch(UseLabels(layer_id(image), targets.get("", "")))

    def _on_prompts(self) -> None:
        """The user changed points or shapes."""
        if self.prompts is None:
            return
        before, drawn = self.document.drawn, self.prompts.read(self.document.used)
        self._state.occupied = 0
        try:
            self.dispatch(DrawPrompts(drawn, accept=self.each_click))
        except LayerError as error:
            self._state.say(str(error), problem=True)
            return
        missed = self._missed_slice(before.points, drawn.points, len(before.shapes) < len(drawn.shapes))
        if missed or self._state.message == self._missed:
            self._state.say(missed, problem=bool(missed))
        self._missed = missed

    def _missed_slice(self, before: Any, points: Any, shapes: bool) -> str:
        """Return one sentence where what was just drawn lies in another slice of a tilted image, "" otherwise."""
        plane = self.document.plane
        if self.image is None or plane is None or (len(points) <= len(before) and not shapes):
            return ""
        if self.prompts is not None and self.prompts.in_other_units:
            return (
                f"“{self.prompts.points.name}” is in other units than the view, and napari puts clicks in such a layer "
                "elsewhere; give it the units of the view, or press Start without it."
            )
        new, shape = points[len(before) :], self.document.drawn.shapes[-1:] if shapes else ()
        there = plane.holds(new).all() and all(plane.holds(drawn.vertices).all() for drawn in shape)
        if there or not tilted(self.image, self._viewer.dims):
            return ""
        return (
            f"“{self.image.name}” is tilted, and this {'shape' if shapes else 'click'} lies in another slice than the "
            "one shown; take the layer's rotation or shear away to click anywhere."
        )

    def _follow(self, image: Image | None) -> None:
        """Listen to `image` from now on and to no other; None for no image at all."""
        reactions = (
            (LOOK, self._on_look_changed),
            (PLACE, self._on_place_changed),
            (("set_data",), self._on_refreshed),
        )
        for names, react in reactions:
            for name in names:
                if self._followed is not None:
                    getattr(self._followed.events, name).disconnect(react)
                if image is not None:
                    getattr(image.events, name).connect(react)
        self._followed = image

    def _on_view_changed(self, _event: Any = None) -> None:
        """Another slice may be shown: answers for the old one are void, its prompts stay in their slice."""
        if self.image is None:
            return
        try:
            shown = shown_plane(self.image, self._viewer.dims)
        except LayerError as error:
            self.drop_plane()
            self._state.phase = "idle"
            self.dispatch(ShowPlane(None))
            self._state.say(str(error))
            return
        wanted = self._wanted.shown.slice_key if self._wanted is not None else ()
        if shown.slice_key == self.document.slice_key and shown.slice_key == wanted:
            return
        self.drop_plane()
        self._state.phase = "idle"
        self.dispatch(ShowPlane(shown))
        if self.variant.model == "builtin" and self.planes.loaded(self.variant):
            self._encode()
        elif not self.encoding:
            self._state.say("Another slice is shown; it is encoded at the first click.")

    def _on_look_changed(self, event: Any) -> None:
        """What was encoded is void; where a mask is on offer, or about to be, it is made anew for the new look."""
        image, prompts = self.image, self.prompts
        if image is not None and prompts is not None and prompts.preview.data.shape != spatial_shape(image):
            self.finish()
            self._state.say(f"“{image.name}” holds data of another size now; press Start to click on them.")
            return
        ended = self.end_searches() if event.type == "data" else ""
        self._on_blend_changed()
        if ended:
            self._state.say(f"“{image.name}” holds other data now. {ended}" if image is not None else ended)

    def _on_blend_changed(self) -> None:
        """The model would see another picture: what was encoded is void, and made anew where somebody waits for it."""
        awaited = self.document.asked is not None or self.encoding
        self.drop_plane()
        self._state.phase = "idle"
        if awaited:
            self._encode(patience=PATIENCE)
        self.dispatch(ForgetMasks())
        if not awaited:
            self._state.say("The image looks different now; it is encoded anew at the next click.")

    def _on_thickness_changed(self, event: Any) -> None:
        """A thicker or thinner slice of a stack is another picture, where it is projected."""
        image = self.image
        if image is not None and image.ndim > 2 and str(image.projection_mode) != "none":
            self._on_look_changed(event)

    def _on_refreshed(self, _event: Any) -> None:
        """The data may have been changed in place: what is encoded is compared before it is decoded again."""
        self._recheck = self.encoded is not None

    def _on_place_changed(self, _event: Any = None) -> None:
        """The image was moved, or the view has other units: our own helper layers follow."""
        if self.prompts is not None:
            self.prompts.place()

    # to the labels

    def _write(self, write: MaskWrite) -> LabelEdit | None:
        image = self.image
        if image is None or layer_id(image) != write.request.image:
            raise LayerError("The image of this object is gone; its mask cannot be written.")
        return self.labels.write(write, image, self.target_layer(image))

    def _retry(self) -> None:
        """Write the waiting objects whose masks could not be written before."""
        for key, candidates in list(self._refused.items()):
            del self._refused[key]
            self._take(key, candidates)

    def _place(self, edits: tuple[LabelEdit, ...]) -> tuple[str, Any]:
        """Return where the user is at work: the id of a layer and its plane."""
        if edits:
            return edits[-1].layer, edits[-1].plane
        if self.image is None:
            return "", None
        try:
            return layer_id(self.image), shown_plane(self.image, self._viewer.dims)
        except LayerError:
            return "", None

    def _go(self, step: Step | None, history: History, backwards: bool) -> None:
        if step is None:
            return
        try:
            self.labels.check_replay(step.edits, backwards)
        except LayerError as error:
            # the step stays where it is: nothing of it is done
            self._state.say(str(error), problem=True)
            return
        self.history = history
        layer = find_layer(self._viewer, step.layer)
        if layer is not None and step.plane is not None:
            show_plane(layer, as_shown(step.plane), self._viewer)
        self._state.say("")
        edits = tuple(reversed(step.edits)) if backwards else step.edits
        done = [edit for edit in edits if self.labels.replay(edit, backwards)]
        if len(done) < len(edits):
            self._state.say("That label was changed or removed since, so its pixels stay as they are.", problem=True)
        self.journals.note_travel(done, backwards)
        before = self.document
        self.document = (step.before if backwards else step.after).carried(before)
        self._draw(before)
        # the sliders may have been moved since: what searches found is shown as they are now
        self._state.revision += 1

    # to the layers, the docks and the model

    def _draw(self, before: Document) -> None:
        """Let layers, docks and model follow from `before` to the present document."""
        if self.prompts is not None:
            self.prompts.draw(before, self.document)
        if self.document.auto_masks is not before.auto_masks or self.document.plane is not before.plane:
            self._state.revision += 1
        self._request_answers()
        self._publish()

    def _publish(self) -> None:
        """Show in the layers and the docks what the document says."""
        state, document = self._state, self.document
        current = document.current_here
        candidates = current.candidates
        patch = None if candidates is None else candidates.patch(current.chosen)
        if self.prompts is not None:
            if patch is None or document.plane is None or self.image is None:
                self.prompts.draw_preview(None, None)
            else:
                self.prompts.draw_preview(
                    *self.labels.on_layer(patch, self.image, document.plane, self.prompts.preview)
                )
            here = [] if document.plane is None else detections_in(document, document.plane)
            self.prompts.draw_as(here[-1].name if here else None)
            state.boxes = len(here)
        else:
            state.boxes = 0
        search = document.text_search
        state.words_found = 0 if search is None else len(search.detections)
        state.scores = () if candidates is None else tuple(float(score) for score in candidates.scores)
        state.chosen, state.editing = current.chosen, current.editing
        state.foreground = document.foreground
        state.waiting = len(document.waiting)
        state.can_undo, state.can_redo = self.history.can_undo, self.history.can_redo
        state.next_label = self.labels.typed or self.labels.next_number(self.layer)
        state.each_click = self.each_click
        self._show_live(patch)

    def _show_live(self, patch: Patch | None) -> None:
        """Read the mask on offer against the depth in use."""
        plane = self.document.plane
        live: dict[str, float] = {}
        if patch is not None and plane is not None and self.image is not None:
            depth = self._depths.on_plane(self.image, as_shown(plane)) if patch.area else None
            live = {} if depth is None else mask_readout(patch, depth)
        self._state.live = live

    def _request_answers(self) -> None:
        """Ask the model for what the document asks for, and no longer for what it does not."""
        requests = {request.key: request for request in self.document.requests if request.key not in self._refused}
        for key in self._asked.keys() - requests.keys():
            self._lane.cancel(self._asked.pop(key))
        for key, request in requests.items():
            if key in self._asked or self.image is None:
                continue
            if any(request is waiting for waiting in self.document.waiting):
                there = self.encoded is not None and self.encoded.shown == request.plane
                self._ask(request, self.encoded if there and self.encoded is not None else self._source_of(request))
            elif self.encoded is None:
                if not self.encoding:
                    self._encode()
            elif self.encoded.shown == request.plane and self._serves(self.encoded, self.document.anchors):
                self._ask(request, self.encoded)
            else:
                self._encode()

    def _serves(self, encoded: Encoded, anchors: NDArray[np.float64]) -> bool:
        """Whether what is encoded of a large picture still serves for what is looked at, and holds the anchors."""
        try:
            wanted = read_view(encoded.image, self._viewer, anchors).shown
        except LayerError:
            return True
        return serves(encoded.shown, wanted, encoded.image, anchors)

    def _source_of(self, request: DecodeRequest) -> PlaneSource:
        """Return the plane of a waiting object that is not encoded yet."""
        wanted, image = self._wanted, self.image
        if wanted is not None and wanted.shown == request.plane:
            return wanted
        assert image is not None
        return read_plane(image, self._viewer, as_shown(request.plane))

    def _ask(self, request: DecodeRequest, place: Encoded | PlaneSource) -> None:
        image, variant, recheck = self.image, self.variant, self._recheck
        assert image is not None

        def work(report: Report) -> Candidates | None:
            encoded = place if isinstance(place, Encoded) else self.planes.encode(image, place, variant, report)
            if not isinstance(place, Encoded):
                return decode(encoded, request)
            if recheck and encoded.source.render().key != encoded.plane.key:
                return None
            return decode(encoded, request)

        def done(candidates: Candidates | None) -> None:
            self._asked.pop(request.key, None)
            if candidates is None:
                self._state.say("")
                self.drop_plane()
                self._encode()
                return
            if recheck:
                self._recheck = False
            self._take(request.key, candidates)

        def failed(error: Exception) -> None:
            self._asked.pop(request.key, None)
            if any(waiting.key == request.key for waiting in self.document.waiting):
                self.dispatch(GiveUp(request.key))
            self.fail(error)

        self._asked[request.key] = kind = f"decode {request.key}"
        self._lane.submit(kind, work, done, failed, urgent=isinstance(place, Encoded))

    def _take(self, key: int, candidates: Candidates) -> None:
        """A model answered: its masks are on offer, or the waiting object is written."""
        try:
            self.dispatch(Answer(key, candidates))
        except AlreadyLabelled as error:
            self._state.occupied = error.label
            self._state.say(str(error), problem=True)
            self.dispatch(GiveUp(key))
        except LayerError as error:
            # nothing is lost: it is written when that is possible again
            self._refused[key] = candidates
            self._state.say(str(error), problem=True)

    def _encode(self, source: PlaneSource | None = None, patience: float = 0.0) -> None:
        """Encode the shown slice when `patience` seconds have passed without another request."""
        if self.image is None:
            return
        if self._given_up:
            self._state.say("The model is not loaded; press Start to load it.", problem=True)
            return
        try:
            source = source or self.read(self.image, self.document.anchors)
        except LayerError as error:
            self.fail(error)
            return
        image, variant, plane = self.image, self.variant, source
        self.encoded, self._wanted, self._recheck = None, source, False
        self._state.say("")
        self._state.phase = "busy"
        self._state.task, self._state.progress = f"loading {short_name(variant.model)}", 0.0

        def work(report: Report) -> Encoded:
            end = time.monotonic() + patience
            while time.monotonic() < end:
                report(0.0, "encoding")
                time.sleep(0.02)
            return self.planes.encode(image, plane, variant, report)

        def done(encoded: Encoded) -> None:
            self.encoded, self._worked = encoded, variant
            self.planes.keep_only(variant)
            self._state.device = encoded.segmenter.device
            self._state.device_reason = encoded.segmenter.device_reason
            self._state.phase = "ready"
            self._show_plane(encoded)
            if not_kept := self.planes.cache.take_message():
                self._state.say(not_kept, problem=True)

        # a search goes on in its slice; another one is not kept waiting for it
        self._lane.submit("embed", work, done, self._encode_failed, urgent=self._lane.busy(*SEARCHES))

    def _show_plane(self, encoded: Encoded) -> None:
        """Let the document be of the plane, or the part of it, that is encoded now."""
        editing, base = self.document.current_here.editing, None
        if editing and encoded.shown != self.document.plane:
            try:
                base = self.labels.mask_of(editing, self.layer, encoded.image, encoded.shown)
            except LayerError:
                base = None
        if encoded.shown != self.document.plane:
            self.history = self.history.without_masks()
        self.dispatch(ShowPlane(encoded.shown, base, encoded.shown.shape))

    def _encode_failed(self, error: Exception) -> None:
        """Go on with the model that worked before where another one could not be loaded."""
        worked, wanted = self._worked, self._wanted
        if worked is None or worked == self.variant or not self.planes.loaded(worked) or wanted is None:
            self.fail(error)
            return
        self.variant = worked
        self._state.model = worked.model
        self._encode(wanted)
        self.fail(error)

    def _attempt(self, action: Any) -> None:
        """Do something outside of a dock, where nobody else would show a refusal."""
        try:
            action()
        except LayerError as error:
            self._state.say(str(error), problem=True)
