"""What is written down of an annotation while it is made, and the work that comes out when it is read again.

A journal belongs to one Labels layer. It begins with a `JournalHeader`, goes on with what the labels held before
(`LabelsSnapshot`), and then has one entry for everything that was done: an edit, its undo, its redo, a save.
Points and vertices are in data pixels of the image, (n, ndim), at full resolution; planes are given by their axes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.labelling import IntArray, LabelPatch

ENTRY_BYTES = 700
"""What an edit takes beside its pixels, about."""
UNDO_BUDGET = 256 * 2**20
"""Bytes of edits that recovered work can undo."""


@dataclass(frozen=True)
class PlanePosition:
    """Where a plane (H, W) lies in data of any number of dimensions.

    Attributes
    ----------
    rows_axis, cols_axis
        Data axes that run down and across the plane.
    point
        For each data axis the position; unused, and set to 0, for the two axes of the plane.
    """

    rows_axis: int
    cols_axis: int
    point: tuple[int, ...]

    def __post_init__(self) -> None:
        axes = (self.rows_axis, self.cols_axis)
        if self.rows_axis == self.cols_axis or not all(0 <= axis < len(self.point) for axis in axes):
            raise ValueError(f"A plane needs two axes of {len(self.point)}, got {axes}.")
        object.__setattr__(self, "point", tuple(0 if at in axes else int(p) for at, p in enumerate(self.point)))

    def take(self, data: NDArray[Any]) -> NDArray[Any]:
        """Return the plane (H, W) as a view. Raises IndexError where `data` do not have it."""
        if data.ndim != len(self.point):
            raise IndexError(f"A plane in {len(self.point)} dimensions does not lie in data of {data.ndim}.")
        axes = (self.rows_axis, self.cols_axis)
        plane: NDArray[Any] = data[tuple(slice(None) if at in axes else p for at, p in enumerate(self.point))]
        return plane.swapaxes(0, 1) if self.rows_axis > self.cols_axis else plane


@dataclass(frozen=True, eq=False)
class PlaneChange:
    """A change of the labels in one plane."""

    plane: PlanePosition
    patch: LabelPatch

    @property
    def inverse(self) -> PlaneChange:
        """The change that takes this one back."""
        patch = self.patch
        return PlaneChange(self.plane, replace(patch, before=patch.after, after=patch.before))

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, about."""
        arrays = (self.patch.before, self.patch.after)
        return self.patch.changed.size + sum(a.itemsize if a.strides == (0,) else a.nbytes for a in arrays)


@dataclass(frozen=True, eq=False)
class PromptShape:
    """A shape that was a prompt.

    Attributes
    ----------
    kind
        "box", "scribble" or "lasso".
    vertices
        (k, ndim) float64, data pixels of the image; the corners of a box.
    label
        1 foreground, 0 background.
    """

    kind: str
    vertices: NDArray[np.float64]
    label: int = 1


@dataclass(frozen=True, eq=False)
class LabelPrompts:
    """The prompts that made a label.

    Attributes
    ----------
    label
        Its number.
    points
        (n, ndim) float64, data pixels of the image.
    point_labels
        (n,) int64, 1 foreground, 0 background.
    shapes
        Boxes, scribbles and lassos.
    plane
        The slice of the image that they lie in, None where the image has one alone.
    model
        The model that answered: catalog name or path.
    """

    label: int
    points: NDArray[np.float64]
    point_labels: NDArray[np.int64]
    shapes: tuple[PromptShape, ...] = ()
    plane: PlanePosition | None = None
    model: str = ""

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.point_labels.shape != (len(self.points),):
            raise ValueError(
                f"Prompts of a label need points (n, ndim) and a label for each, got {self.points.shape} and "
                f"{self.point_labels.shape}."
            )


@dataclass(frozen=True, eq=False)
class LayerReference:
    """What a layer was, so that it is known again in another process.

    Attributes
    ----------
    name
        Of the layer.
    path
        The file that it was read from, "" if none is known.
    shape
        Of its data, at full resolution.
    dtype
        Of its data, as numpy writes it ("uint8").
    digest
        Identity of its content when the journal began, "" if unknown (`storage.prompts.image_digest`).
    placement
        How it lies in the world, as far as JSON holds it: scale, translate, rotate, shear, affine, units, axis_labels.
    """

    name: str
    path: str
    shape: tuple[int, ...]
    dtype: str
    digest: str = ""
    placement: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class JournalHeader:
    """What a journal is about.

    Attributes
    ----------
    image, labels
        The image that is annotated, and the Labels layer.
    started
        Seconds since the epoch.
    version
        Of this package.
    empty
        Whether the labels held nothing at first. Where they did, planes without a `LabelsSnapshot` are not known.
    """

    image: LayerReference
    labels: LayerReference
    started: float
    version: str
    empty: bool = True


@dataclass(frozen=True, eq=False)
class LabelsSnapshot:
    """What the labels of a plane held, (H, W) integers; before the first edit there."""

    plane: PlanePosition
    labels: IntArray


@dataclass(frozen=True, eq=False)
class JournalEdit:
    """One step that changed labels, or what is said of them.

    Attributes
    ----------
    number
        Which one in its journal, from 1 on.
    changes
        The changed pixels, plane by plane, in the order in which they were changed.
    created
        Numbers of the labels that are new.
    prompts
        The prompts that made or refined labels.
    features
        What is said of labels, by number: name, class and other features, as far as JSON holds it.
    """

    number: int
    changes: tuple[PlaneChange, ...] = ()
    created: tuple[int, ...] = ()
    prompts: tuple[LabelPrompts, ...] = ()
    features: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def inverse(self) -> JournalEdit:
        """The edit that takes the pixels of this one back."""
        return JournalEdit(self.number, tuple(change.inverse for change in reversed(self.changes)))

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, about."""
        return ENTRY_BYTES + sum(change.nbytes for change in self.changes)


@dataclass(frozen=True)
class UndoEntry:
    """The edit of this number was taken back."""

    number: int


@dataclass(frozen=True)
class RedoEntry:
    """The edit of this number, taken back before, was done again."""

    number: int


@dataclass(frozen=True)
class SavedEntry:
    """The labels, as they are here, were saved to a file."""

    path: str = ""


Entry = JournalHeader | LabelsSnapshot | JournalEdit | UndoEntry | RedoEntry | SavedEntry


@dataclass(frozen=True, eq=False)
class RecoveredWork:
    """What a journal holds.

    Attributes
    ----------
    header
        What it is about.
    labels
        The labels as they were last, in the shape of the layer and a dtype that holds them all.
    count
        Number of labels in it.
    done
        Edits that can be undone, the latest last: take `changes` back in reverse order. As far as the budget goes.
    undone
        Edits that can be done again, the next one last.
    prompts, features
        By label, for labels that are there.
    unsaved
        Number of entries since the labels were saved last.
    complete
        Whether all labels are known: the layer was empty at first, or all its planes are in the journal. Where not, the
        rest is as it was in ``header.labels.path``.
    damaged
        Whether something could not be read and is missing.
    known
        The planes of which all labels are known, where not all are.
    """

    header: JournalHeader
    labels: IntArray
    count: int
    done: tuple[JournalEdit, ...]
    undone: tuple[JournalEdit, ...]
    prompts: Mapping[int, LabelPrompts]
    features: Mapping[int, Mapping[str, Any]]
    unsaved: int
    complete: bool
    damaged: bool
    known: frozenset[PlanePosition] = frozenset()


def replayed(entries: Sequence[Entry], damaged: bool = False, budget: int = UNDO_BUDGET) -> RecoveredWork:
    """Return the work that the entries of a journal make, in their order.

    Parameters
    ----------
    entries
        A `JournalHeader` among them; what does not fit the others is left out and makes the work `damaged`.
    damaged
        Whether entries are missing.
    budget
        Bytes of edits kept for undo; the oldest beyond it are left out (their pixels are not).

    Raises
    ------
    ValueError
        If there is no header.
    """
    replay = _Replay(entries)
    kept = _newest(replay.done, budget)
    present = {label for label, count in replay.counts.items() if count > 0 and label != 0}
    return RecoveredWork(
        header=replay.header,
        labels=replay.labels,
        count=len(present),
        done=tuple(edit for edit in replay.done[len(replay.done) - kept :] if edit.number),
        undone=tuple(replay.undone),
        prompts={label: one for label, one in _prompts(replay.done).items() if label in present},
        features={label: one for label, one in _features(replay.done).items() if label in present},
        unsaved=replay.unsaved,
        complete=replay.header.empty or _covers(replay.known, replay.labels.shape),
        damaged=damaged or replay.misfits > 0,
        known=frozenset(replay.known),
    )


def compacted(entries: Sequence[Entry], budget: int) -> list[Entry]:
    """Return fewer entries that make the same work: the oldest edits become a snapshot of the planes that they changed.

    Parameters
    ----------
    entries
        As in `replayed`.
    budget
        Bytes (`JournalEdit.nbytes`) of the newest edits that stay edits.

    Raises
    ------
    ValueError
        If there is no header.
    """
    replay = _Replay(entries)
    kept = _newest(replay.done, budget)
    folded, recent = replay.done[: len(replay.done) - kept], replay.done[len(replay.done) - kept :]
    for edit in reversed(recent):
        replay.write(edit.inverse)
    found: list[Entry] = [replay.header]
    for plane in replay.planes:
        found.append(LabelsSnapshot(plane, plane.take(replay.labels).copy()))
    if replay.saved is not None and replay.unsaved:
        found.append(replay.saved)
    if folded:
        found.append(JournalEdit(0, prompts=tuple(_prompts(folded).values()), features=_features(folded)))
    found += recent
    found += reversed(replay.undone)
    found += [UndoEntry(edit.number) for edit in replay.undone]
    if replay.saved is not None and not replay.unsaved:
        found.append(replay.saved)
    return found


class _Replay:
    """The state of a journal after its entries."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        header = next((entry for entry in entries if isinstance(entry, JournalHeader)), None)
        if header is None:
            raise ValueError("This journal does not say which image and labels it is about: its beginning is damaged.")
        self.header = header
        # zeros take no memory until they are written to; a dtype that grew later would write to all of them
        self.labels: IntArray = np.zeros(header.labels.shape, _dtype(header, entries))
        self.counts: Counter[int] = Counter()
        self.planes: dict[PlanePosition, None] = {}
        self.known: set[PlanePosition] = set()
        self.done: list[JournalEdit] = []
        self.undone: list[JournalEdit] = []
        self.saved: SavedEntry | None = None
        self.unsaved = 0
        self.misfits = 0
        for entry in entries:
            try:
                self._take(entry)
            except (IndexError, ValueError, KeyError):
                self.misfits += 1

    def _take(self, entry: Entry) -> None:
        match entry:
            case LabelsSnapshot():
                view = entry.plane.take(self.labels)
                if view.shape != entry.labels.shape:
                    raise ValueError("a plane of labels has another size than the layer")
                self._count(view, -1)
                view[...] = entry.labels
                self._count(view, 1)
                self.planes[entry.plane] = None
                self.known.add(entry.plane)
            case JournalEdit():
                self.write(entry)
                self.done.append(entry)
                self.undone.clear()
                self.unsaved += 1
            case UndoEntry():
                edit = _pop(self.done, entry.number)
                self.write(edit.inverse)
                self.undone.append(edit)
                self.unsaved += 1
            case RedoEntry():
                edit = _pop(self.undone, entry.number)
                self.write(edit)
                self.done.append(edit)
                self.unsaved += 1
            case SavedEntry():
                self.saved, self.unsaved = entry, 0

    def write(self, edit: JournalEdit) -> None:
        """Write an edit's pixels, all or, where one lies outside, none."""
        for change in edit.changes:
            row_min, col_min, row_max, col_max = change.patch.box
            rows, cols = change.plane.take(self.labels).shape
            inside = 0 <= row_min < row_max <= rows and 0 <= col_min < col_max <= cols
            if not inside or change.patch.changed.shape != (row_max - row_min, col_max - col_min):
                raise IndexError("an edit lies outside of the labels")
        for change in edit.changes:
            self.planes[change.plane] = None
            patch = change.patch
            view = change.plane.take(self.labels)
            self._count(view[patch.slices][patch.changed], -1)
            patch.apply(view)
            self._count(patch.after, 1)

    def _count(self, values: IntArray, sign: int) -> None:
        if values.strides == (0,) and values.size:
            self.counts[int(values[0])] += sign * values.size
            return
        numbers, counts = np.unique(values, return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            self.counts[number] += sign * count


def _pop(edits: list[JournalEdit], number: int) -> JournalEdit:
    for at in range(len(edits) - 1, -1, -1):
        if edits[at].number == number:
            return edits.pop(at)
    raise KeyError(number)


def _dtype(header: JournalHeader, entries: Iterable[Entry]) -> np.dtype[Any]:
    dtype = np.dtype(header.labels.dtype)
    dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    for entry in entries:
        if isinstance(entry, LabelsSnapshot):
            dtype = np.promote_types(dtype, entry.labels.dtype)
        elif isinstance(entry, JournalEdit):
            for change in entry.changes:
                dtype = np.promote_types(dtype, change.patch.after.dtype)
    if dtype.kind not in "iu":
        raise ValueError(f"Labels must be integers, got {dtype} in this journal.")
    return dtype


def _newest(edits: Sequence[JournalEdit], budget: int) -> int:
    """Return how many of the newest edits fit into the budget."""
    kept = 0
    for edit in reversed(edits):
        budget -= edit.nbytes
        if budget < 0:
            break
        kept += 1
    return kept


def _prompts(edits: Iterable[JournalEdit]) -> dict[int, LabelPrompts]:
    return {one.label: one for edit in edits for one in edit.prompts}


def _features(edits: Iterable[JournalEdit]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for edit in edits:
        for label, features in edit.features.items():
            found.setdefault(label, {}).update(features)
    return found


def _covers(planes: Iterable[PlanePosition], shape: tuple[int, ...]) -> bool:
    """Whether all of an array lies in planes of one direction that are there."""
    points: dict[tuple[int, int], set[tuple[int, ...]]] = {}
    for plane in planes:
        axes = (plane.rows_axis, plane.cols_axis)
        points.setdefault((min(axes), max(axes)), set()).add(plane.point)
    return any(
        len(there) == np.prod([size for axis, size in enumerate(shape) if axis not in axes], dtype=int)
        for axes, there in points.items()
    )
