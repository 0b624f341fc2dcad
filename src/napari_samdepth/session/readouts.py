"""Readouts: what they read is taken on the main thread, computed on the lane or at once, and written into features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from napari.components import Dims, ViewerModel
from napari.layers import Image, Labels

from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.core.errors import LayerError
from napari_samdepth.measure.readout import depth_readout, for_features
from napari_samdepth.session.depth_layers import DepthLayer, DepthSource, depth_source
from napari_samdepth.session.depths import Depths
from napari_samdepth.session.geometry import Shown, from_world, shown_plane, stack_axis, to_world
from napari_samdepth.session.jobs import Lane
from napari_samdepth.session.layers import write_features

STACK_PIXELS = 2**26
"""Larger stacks are read plane by plane as they are shown."""


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

    def compute(self) -> pd.DataFrame:
        """Return one row per label of the stack or, where it has no depth, of the shown plane."""
        planes = self._planes()
        # copies: the user may paint meanwhile
        if not planes or self.stack is None:
            return depth_readout(np.array(self.shown.take(self.data)), self.depth.render())
        labels = np.stack([np.take(self.data, at, self.stack[0]) for at in planes])
        table = depth_readout(labels, list(planes.values()))
        table["slice"] = np.array(list(planes))[table["slice"]]
        return table

    def write(self, table: pd.DataFrame) -> pd.DataFrame:
        """Write the table into the layer's features; return it with the names that words gave to labels."""
        axis = stack_axis(self.shown)
        plane = self.shown.point[axis] if "slice" in table.columns and axis is not None else None
        write_features(self.labels, for_features(table, plane))
        return _named(table, self.labels)

    def same(self, other: Reading) -> bool:
        """Whether the other one reads the same planes of the same data, in the same places."""
        return (
            self.data is other.data
            and self.shown == other.shown
            and self.known is other.known
            and self.depth.same(other.depth)
        )

    def _planes(self) -> dict[int, DepthMap]:
        """Return the planes of the stack that have depth, by their numbers."""
        planes: dict[int, DepthMap] = {}
        if self.stack is None:
            return planes
        axis, depth = self.stack
        for at in range(depth.shape[axis]):
            # not numpy's take, which would load all of a stack that is not in memory, once per plane
            values = self.known.read(depth[(slice(None),) * axis + (at,)])
            if np.isfinite(values).any():
                planes[at] = self.known.depth_map(values)
        return planes


class Readouts:
    """Reads labels out against depth, at once or on the lane."""

    def __init__(self, viewer: ViewerModel, lane: Lane, depths: Depths) -> None:
        """The session's parts."""
        self._viewer = viewer
        self._lane = lane
        self._depths = depths

    def now(self, labels: Labels, depth: Image | None) -> pd.DataFrame:
        """Return one row per label, of the shown plane or of every plane of a stack, and write it into the features.

        Raises
        ------
        LayerError
            If there is no depth layer, or no plane of one of the two is shown.
        """
        reading = self._read(labels, depth)
        return reading.write(reading.compute())

    def request(
        self, labels: Labels, done: Callable[[pd.DataFrame], None], failed: Callable[[Exception], None]
    ) -> None:
        """Compute on the lane what `now` does, against the depth in use, and give it to `done`.

        A newer request makes this one void. What is no longer as it was read is read again; a layer that was removed
        is not. Raises LayerError as `now` does.
        """
        reading = self._read(labels, None)

        def take(table: pd.DataFrame) -> None:
            if labels not in self._viewer.layers or self._depths.active is None:
                return
            try:
                if reading.same(self._read(labels, None)):
                    done(reading.write(table))
                else:
                    self.request(labels, done, failed)
            except LayerError as error:
                failed(error)

        self._lane.submit("readout", lambda _report: reading.compute(), take, failed, aside=True)

    def cancel(self) -> None:
        """Nobody waits any longer for what was requested."""
        self._lane.cancel("readout")

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
    if axis is None or not same_grid or labels.data.size > STACK_PIXELS or shown.rows_axis > shown.cols_axis:
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
