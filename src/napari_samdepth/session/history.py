"""Undo and redo over prompts, masks on offer and accepted labels alike."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.candidates import Candidates, MaskInput
from napari_samdepth.core.labelling import LabelPatch
from napari_samdepth.session.searches import DRAWN, FoundBox, Sought, WholeImage


@dataclass(frozen=True, eq=False)
class PromptState:
    """What the prompt layers hold.

    Attributes
    ----------
    points
        (n, ndim) in data pixels of the Points layer.
    labels
        (n,) int64, 1 foreground, 0 background.
    boxes
        Each (4, ndim): the corners of a rectangle in data pixels of the Shapes layer.
    found
        Boxes of several objects, for masks to be made of; they are no prompts of the object being made.
    """

    points: NDArray[np.float64]
    labels: NDArray[np.int64]
    boxes: tuple[NDArray[np.float64], ...] = ()
    found: tuple[FoundBox, ...] = ()

    @classmethod
    def nothing(cls, ndim: int) -> PromptState:
        """Return what empty layers of `ndim` dimensions hold."""
        return cls(np.zeros((0, ndim)), np.zeros(0, dtype=np.int64))

    @property
    def empty(self) -> bool:
        """Whether there is no prompt in the layers."""
        return len(self.points) == 0 and not self.boxes

    def same(self, other: PromptState) -> bool:
        """Whether both hold the same."""
        return (
            self.same_prompts(other)
            and len(self.found) == len(other.found)
            and all(a.same(b) for a, b in zip(self.found, other.found, strict=True))
        )

    def same_prompts(self, other: PromptState) -> bool:
        """Whether both hold the same prompts, whatever words found."""
        return (
            np.array_equal(self.points, other.points)
            and np.array_equal(self.labels, other.labels)
            and len(self.boxes) == len(other.boxes)
            and all(np.array_equal(a, b) for a, b in zip(self.boxes, other.boxes, strict=True))
        )

    def extends(self, earlier: PromptState) -> bool:
        """Whether this is `earlier` with more points and the same box, so that its mask may be refined."""
        count = len(earlier.points)
        head = PromptState(self.points[:count], self.labels[:count], self.boxes)
        return len(self.points) > count and head.same_prompts(earlier)


@dataclass(frozen=True, eq=False)
class Moment:
    """The object being made, its prompts and the masks on offer for them, and what searches found beside it.

    Attributes
    ----------
    prompts
        What the prompt layers hold.
    slice_key
        The slice that the candidates belong to.
    candidates
        The masks on offer, None until they are decoded.
    chosen
        Index of the mask shown.
    feed
        (h, w) logits given to the decoder with the prompts, or None.
    editing
        Label being refined, 0 if a new one is made.
    whole
        What the whole-image search found, None where there is none, or it was added or discarded.
    sought
        What words found, one search a slice.
    dropped
        Numbers of the boxes that words found and the user deleted.
    """

    prompts: PromptState
    slice_key: tuple[int, ...] = ()
    candidates: Candidates | None = None
    chosen: int = 0
    feed: MaskInput | None = None
    editing: int = 0
    whole: WholeImage | None = None
    sought: tuple[Sought, ...] = ()
    dropped: frozenset[int] = frozenset()

    def edited(self, prompts: PromptState) -> Moment:
        """Return the moment after the user changed what the layers hold; the masks on offer stay."""
        gone = {box.number for box in self.prompts.found} - {box.number for box in prompts.found}
        return replace(self, prompts=prompts, dropped=self.dropped | (gone - {DRAWN}))

    def turned(
        self,
        prompts: PromptState,
        slice_key: tuple[int, ...],
        feed: MaskInput | None = None,
        editing: int = 0,
    ) -> Moment:
        """Return the moment after a change of prompts, for which masks are not on offer yet."""
        return replace(self.edited(prompts), slice_key=slice_key, candidates=None, chosen=0, feed=feed, editing=editing)

    def asks_as(self, other: Moment) -> bool:
        """Whether the masks asked for are the same, and not there yet."""
        asked, others = (self.slice_key, self.editing), (other.slice_key, other.editing)
        same = self.prompts.same_prompts(other.prompts) and self.feed is other.feed
        return same and asked == others and self.candidates is None

    @property
    def feedback(self) -> MaskInput | None:
        """What may be fed back of the mask shown, None where nothing may."""
        if self.candidates is None or not self.candidates.feedback:
            return None
        return self.candidates.feedback[self.chosen]


@dataclass(frozen=True, eq=False)
class Commit:
    """A change of a Labels layer: the layer object, the plane, what changed there and which labels are new."""

    layer: Any
    shown: Any
    change: LabelPatch
    created: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Place:
    """Where something was done: a layer, and the plane of it that was shown."""

    layer: Any
    shown: Any


@dataclass(frozen=True, eq=False)
class Step:
    """One thing the user did, from `before` to `after`, with the labels it wrote and the place where it was done."""

    before: Moment
    after: Moment
    commit: Commit | None = None
    place: Place | None = None


@dataclass
class History:
    """Two stacks of steps; beyond `limit` they are forgotten, beyond `recent` their masks are (and decoded anew)."""

    limit: int = 200
    recent: int = 10
    _undo: list[Step] = field(default_factory=list)
    _redo: list[Step] = field(default_factory=list)

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to undo."""
        return bool(self._undo)

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to redo."""
        return bool(self._redo)

    def push(self, step: Step) -> None:
        """Add what the user just did; what was undone before is gone."""
        self._undo.append(step)
        del self._undo[: -self.limit]
        for position in range(len(self._undo) - self.recent):
            self._undo[position] = _light(self._undo[position])
        self._redo.clear()

    def amend(self, old: Moment, new: Moment) -> None:
        """Replace a moment wherever steps hold it, as its answer comes in later than the step."""

        def swap(step: Step) -> Step:
            before = new if step.before is old else step.before
            after = new if step.after is old else step.after
            return replace(step, before=before, after=after)

        self._undo = [swap(step) for step in self._undo]
        self._redo = [swap(step) for step in self._redo]

    def undo(self) -> Step | None:
        """Take back the last step and return it, None if there is none."""
        return _move(self._undo, self._redo)

    def redo(self) -> Step | None:
        """Do the last undone step again and return it, None if there is none."""
        return _move(self._redo, self._undo)

    def forget_masks(self) -> None:
        """Forget the masks on offer in every step: they are decoded anew when a step is gone back to."""
        self._undo = [_light(step) for step in self._undo]
        self._redo = [_light(step) for step in self._redo]

    def keep_commits(self, nothing: Moment) -> None:
        """Keep only what wrote labels, with `nothing` before and after: the prompts' layers are gone."""
        self._undo = [Step(nothing, nothing, step.commit, step.place) for step in self._undo if step.commit is not None]
        self._redo = []


def _light(step: Step) -> Step:
    """Return the step without candidates, which can take megabytes each."""
    if all(moment.candidates is None and moment.feed is None for moment in (step.before, step.after)):
        return step
    return replace(
        step,
        before=replace(step.before, candidates=None, feed=None),
        after=replace(step.after, candidates=None, feed=None),
    )


def _move(source: list[Step], target: list[Step]) -> Step | None:
    if not source:
        return None
    step = source.pop()
    target.append(step)
    return step
