"""The document: all that an annotation is at one moment, as one frozen value, and what the user has drawn in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.candidates import Candidates, MaskInput, Patch
from napari_samdepth.core.detections import Detections
from napari_samdepth.core.maskset import MaskSet

ShapeKind = Literal["box", "scribble", "lasso"]

DRAWN = -1
"""Number of a detection box that the user drew."""


class PlaneView(Protocol):
    """What the annotation knows of a slice of the image."""

    @property
    def slice_key(self) -> tuple[int, ...]:
        """What identifies the slice."""

    def holds(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return for data points (n, ndim) whether they lie in the slice (n,) bool."""

    def to_data(self, points_rc: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return plane points (n, 2) (row, col) as data points (n, ndim)."""

    def from_data(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return data points (n, ndim) as plane points (n, 2) (row, col)."""


@dataclass(frozen=True, eq=False)
class DrawnShape:
    """A shape that is a prompt.

    Attributes
    ----------
    kind
        "box": the object lies within; "scribble": the object (or background) lies along; "lasso": around the object.
    vertices
        (k, ndim) in data pixels of the image; the corners of a box.
    label
        1 foreground, 0 background (scribbles alone).
    """

    kind: ShapeKind
    vertices: NDArray[np.float64]
    label: int = 1

    def same(self, other: DrawnShape) -> bool:
        """Whether both say the same."""
        return (self.kind, self.label) == (other.kind, other.label) and _same_places(self.vertices, other.vertices)


@dataclass(frozen=True, eq=False)
class DetectionBox:
    """A box that a text prompt found, or that was drawn beside such.

    Attributes
    ----------
    corners
        (4, ndim): the corners of a rectangle in data pixels of the image.
    name
        The phrase that found it.
    score
        How sure the detector was, NaN for one drawn by hand.
    number
        Which of the detections it came from (see `TextSearch.first`), -1 for one drawn by hand.
    """

    corners: NDArray[np.float64]
    name: str
    score: float
    number: int

    def same(self, other: DetectionBox) -> bool:
        """Whether both are the same box of the same object."""
        return (self.number, self.name) == (other.number, other.name) and _same_places(
            self.corners, other.corners, 1e-3
        )


@dataclass(frozen=True, eq=False)
class DrawnPrompts:
    """What the prompt layers hold, in all slices.

    Attributes
    ----------
    points
        (n, ndim) float64 in data pixels of the image.
    labels
        (n,) int64, 1 foreground, 0 background.
    shapes
        Boxes, scribbles and lassos of the object being made.
    detections
        Boxes of several objects, for masks to be made of; they are no prompts of the object being made.
    """

    points: NDArray[np.float64]
    labels: NDArray[np.int64]
    shapes: tuple[DrawnShape, ...] = ()
    detections: tuple[DetectionBox, ...] = ()

    @classmethod
    def nothing(cls, ndim: int) -> DrawnPrompts:
        """Return what empty layers of `ndim` dimensions hold."""
        return cls(np.zeros((0, ndim)), np.zeros(0, dtype=np.int64))

    @property
    def ndim(self) -> int:
        """Number of dimensions of the image."""
        return int(self.points.shape[1])

    @property
    def empty(self) -> bool:
        """Whether there is no prompt of the object being made."""
        return len(self.points) == 0 and not self.shapes

    @property
    def positive(self) -> bool:
        """Whether something says where the object is: a foreground point or scribble, a box or a lasso."""
        return bool((self.labels == 1).any()) or any(s.kind != "scribble" or s.label == 1 for s in self.shapes)

    def same(self, other: DrawnPrompts) -> bool:
        """Whether both hold the same."""
        return self.same_prompts(other) and _all_same(self.detections, other.detections)

    def same_prompts(self, other: DrawnPrompts) -> bool:
        """Whether both hold the same prompts, whatever text prompts found."""
        return (
            _same_places(self.points, other.points)
            and np.array_equal(self.labels, other.labels)
            and _all_same(self.shapes, other.shapes)
        )

    def extends(self, earlier: DrawnPrompts) -> bool:
        """Whether this is `earlier` with more points or scribbles alone, so that its mask may be refined."""
        count, marks = len(earlier.points), len(earlier.shapes)
        head = DrawnPrompts(self.points[:count], self.labels[:count], self.shapes[:marks])
        more = len(self.points) - count + len(self.shapes) - marks
        added = self.shapes[marks:]
        return more > 0 and head.same_prompts(earlier) and all(shape.kind == "scribble" for shape in added)

    def inside(self, plane: PlaneView) -> DrawnPrompts:
        """Return the prompts that lie in a slice, without detections."""
        held = plane.holds(self.points)
        shapes = tuple(shape for shape in self.shapes if plane.holds(shape.vertices).all())
        return DrawnPrompts(self.points[held], self.labels[held], shapes)

    def outside(self, plane: PlaneView) -> DrawnPrompts:
        """Return the prompts that lie in other slices, and all detections."""
        held = plane.holds(self.points)
        shapes = tuple(shape for shape in self.shapes if not plane.holds(shape.vertices).all())
        return DrawnPrompts(self.points[~held], self.labels[~held], shapes, self.detections)

    def without_prompts(self) -> DrawnPrompts:
        """Return the detections alone."""
        return replace(DrawnPrompts.nothing(self.ndim), detections=self.detections)


def box_in_plane(corners: NDArray[np.float64], plane: PlaneView) -> tuple[float, float, float, float] | None:
    """Return corners (k, ndim) in data pixels as (row_min, col_min, row_max, col_max) in plane pixels.

    None where they lie in another slice, or span no width or height.
    """
    if not plane.holds(corners).all():
        return None
    mapped = plane.from_data(corners)
    low, high = mapped.min(axis=0), mapped.max(axis=0)
    if not (high > low).all():
        return None
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _same_places(ours: NDArray[np.float64], theirs: NDArray[np.float64], off: float = 1e-6) -> bool:
    """Whether points lie in the same places, but for what going through the world and back rounds."""
    return ours.shape == theirs.shape and bool(np.allclose(ours, theirs, rtol=0, atol=off))


def _all_same(ours: Sequence[DrawnShape | DetectionBox], theirs: Sequence[DrawnShape | DetectionBox]) -> bool:
    return len(ours) == len(theirs) and all(_same(a, b) for a, b in zip(ours, theirs, strict=True))


def _same(a: DrawnShape | DetectionBox, b: DrawnShape | DetectionBox) -> bool:
    if isinstance(a, DrawnShape):
        return isinstance(b, DrawnShape) and a.same(b)
    return isinstance(b, DetectionBox) and a.same(b)


@dataclass(frozen=True, eq=False)
class CurrentObject:
    """The object being made: what was answered to its prompts so far.

    Attributes
    ----------
    key
        Number of what is asked: another one whenever its prompts change, so that a late answer is known as such.
    slice_key
        The slice that it lies in, () before any is shown.
    candidates
        The masks on offer, None until they are decoded.
    chosen
        Index of the mask shown.
    mask_input
        What an earlier decode gave, to be decoded with the prompts; None for a new object.
    editing
        Number of the label being refined, 0 where a new one is made.
    base
        The pixels of that label, in plane pixels.
    """

    key: int = 0
    slice_key: tuple[int, ...] = ()
    candidates: Candidates | None = None
    chosen: int = 0
    mask_input: MaskInput | None = None
    editing: int = 0
    base: Patch | None = None


@dataclass(frozen=True, eq=False)
class DecodeRequest:
    """An object whose masks are asked for.

    Attributes
    ----------
    key
        As in `CurrentObject.key`.
    image
        Id of the image.
    plane
        The slice.
    prompts
        What was drawn in that slice.
    mask_input, editing, base
        As in `CurrentObject`.
    """

    key: int
    image: str
    plane: PlaneView
    prompts: DrawnPrompts
    mask_input: MaskInput | None = None
    editing: int = 0
    base: Patch | None = None


@dataclass(frozen=True, eq=False)
class AutoMasks:
    """All masks found in a slice, whatever their scores, and where: the image's id, the slice."""

    found: MaskSet
    image: str
    plane: PlaneView


@dataclass(frozen=True, eq=False)
class TextSearch:
    """All that a text prompt found in a slice, whatever the scores.

    Attributes
    ----------
    detections
        The objects.
    plane
        The slice.
    first
        Number of the first detection's box; those that follow count on. No two searches share a number.
    """

    detections: Detections
    plane: PlaneView
    first: int

    def boxes(self, threshold: float, overlap: float, without: frozenset[int]) -> list[DetectionBox]:
        """Return the boxes above a score, the surest first, of which no two overlap more (IoU), `without` some."""
        indices = self.detections.above(threshold, overlap)
        return [self.box(int(index)) for index in indices if int(index) + self.first not in without]

    def box(self, index: int) -> DetectionBox:
        """Return the box of a detection, in data pixels of the image."""
        # detections count from the first pixel's edge, layers from its centre
        top, left, bottom, right = self.detections.boxes[index] - 0.5
        corners = self.plane.to_data(np.array([[top, left], [top, right], [bottom, right], [bottom, left]]))
        name, score = self.detections.names[index], float(self.detections.scores[index])
        return DetectionBox(corners, name, score, index + self.first)

    def unmoved(self, box: DetectionBox) -> bool:
        """Whether a box is of these detections and still lies where the detector put it."""
        index = box.number - self.first
        return 0 <= index < len(self.detections) and box.same(replace(box, corners=self.box(index).corners))

    def mask(self, box: DetectionBox) -> Patch | None:
        """Return the mask that the model gave with an unmoved box, None where there is none."""
        patches = self.detections.patches
        return patches[box.number - self.first] if patches is not None and self.unmoved(box) else None


def _no_targets() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Document:
    """An annotation at one moment.

    Attributes
    ----------
    image
        Id of the image being annotated, "" for none.
    plane
        The slice that is shown, None where none is.
    drawn
        What the prompt layers hold.
    current
        The object being made.
    waiting
        Objects that were accepted before the model answered, in order.
    used
        (k, ndim) points of a layer of the user's that belong to accepted objects: they stay, and prompt no longer.
    auto_masks
        What automatic masks found, None where there is nothing, or it was added or discarded.
    text_searches
        What text prompts found, one search a slice.
    dropped
        Numbers of the detection boxes that the user deleted.
    foreground
        Whether a plain click means foreground.
    targets
        Id of the Labels layer that each image's accepted masks go to.
    serial
        The last number given to an object's key.
    """

    image: str = ""
    plane: PlaneView | None = None
    drawn: DrawnPrompts = field(default_factory=lambda: DrawnPrompts.nothing(2))
    current: CurrentObject = field(default_factory=CurrentObject)
    waiting: tuple[DecodeRequest, ...] = ()
    used: NDArray[np.float64] | None = None
    auto_masks: AutoMasks | None = None
    text_searches: tuple[TextSearch, ...] = ()
    dropped: frozenset[int] = frozenset()
    foreground: bool = True
    targets: Mapping[str, str] = field(default_factory=_no_targets)
    serial: int = 0

    @property
    def slice_key(self) -> tuple[int, ...]:
        """The slice that is shown, () if none."""
        return () if self.plane is None else self.plane.slice_key

    @property
    def here(self) -> DrawnPrompts:
        """The prompts in the shown slice."""
        return DrawnPrompts.nothing(self.drawn.ndim) if self.plane is None else self.drawn.inside(self.plane)

    @property
    def current_here(self) -> CurrentObject:
        """The object being made, as far as it belongs to the shown slice: a label is refined in its own alone."""
        current = self.current
        return current if current.slice_key in ((), self.slice_key) else CurrentObject(current.key, self.slice_key)

    @property
    def text_search(self) -> TextSearch | None:
        """What a text prompt found in the shown slice."""
        return next((s for s in self.text_searches if s.plane.slice_key == self.slice_key), None)

    @property
    def asked(self) -> DecodeRequest | None:
        """What the prompts of the current object ask for in the shown slice, None if nothing."""
        if self.plane is None or not self.image:
            return None
        current, prompts = self.current_here, self.here
        told = not prompts.empty if current.base is not None or current.mask_input is not None else prompts.positive
        if not told:
            return None
        return DecodeRequest(
            current.key, self.image, self.plane, prompts, current.mask_input, current.editing, current.base
        )

    @property
    def anchors(self) -> NDArray[np.float64]:
        """Where the prompts of the shown slice and the label being refined lie, as data points (n, ndim)."""
        here, base = self.here, self.current_here.base
        anchors = [here.points, *(shape.vertices for shape in here.shapes)]
        if base is not None and self.plane is not None and base.mask.size:
            row, col, row_end, col_end = base.box
            anchors.append(self.plane.to_data(np.array([[row, col], [row_end - 1, col_end - 1]], dtype=np.float64)))
        return np.concatenate(anchors)

    @property
    def requests(self) -> tuple[DecodeRequest, ...]:
        """The objects that a model has to answer for: those waiting, then the current one."""
        asked = self.asked if self.current_here.candidates is None else None
        return self.waiting if asked is None else (*self.waiting, asked)

    def renewed(self, **changes: Any) -> Document:
        """Return the document with another current object, whose key is new; `changes` are those of `CurrentObject`."""
        serial = self.serial + 1
        return replace(self, current=CurrentObject(serial, self.slice_key, **changes), serial=serial)

    def answered(self, key: int, candidates: Candidates) -> Document:
        """Return the document with the masks that were asked for as `key`, where it asks for them."""
        if self.current.key != key or self.current.candidates is not None:
            return self
        return replace(self, current=replace(self.current, candidates=candidates, chosen=candidates.best))

    def settled(self, key: int) -> Document:
        """Return the document without a waiting object: it is written, or given up."""
        if all(request.key != key for request in self.waiting):
            return self
        return replace(self, waiting=tuple(request for request in self.waiting if request.key != key))

    def light(self) -> Document:
        """Return the document without what a model can answer anew."""
        current = self.current
        if current.candidates is None and current.mask_input is None:
            return self
        if current.editing and self.here.empty:
            return self
        return replace(self, current=replace(current, candidates=None, mask_input=None))

    def carried(self, present: Document) -> Document:
        """Return this earlier document as it is gone back to now: what is no step of undo is as at present."""
        back = replace(
            self,
            plane=present.plane,
            foreground=present.foreground,
            targets=present.targets,
            serial=max(self.serial, present.serial) + 1,
        )
        current = replace(back.current, key=back.serial)
        if current.slice_key != back.slice_key:
            current = replace(current, candidates=None)
        return replace(back, current=current)

    @property
    def nbytes(self) -> int:
        """Bytes that this document alone holds: the masks on offer."""
        current = self.current
        candidates = current.candidates
        arrays: list[NDArray[Any]] = [] if current.base is None else [current.base.mask]
        if candidates is not None:
            arrays += [] if candidates.logits is None else [candidates.logits]
            arrays += [fed.logits for fed in candidates.feedback] + [patch.mask for patch in candidates.patches]
        return sum(int(array.nbytes) for array in arrays)
