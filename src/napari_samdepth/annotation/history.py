"""Undo and redo: earlier documents and label edits that revert, within a budget in bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from napari_samdepth.annotation.document import Document, DrawnPrompts, PlaneView
from napari_samdepth.core.labelling import LabelPatch

BUDGET = 256 * 2**20
"""Bytes that the history may hold."""
RECENT = 10
"""Steps whose masks are kept to be shown at once; the masks of older ones are decoded anew."""


@dataclass(frozen=True, eq=False)
class LabelEdit:
    """A change of a Labels layer that applies and reverts.

    Attributes
    ----------
    layer
        Id of the layer.
    plane
        The slice of the layer.
    change
        What changed there.
    created
        Numbers of the labels that are new.
    prompts
        What was drawn to make the label, in data pixels of the image; None for other edits.
    """

    layer: str
    plane: PlaneView
    change: LabelPatch
    created: tuple[int, ...] = ()
    prompts: DrawnPrompts | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that the edit holds; labels that are all the same take none."""
        arrays = (self.change.before, self.change.after)
        return int(self.change.changed.nbytes) + sum(int(a.nbytes) for a in arrays if a.strides != (0,))


@dataclass(frozen=True, eq=False)
class Step:
    """One thing the user did.

    Attributes
    ----------
    before, after
        The document before and after it.
    edits
        The labels that it changed, in order.
    layer, plane
        Where it was done: id of a layer, and the slice of it that was shown; "" and None where none was.
    """

    before: Document
    after: Document
    edits: tuple[LabelEdit, ...] = ()
    layer: str = ""
    plane: PlaneView | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that the step holds beside those of its neighbours."""
        found = self.after.auto_masks or self.before.auto_masks
        masks = 0 if self.after.auto_masks is self.before.auto_masks or found is None else found.found.nbytes
        return self.after.nbytes + masks + sum(edit.nbytes for edit in self.edits)


@dataclass(frozen=True, eq=False)
class History:
    """Two stacks of steps, as a value.

    Attributes
    ----------
    done, undone
        Steps that can be undone, the latest last; steps that can be done again, the latest undone last.
    budget
        Bytes that they may hold: beyond, the masks of older steps are forgotten, then the oldest steps.
    """

    done: tuple[Step, ...] = ()
    undone: tuple[Step, ...] = ()
    budget: int = BUDGET

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to undo."""
        return bool(self.done)

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to do again."""
        return bool(self.undone)

    @property
    def nbytes(self) -> int:
        """Bytes that the steps hold."""
        return sum(step.nbytes for step in (*self.done, *self.undone))

    def pushed(self, step: Step) -> History:
        """Return the history after the user did something; what was undone before is gone."""
        done = [*self.done, step]
        if len(done) > RECENT:
            done[-RECENT - 1] = _light(done[-RECENT - 1])
        return replace(self, undone=())._bounded(done)

    def undo(self) -> tuple[Step | None, History]:
        """Return the step to take back, None if there is none, and the history after it."""
        if not self.done:
            return None, self
        return self.done[-1], replace(self, done=self.done[:-1], undone=(*self.undone, self.done[-1]))

    def redo(self) -> tuple[Step | None, History]:
        """Return the step to do again, None if there is none, and the history after it."""
        if not self.undone:
            return None, self
        return self.undone[-1], replace(self, done=(*self.done, self.undone[-1]), undone=self.undone[:-1])

    def amended(self, change: Callable[[Document], Document]) -> History:
        """Return the history with every document changed: an answer came in later than the step that asks for it."""

        def both(step: Step) -> Step:
            before, after = change(step.before), change(step.after)
            if before is step.before and after is step.after:
                return step
            return replace(step, before=before, after=after)

        return replace(self, done=tuple(map(both, self.done)), undone=tuple(map(both, self.undone)))

    def written(self, key: int, edits: tuple[LabelEdit, ...]) -> History:
        """Return the history in which the step that accepted the waiting object `key` has these edits."""
        done = list(self.done)
        for at, step in enumerate(done):
            if _waits(step.after, key) and not _waits(step.before, key):
                done[at] = replace(step, edits=(*step.edits, *edits))
        return self._bounded(done).amended(lambda document: document.settled(key))

    def without_masks(self) -> History:
        """Return the history whose masks are decoded anew when a step is gone back to."""
        return replace(self, done=tuple(map(_light, self.done)), undone=tuple(map(_light, self.undone)))

    def label_edits(self, nothing: Document) -> History:
        """Return only what changed labels, with `nothing` before and after: the prompts' layers are gone."""
        kept = tuple(replace(step, before=nothing, after=nothing) for step in self.done if step.edits)
        return replace(self, done=kept, undone=())

    def _bounded(self, done: list[Step]) -> History:
        total = sum(step.nbytes for step in done)
        at = 0
        while total > self.budget and at < len(done) - 1:
            lighter = _light(done[at])
            total -= done[at].nbytes - lighter.nbytes
            done[at] = lighter
            at += 1
        first = 0
        while total > self.budget and first < len(done) - 1:
            total -= done[first].nbytes
            first += 1
        return replace(self, done=tuple(done[first:]))


def _waits(document: Document, key: int) -> bool:
    return any(request.key == key for request in document.waiting)


def _light(step: Step) -> Step:
    before, after = step.before.light(), step.after.light()
    if before is step.before and after is step.after:
        return step
    return replace(step, before=before, after=after)
