"""What can happen to a document, and what it does: a document and an action give the next document.

Beside it a transition names the masks to be written as labels, and a word for the user. It looks at nothing else, so
that every one of them is tested without a viewer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.annotation.document import (
    DRAWN,
    AutoMasks,
    DecodeRequest,
    DetectionBox,
    Document,
    DrawnPrompts,
    PlaneView,
    TextSearch,
    box_in_plane,
)
from napari_samdepth.core.candidates import Candidates, Patch

NOTHING_THERE = "There is no mask to accept: the model found nothing where you clicked."
ONLY_BACKGROUND = "Background clicks alone mark nothing; click on the object, too."


@dataclass(frozen=True, eq=False)
class StartImage:
    """An image is annotated from now on.

    Attributes
    ----------
    image
        Its id.
    plane
        The slice that is shown.
    drawn
        What the prompt layers hold already.
    used
        Empty (0, ndim) where the points lie in a layer of the user's, None where the layer is the session's own.
    """

    image: str
    plane: PlaneView
    drawn: DrawnPrompts
    used: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class LeaveImage:
    """No image is annotated any longer."""


@dataclass(frozen=True, eq=False)
class ShowPlane:
    """Another slice is shown, or another part of it, or (None) none.

    `base` are the pixels of the label being refined in that part, None where none is.
    """

    plane: PlaneView | None
    base: Patch | None = None
    shape: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class ForgetMasks:
    """The masks on offer are void: the image looks different, or another model answers. `mask_input` as well."""


@dataclass(frozen=True, eq=False)
class DrawPrompts:
    """The user changed what the prompt layers hold; with `accept` each point makes an object of its own."""

    drawn: DrawnPrompts
    accept: bool = False


@dataclass(frozen=True, eq=False)
class Answer:
    """A model answered to the request `key`."""

    key: int
    candidates: Candidates


@dataclass(frozen=True, eq=False)
class GiveUp:
    """No model will answer to the waiting request `key`, or its mask makes no label."""

    key: int


@dataclass(frozen=True, eq=False)
class ChooseCandidate:
    """Another of the masks on offer is shown."""

    index: int


@dataclass(frozen=True, eq=False)
class AcceptObject:
    """The object being made is done: it becomes a label, now or when its mask is there."""


@dataclass(frozen=True, eq=False)
class ClearObject:
    """The object being made is dropped, with its prompts."""


@dataclass(frozen=True, eq=False)
class RefineLabel:
    """A label of the shown slice is taken up: `base` are its pixels, in a plane of `shape` (H, W)."""

    label: int
    base: Patch
    shape: tuple[int, int]


@dataclass(frozen=True, eq=False)
class SetForeground:
    """What a plain click means from now on."""

    foreground: bool


@dataclass(frozen=True, eq=False)
class UseLabels:
    """The masks of an image go to this Labels layer (id) from now on; "" for a new one."""

    image: str
    labels: str


@dataclass(frozen=True, eq=False)
class SetAutoMasks:
    """Automatic masks were found; None: they were added or discarded."""

    auto_masks: AutoMasks | None


@dataclass(frozen=True, eq=False)
class SetDetections:
    """The detection boxes of a slice are these from now on.

    Attributes
    ----------
    plane
        The slice.
    boxes
        All detection boxes there.
    search
        What a text prompt found there, None where that is done with.
    step
        Whether this can be undone by itself.
    """

    plane: PlaneView
    boxes: tuple[DetectionBox, ...]
    search: TextSearch | None
    step: bool


@dataclass(frozen=True, eq=False)
class EditLabels:
    """Labels were changed by a tool (delete, merge, split …); the object being made stays as it is."""


Action = (
    StartImage
    | LeaveImage
    | ShowPlane
    | ForgetMasks
    | DrawPrompts
    | Answer
    | GiveUp
    | ChooseCandidate
    | AcceptObject
    | ClearObject
    | RefineLabel
    | SetForeground
    | UseLabels
    | SetAutoMasks
    | SetDetections
    | EditLabels
)


@dataclass(frozen=True, eq=False)
class MaskWrite:
    """A mask that is to become a label.

    Attributes
    ----------
    request
        What was asked: image, slice, prompts, and the label being refined (0 for a new one).
    patch
        The mask, in plane pixels.
    """

    request: DecodeRequest
    patch: Patch


@dataclass(frozen=True, eq=False)
class Change:
    """What an action does.

    Attributes
    ----------
    document
        The document from now on.
    writes
        Masks to be written as labels; where that is refused, nothing of the change holds.
    step
        Whether it can be undone by itself.
    settles
        Key of the waiting object that `writes` belong to: they are part of the step that accepted it.
    say
        A sentence for the user, "" for none.
    """

    document: Document
    writes: tuple[MaskWrite, ...] = ()
    step: bool = False
    settles: int | None = None
    say: str = ""


def transition(document: Document, action: Action) -> Change:
    """Return what `action` does to `document`; neither is changed, nothing else is looked at."""
    match action:
        case StartImage():
            return Change(_started(document, action))
        case LeaveImage():
            return Change(replace(Document(foreground=document.foreground), **_kept(document)))
        case ShowPlane():
            return Change(_shown(document, action))
        case ForgetMasks():
            return Change(_without_masks(document))
        case DrawPrompts():
            return _drawn(document, action)
        case Answer():
            return _answered(document, action)
        case GiveUp():
            return Change(document.settled(action.key))
        case ChooseCandidate():
            return _chosen(document, action.index)
        case AcceptObject():
            return _accepted(document)
        case ClearObject():
            return _cleared(document)
        case RefineLabel():
            return _refining(document, action)
        case SetForeground():
            return Change(replace(document, foreground=action.foreground))
        case UseLabels():
            targets = {**document.targets, action.image: action.labels}
            kept = {image: labels for image, labels in targets.items() if labels}
            return Change(replace(document, targets=MappingProxyType(kept)))
        case SetAutoMasks():
            return Change(replace(document, auto_masks=action.auto_masks), step=True)
        case SetDetections():
            return _detected(document, action)
        case EditLabels():
            return Change(document, step=True)


def detections_in(document: Document, plane: PlaneView) -> list[DetectionBox]:
    """Return the detection boxes that lie in a slice."""
    return [box for box in document.drawn.detections if box_in_plane(box.corners, plane) is not None]


def _kept(document: Document) -> dict[str, Any]:
    return {"targets": document.targets, "serial": document.serial + 1}


def _started(document: Document, action: StartImage) -> Document:
    begun = replace(
        Document(image=action.image, plane=action.plane, drawn=action.drawn, used=action.used),
        foreground=document.foreground,
        **_kept(document),
    )
    return begun.renewed()


def _shown(document: Document, action: ShowPlane) -> Document:
    plane, current = action.plane, document.current_here
    after = replace(document, plane=plane)
    if plane is None or plane.slice_key != document.slice_key:
        # answers for the old slice are void; its prompts stay there
        return after.renewed()
    if plane == document.plane:
        return after
    if action.base is None:
        return after.renewed()
    offered = Candidates.of_masks([action.base], image_shape=action.shape) if document.here.empty else None
    return after.renewed(editing=current.editing, base=action.base, candidates=offered)


def _without_masks(document: Document) -> Document:
    current = document.current
    if current.editing and document.here.empty:
        return document
    return document.renewed(editing=current.editing, base=current.base)


def _drawn(document: Document, action: DrawPrompts) -> Change:
    before, drawn = document.drawn, action.drawn
    if drawn.same(before):
        return Change(document)
    gone = {box.number for box in before.detections} - {box.number for box in drawn.detections}
    after = replace(document, drawn=drawn, dropped=document.dropped | (gone - {DRAWN}))
    if drawn.same_prompts(before):
        return Change(after, step=True)
    current = document.current_here
    candidates, mask_input = current.candidates, None
    if drawn.extends(before):
        fed = () if candidates is None else candidates.feedback
        mask_input = current.mask_input if candidates is None else fed[current.chosen] if fed else None
    after = after.renewed(mask_input=mask_input, editing=current.editing, base=current.base)
    if action.accept and len(drawn.points) > len(before.points):
        return _accepted(after)
    here = after.here
    alone = not here.empty and after.asked is None and not here.positive
    return Change(after, step=True, say=ONLY_BACKGROUND if alone else "")


def _answered(document: Document, action: Answer) -> Change:
    waited = next((request for request in document.waiting if request.key == action.key), None)
    if waited is None:
        return Change(document.answered(action.key, action.candidates))
    patch = action.candidates.patch(action.candidates.best)
    after = document.settled(action.key)
    if not patch.area:
        return Change(after, say=NOTHING_THERE)
    return Change(after, (MaskWrite(waited, patch),), settles=action.key)


def _chosen(document: Document, index: int) -> Change:
    current = document.current
    if current.candidates is None or not 0 <= index < len(current.candidates) or index == current.chosen:
        return Change(document)
    return Change(replace(document, current=replace(current, chosen=index)), step=True)


def _accepted(document: Document) -> Change:
    current, asked = document.current_here, document.asked
    if current.editing and document.here.empty:
        # nobody clicked: the label is its own pixels still
        return Change(_next_object(document), step=True, say=f"Label {current.editing} stays as it was.")
    if asked is None or document.plane is None:
        return Change(document)
    after = _next_object(document)
    if current.candidates is None:
        return Change(replace(after, waiting=(*document.waiting, asked)), step=True)
    patch = current.candidates.patch(current.chosen)
    if not patch.area and not current.editing:
        return Change(document, say=NOTHING_THERE)
    return Change(after, (MaskWrite(asked, patch),), step=True)


def _cleared(document: Document) -> Change:
    current = document.current_here
    if document.drawn.empty and current.candidates is None and not current.editing:
        # nothing is being made: the object that was accepted last is taken back, if it still waits
        return Change(replace(document, waiting=document.waiting[:-1]), step=bool(document.waiting))
    return Change(_next_object(document), step=True)


def _refining(document: Document, action: RefineLabel) -> Change:
    after = _next_object(document)
    candidates = Candidates.of_masks([action.base], image_shape=action.shape)
    return Change(after.renewed(editing=action.label, base=action.base, candidates=candidates), step=True)


def _next_object(document: Document) -> Document:
    """Return the document with nothing being made: the prompts of the shown slice are gone, or (a user's) used."""
    here = document.here
    rest = document.drawn.without_prompts() if document.plane is None else document.drawn.outside(document.plane)
    used = document.used
    if used is not None:
        used = np.concatenate([used, document.drawn.points if document.plane is None else here.points])
    return replace(document, drawn=rest, used=used).renewed()


def _detected(document: Document, action: SetDetections) -> Change:
    there = set(detections_in(document, action.plane))
    rest = [box for box in document.drawn.detections if box not in there]
    key = action.plane.slice_key
    searches = [search for search in document.text_searches if search.plane.slice_key != key]
    after = replace(
        document,
        drawn=replace(document.drawn, detections=(*rest, *action.boxes)),
        text_searches=(*searches, *([] if action.search is None else [action.search])),
    )
    return Change(after, step=action.step)
