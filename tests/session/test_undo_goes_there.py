"""Undo and redo show the slice in which they take something back or do it again."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from numpy.typing import NDArray

from napari_samdepth.session.session import AnnotationSession

from .conftest import COIN, WAIT
from .test_session import click, preview


@pytest.fixture
def stack(viewer_model: ViewerModel, coins: NDArray[np.uint8]) -> Image:
    made = viewer_model.add_image(np.stack([coins, coins[::-1], coins]), name="stack", scale=(2.5, 1, 1))
    viewer_model.dims.set_current_step(0, 0)
    return made


def _slice(viewer: ViewerModel) -> int:
    return int(viewer.dims.current_step[0])


def test_undo_and_redo_go_to_the_slice_of_the_click_and_of_the_label(
    session: AnnotationSession, viewer_model: ViewerModel, stack: Image
) -> None:
    session.start(stack)
    click(session, viewer_model, 0, *COIN)
    first = preview(viewer_model)
    session.accept()
    viewer_model.dims.set_current_step(0, 2)
    assert session.wait(WAIT)
    click(session, viewer_model, 2, 120, 50)
    points, labels = viewer_model.layers["SAM prompts"], viewer_model.layers["stack masks"]
    viewer_model.dims.set_current_step(0, 1)
    assert session.wait(WAIT)

    session.undo()
    assert session.wait(WAIT)
    assert _slice(viewer_model) == 2
    assert len(points.data) == 0
    assert labels.data[0].any()
    session.undo()
    assert session.wait(WAIT)
    assert _slice(viewer_model) == 0
    assert not labels.data.any()
    assert len(points.data) == 1
    assert np.array_equal(preview(viewer_model), first), "the mask is on offer again, and can be seen"
    viewer_model.dims.set_current_step(0, 1)
    session.redo()
    assert session.wait(WAIT)
    assert _slice(viewer_model) == 0
    assert np.array_equal(labels.data[0] == 1, first[0])
    session.redo()
    assert session.wait(WAIT)
    assert _slice(viewer_model) == 2
    assert preview(viewer_model)[2].any()


def test_undo_turns_the_axes_back(session: AnnotationSession, viewer_model: ViewerModel, stack: Image) -> None:
    session.start(stack)
    click(session, viewer_model, 0, *COIN)
    viewer_model.dims.order = (1, 0, 2)
    session.undo()
    assert session.wait(WAIT)
    assert tuple(viewer_model.dims.displayed) == (1, 2)
    assert len(viewer_model.layers["SAM prompts"].data) == 0


def test_undo_in_the_slice_shown_moves_nothing(
    session: AnnotationSession, viewer_model: ViewerModel, stack: Image
) -> None:
    session.start(stack)
    viewer_model.dims.set_point(0, 4.4)
    assert session.wait(WAIT)
    click(session, viewer_model, 2, *COIN)
    before = viewer_model.dims.point
    session.undo()
    session.redo()
    assert session.wait(WAIT)
    assert viewer_model.dims.point == before
    assert preview(viewer_model)[2].any()


def test_labels_of_an_image_that_is_gone_are_taken_back_where_they_are(
    session: AnnotationSession, viewer_model: ViewerModel, stack: Image
) -> None:
    session.start(stack)
    click(session, viewer_model, 0, *COIN)
    session.accept()
    labels = viewer_model.layers["stack masks"]
    viewer_model.layers.remove(stack)
    viewer_model.dims.set_current_step(0, 2)
    session.undo()
    assert _slice(viewer_model) == 0
    assert not labels.data.any()
    viewer_model.layers.remove(labels)
    session.redo()
    assert "changed or removed" in session.state.message
