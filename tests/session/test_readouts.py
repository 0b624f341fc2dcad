"""Readouts beside the models' work: what `readout` gives, later; never of something that has changed since."""

from __future__ import annotations

import threading
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from dask import delayed
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_samdepth.core.errors import LayerError
from napari_samdepth.session import readouts
from napari_samdepth.session.session import AnnotationSession

from .conftest import WAIT


@pytest.fixture
def ramp(session: AnnotationSession, viewer_model: ViewerModel) -> Image:
    made = viewer_model.add_image(np.tile(np.linspace(0, 1, 60, dtype=np.float32), (2, 40, 1)), name="ramp")
    session.use_depth(made, "height")
    viewer_model.dims.set_current_step(0, 0)
    return made


@pytest.fixture
def labels(viewer_model: ViewerModel, ramp: Image) -> Labels:
    made = np.zeros((2, 40, 60), dtype=np.int32)
    made[0, 5:20, 5:20], made[1, 10:30, 30:50] = 1, 2
    return viewer_model.add_labels(made, name="mine")


def held_up(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Let readouts wait; return what is set when the first has begun, and what lets them go on."""
    begun, gate = threading.Event(), threading.Event()
    compute = readouts.depth_readout

    def wait(*args: Any) -> pd.DataFrame:
        begun.set()
        assert gate.wait(WAIT)
        return compute(*args)

    monkeypatch.setattr(readouts, "depth_readout", wait)
    return begun, gate


def never(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("same_grid", [True, False])
def test_a_requested_readout_is_the_one_that_scripts_get(
    session: AnnotationSession, labels: Labels, ramp: Image, same_grid: bool
) -> None:
    if not same_grid:
        ramp.data = np.linspace(0, 1, 45 * 70, dtype=np.float32).reshape(1, 45, 70)
    at_once = session.readout(labels)
    written, labels.features = labels.features, pd.DataFrame()
    tables: list[pd.DataFrame] = []
    session.request_readout(labels, tables.append, never)
    assert tables == [], "it is computed elsewhere"
    assert session.wait(WAIT)
    pd.testing.assert_frame_equal(tables[0], at_once)
    pd.testing.assert_frame_equal(labels.features, written)
    assert list(at_once.index) == ([1, 2] if same_grid else [1])


def test_what_has_changed_meanwhile_is_read_again(
    session: AnnotationSession, labels: Labels, viewer_model: ViewerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate = held_up(monkeypatch)
    tables: list[pd.DataFrame] = []
    session.request_readout(labels, tables.append, never)
    assert begun.wait(WAIT)
    labels.data = np.where(labels.data == 1, 7, 0)
    gate.set()
    assert session.wait(WAIT)
    assert [list(table.index) for table in tables] == [[7]]


def test_painting_does_not_reach_a_readout_that_has_begun(
    session: AnnotationSession, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate = held_up(monkeypatch)
    tables: list[pd.DataFrame] = []
    session.request_readout(labels, tables.append, never)
    assert begun.wait(WAIT)
    labels.data[...] = 9
    gate.set()
    assert session.wait(WAIT)
    assert list(tables[0].index) == [1, 2]


def test_a_layer_that_was_removed_meanwhile_is_let_go(
    session: AnnotationSession, labels: Labels, ramp: Image, viewer_model: ViewerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate = held_up(monkeypatch)
    tables: list[pd.DataFrame] = []
    session.request_readout(labels, tables.append, never)
    assert begun.wait(WAIT)
    viewer_model.layers.remove(labels)
    gate.set()
    assert session.wait(WAIT)
    assert tables == []
    viewer_model.layers.append(labels)
    session.request_readout(labels, tables.append, never)
    viewer_model.layers.remove(ramp)
    assert session.wait(WAIT)
    assert tables == []
    with pytest.raises(LayerError, match="no depth"):
        session.request_readout(labels, tables.append, never)


def test_what_cannot_be_read_is_told(session: AnnotationSession, viewer_model: ViewerModel, labels: Labels) -> None:
    errors: list[Exception] = []
    tables: list[pd.DataFrame] = []
    session.request_readout(labels, tables.append, errors.append)
    viewer_model.dims.ndisplay = 3
    assert session.wait(WAIT)
    assert tables == []
    assert "3-D" in str(errors[0])


def test_cancelling_the_models_leaves_the_readout(
    session: AnnotationSession, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate = held_up(monkeypatch)
    tables: list[pd.DataFrame] = []
    session.request_readout(labels, tables.append, never)
    assert begun.wait(WAIT)
    session.stop()
    gate.set()
    assert session.wait(WAIT)
    assert len(tables) == 1
    session.request_readout(labels, tables.append, never)
    session.drop_readout()
    assert session.wait(WAIT)
    assert len(tables) == 1


def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every stack count as large."""
    monkeypatch.setattr(readouts, "LARGE_STACK", 1)


@pytest.mark.parametrize("lazy", [False, True])
def test_large_stacks_are_read_slice_by_slice(
    session: AnnotationSession, viewer_model: ViewerModel, monkeypatch: pytest.MonkeyPatch, lazy: bool
) -> None:
    cells = np.zeros((7, 40, 50), dtype=np.int32)
    depth = np.full((7, 40, 50), np.nan, dtype=np.float32)
    for at in (1, 2, 5):
        cells[at, 5:20, 5 + at : 20 + at] = at
        depth[at] = 10.0 * at + np.linspace(0, 1, 50)
    most: list[int] = []
    held = [0]

    def block(data: Any, at: int) -> Any:
        held[0] += 1
        most.append(held[0])
        held[0] -= 1
        return data[at : at + 1]

    if lazy:
        parts = [da.from_delayed(delayed(block)(depth, at), (1, 40, 50), np.float32) for at in range(7)]
        values: Any = da.concatenate(parts)
    else:
        values = depth
    labels = viewer_model.add_labels(da.from_array(cells, chunks=(1, 40, 50)) if lazy else cells)
    session.use_depth(viewer_model.add_image(values, name="deep", contrast_limits=(0, 60)), "height", "nm")
    at_once = session.readout(labels)
    assert at_once["slice"].to_dict() == {1: 1, 2: 2, 5: 5}
    assert np.allclose(at_once["median"], [10.2, 20.2, 50.3], atol=0.3)
    large(monkeypatch)
    told: list[tuple[str, float]] = []
    session.state.events.task.connect(lambda task: told.append((task, session.state.progress)))
    tables: list[pd.DataFrame] = []
    session.request_readout(labels, tables.append, never)
    assert session.wait(WAIT)
    pd.testing.assert_frame_equal(tables[0], at_once)
    assert session.state.task == ""
    assert not lazy or max(most) == 1, "one slice at a time"
    assert labels.features["index"].tolist() == [1, 2, 5]


def test_reading_a_large_stack_tells_how_far_it_is_and_ends_when_cancelled(
    session: AnnotationSession, labels: Labels, viewer_model: ViewerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    large(monkeypatch)
    begun, gate = held_up(monkeypatch)
    tables: list[pd.DataFrame] = []
    refused: list[Exception] = []
    session.request_readout(labels, tables.append, refused.append)
    assert begun.wait(WAIT)
    session.deliver()
    assert session.state.task == "reading slice 1 of 2"
    viewer_model.dims.set_current_step(0, 1)  # the stack is read whichever slice is shown
    session.stop()
    gate.set()
    assert session.wait(WAIT)
    assert not tables
    assert "cancelled" in str(refused[0])
    assert session.state.task == ""
    session.request_readout(labels, tables.append, never)
    assert session.wait(WAIT)
    assert tables[0]["slice"].to_dict() == {1: 0, 2: 1}


def test_depth_that_lies_elsewhere_is_said(session: AnnotationSession, viewer_model: ViewerModel) -> None:
    cells = np.zeros((40, 60), dtype=np.int32)
    cells[5:20, 5:20] = 1
    labels = viewer_model.add_labels(cells, scale=(0.1, 0.1), translate=(50, 0), name="cells")
    depth = viewer_model.add_image(np.ones((30, 60), dtype=np.float32), name="map")
    session.use_depth(depth, "height")
    assert session.readout(labels)["valid_share"].tolist() == [0.0]
    assert "“map” lies elsewhere than “cells”" in session.state.message
    assert session.state.problem
    # as many pixels, but never placed: what is read is of another place
    depth.data = np.ones((40, 60), dtype=np.float32)
    labels.translate = (0, 0)
    session.readout(labels)
    assert "“map” has as many pixels as “cells”, but lies elsewhere" in session.state.message
    depth.scale = (0.1, 0.1)
    assert session.readout(labels)["valid_share"].tolist() == [1.0]
    assert session.state.message == ""
    # another part of one picture is no mistake
    depth.data = np.ones((20, 60), dtype=np.float32)
    session.readout(labels)
    assert session.state.message == ""
