"""Readouts beside the models' work: what `readout` gives, later; never of something that has changed since."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pandas as pd
import pytest
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
