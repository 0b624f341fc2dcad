"""Readouts: what they read is taken on the main thread, computed on the lane or at once, and written into features."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from napari.components import Dims, ViewerModel
from napari.layers import Image, Labels

from napari_samdepth.core.errors import LayerError
from napari_samdepth.measure.readout import depth_readout, for_features
from napari_samdepth.session.depth_layers import DepthLayer, DepthSource, depth_source
from napari_samdepth.session.depths import Depths
from napari_samdepth.session.geometry import Shown, from_world, shown_plane, stack_axis, to_world
from napari_samdepth.session.jobs import Lane
from napari_samdepth.session.labels import write_features
from napari_samdepth.session.state import SessionState

if TYPE_CHECKING:
    from napari_samdepth.models.protocols import Report

LARGE_STACK = 2**26
"""Pixels of a stack above which its reading tells how far it is, and can be cancelled as a model's work can."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What a readout reads, not yet computed: views are taken on the main thread, `compute` may run on any.

    Attributes
    ----------
    labels
        The layer that is read.
    data
        Its data.
    shown
        Where its shown plane lies in them.
    known
        The depth layer and what its values mean.
    depth
        The shown plane of the depth, on the grid of the labels' plane.
    stack
        For a stack with depth on the same grid: its axis, and the depth layer's data.
    """

    labels: Labels
    data: Any
    shown: Shown
    known: DepthLayer
    depth: DepthSource
    stack: tuple[int, Any] | None

    @property
    def large(self) -> bool:
        """Whether this takes long enough to be told of."""
        return self.stack is not None and math.prod(self.data.shape) > LARGE_STACK

    def compute(self, report: Report | None = None) -> pd.DataFrame:
        """Return one row per label of the stack or, where it has no depth, of the shown plane.

        A stack is read slice by slice, so that no more than one slice of it is in memory; `report` is told of each.
        """
        tables = [] if self.stack is None else list(self._slices(report))
        if tables:
            return pd.concat([table for table in tables if len(table)] or tables[:1])
        # copies: the user may paint meanwhile
        return depth_readout(np.array(self.shown.take(self.data)), self.depth.render())

    def _slices(self, report: Report | None) -> Iterator[pd.DataFrame]:
        """Yield the table of each slice that has depth, the number of the slice in its first column."""
        assert self.stack is not None
        axis, depth = self.stack
        count = depth.shape[axis]
        # a copy where it is small: the user may paint meanwhile
        labels = self.data if self.large else np.array(self.data)
        for at in range(count):
            if report is not None:
                report(at / count, f"reading slice {at + 1} of {count}")
            # not numpy's take, which would load all of a stack that is not in memory, once per plane
            index = (slice(None),) * axis + (at,)
            values = self.known.read(depth[index])
            if np.isfinite(values).any():
                table = depth_readout(np.array(labels[index]), self.known.depth_map(values))
                table.insert(0, "slice", at)
                yield table

    def write(self, table: pd.DataFrame) -> pd.DataFrame:
        """Write the table into the layer's features; return it with the names that words gave to labels."""
        axis = stack_axis(self.shown)
        plane = self.shown.point[axis] if "slice" in table.columns and axis is not None else None
        write_features(self.labels, for_features(table, plane))
        return _named(table, self.labels)

    def same(self, other: Reading) -> bool:
        """Whether the other one reads the same planes of the same data, in the same places."""
        if self.data is not other.data or self.known is not other.known:
            return False
        if self.stack is None or other.stack is None:
            return self.stack is other.stack and self.shown == other.shown and self.depth.same(other.depth)
        # whichever slice is shown
        return self.stack[0] == other.stack[0] and self.stack[1] is other.stack[1]


class Readouts:
    """Reads labels out against depth, at once or on the lane."""

    def __init__(self, viewer: ViewerModel, lane: Lane, depths: Depths, state: SessionState) -> None:
        """The session's parts."""
        self._viewer = viewer
        self._lane = lane
        self._depths = depths
        self._state = state
        self._said = ""
        self._stopped: Callable[[Exception], None] | None = None

    def now(self, labels: Labels, depth: Image | None) -> pd.DataFrame:
        """Return one row per label, of the shown plane or of every plane of a stack, and write it into the features.

        Raises
        ------
        LayerError
            If there is no depth layer, or no plane of one of the two is shown.
        """
        reading = self._read(labels, depth)
        return self._written(reading, reading.compute())

    def request(
        self, labels: Labels, done: Callable[[pd.DataFrame], None], failed: Callable[[Exception], None]
    ) -> None:
        """Compute on the lane what `now` does, against the depth in use, and give it to `done`.

        A newer request makes this one void. What is no longer as it was read is read again; a layer that was removed
        is not. Raises LayerError as `now` does.
        """
        reading = self._read(labels, None)
        self._stopped = failed if reading.large else None

        def take(table: pd.DataFrame) -> None:
            self._stopped = None
            if labels not in self._viewer.layers or self._depths.active is None:
                return
            try:
                newest = self._read(labels, None)
                if reading.same(newest):
                    done(self._written(newest, table))
                else:
                    self.request(labels, done, failed)
            except LayerError as error:
                failed(error)

        def work(report: Report) -> pd.DataFrame:
            return reading.compute(report if reading.large else None)

        self._lane.submit("readout", work, take, failed, aside=True)

    def cancel(self) -> None:
        """Nobody waits any longer for what was requested."""
        self._stopped = None
        self._lane.cancel("readout")

    def stop(self) -> None:
        """End the reading of a large stack, if one is under way; who asked for it is told."""
        if self._stopped is not None:
            stopped, self._stopped = self._stopped, None
            self._lane.cancel("readout")
            stopped(LayerError("Reading the stack was cancelled; press Read out to begin anew."))

    def _written(self, reading: Reading, table: pd.DataFrame) -> pd.DataFrame:
        """Write a table into the features, and say where the depth lies elsewhere than the labels."""
        nothing = len(table) > 0 and not (table["valid_share"] > 0).any()
        said = reading.depth.misplaced(reading.labels.name, nothing) if reading.stack is None else ""
        if said or (self._said and self._state.message == self._said):
            self._state.say(said, problem=bool(said))
        self._said = said
        return reading.write(table)

    def _read(self, labels: Labels, depth: Image | None) -> Reading:
        known = self._depths.find(depth) if depth is not None else self._depths.active
        if known is None:
            raise LayerError("There is no depth to read; add depth first, or name a layer that holds it.")
        shown = shown_plane(labels, self._viewer.dims)
        if labels.multiscale:
            raise LayerError(f"“{labels.name}” is multiscale; give the readout an in-memory Labels layer.")
        source = depth_source(known, labels, shown, self._viewer)
        axis = _common_axis(known.layer, labels, shown, self._viewer.dims)
        stack = None if axis is None else (axis, known.layer.data)
        return Reading(labels, labels.data, shown, known, source, stack)


def _common_axis(depth: Image, labels: Labels, shown: Shown, dims: Dims) -> int | None:
    """Return the axis of a stack that has depth on the same grid; None where only the shown plane is to be read."""
    axis = stack_axis(shown)
    same_grid = depth.ndim == labels.ndim and not depth.multiscale and depth.data.shape == labels.data.shape
    if axis is None or not same_grid or shown.rows_axis > shown.cols_axis:
        return None
    corners = np.stack([np.zeros(labels.ndim), np.array(labels.data.shape, dtype=float)])
    same_place = np.allclose(from_world(depth, to_world(labels, corners, dims), dims), corners, atol=1e-3)
    return axis if same_place else None


def _named(table: pd.DataFrame, labels: Labels) -> pd.DataFrame:
    """Return a readout with the names that words gave to labels, where the layer holds such."""
    features = labels.features
    if "name" not in features.columns or "index" not in features.columns:
        return table
    names = features.drop_duplicates("index").set_index("index")["name"]
    return table.assign(name=names.reindex(table.index).fillna("").to_numpy())
