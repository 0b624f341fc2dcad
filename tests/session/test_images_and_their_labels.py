"""Which Labels layer an image's masks go to, what is written there, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels
from numpy.typing import NDArray

from napari_samdepth.core.errors import LayerError
from napari_samdepth.session.session import AnnotationSession

from .conftest import COIN, WAIT
from .test_session import click

OTHER = (120.0, 50.0)


def _start(session: AnnotationSession, image: Image) -> None:
    session.start(image)
    assert session.wait(WAIT)


def test_going_to_another_image_and_back_goes_on_in_the_layer_of_each(
    session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    images = [viewer_model.add_image(coins, name="a"), viewer_model.add_image(coins[::-1].copy(), name="b")]
    places = (COIN, OTHER)
    for turn, at in enumerate(places):
        for image, row in zip(images, (at[0], 302 - at[0]), strict=True):
            _start(session, image)
            click(session, viewer_model, row, at[1])
            assert session.accept() == turn + 1
            assert session.masks.layer is viewer_model.layers[f"{image.name} masks"]
    labels = [layer for layer in viewer_model.layers if isinstance(layer, Labels) and "masks" in layer.name]
    labels.sort(key=lambda layer: layer.name)
    assert [layer.name for layer in labels] == ["a masks", "b masks"]
    assert np.array_equal(np.unique(labels[0].data), [0, 1, 2])
    assert np.mean(labels[0].data[::-1] == labels[1].data) > 0.99


def test_an_image_keeps_its_layer_when_both_are_renamed_or_the_layer_was_named(
    session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    first, second = (viewer_model.add_image(coins, name=name) for name in "ab")
    mine = viewer_model.add_labels(np.zeros(coins.shape, dtype=np.int32), name="mine")
    session.start(first, labels=mine)
    assert session.wait(WAIT)
    click(session, viewer_model, *COIN)
    session.accept()
    _start(session, second)
    click(session, viewer_model, *COIN)
    session.accept()
    viewer_model.layers[session.masks.layer.name].name = "renamed"
    first.name = "first"
    _start(session, first)
    click(session, viewer_model, *OTHER)
    session.accept()
    assert session.masks.layer is mine
    assert mine.data[120, 50] > mine.data[52, 49] > 0


def test_an_image_whose_layer_was_removed_gets_a_new_one(started: AnnotationSession, viewer_model: ViewerModel) -> None:
    click(started, viewer_model, *COIN)
    started.accept()
    viewer_model.layers.remove("coins masks")
    click(started, viewer_model, *COIN)
    assert started.accept() == 1
    assert viewer_model.layers["coins masks"].data[52, 49] == 1


def test_an_object_that_has_its_label_is_refused_with_the_number(
    started: AnnotationSession, viewer_model: ViewerModel
) -> None:
    click(started, viewer_model, *COIN)
    started.accept()
    labels = viewer_model.layers["coins masks"]
    before = labels.data.copy()
    click(started, viewer_model, COIN[0] + 2, COIN[1])
    assert started.accept() is None
    assert started.state.occupied == 1
    assert started.state.problem
    assert "Label 1 is there already" in started.state.message
    assert np.array_equal(labels.data, before)
    assert started.state.scores, "the mask stays on offer"
    started.edit(1)
    assert started.wait(WAIT)
    assert started.state.editing == 1


def test_a_refused_mask_is_no_longer_said_after_the_next_click(
    started: AnnotationSession, viewer_model: ViewerModel
) -> None:
    click(started, viewer_model, *COIN)
    started.accept()
    click(started, viewer_model, *COIN)
    started.accept()
    started.clear()
    click(started, viewer_model, *OTHER)
    assert started.state.occupied == 0
    assert started.accept() == 2


def test_an_object_accepted_twice_while_it_waits_is_one_label(
    session: AnnotationSession, image: Image, viewer_model: ViewerModel
) -> None:
    session.start(image)
    for _ in range(2):
        viewer_model.layers["SAM prompts"].add(np.array(COIN))
        session.accept()
    assert session.wait(WAIT)
    assert np.unique(viewer_model.layers["coins masks"].data).tolist() == [0, 1]
    assert session.state.occupied == 1
    assert "Label 1 is there already" in session.state.message


@pytest.mark.parametrize("number", [1, 40, 250])
def test_a_mask_that_partly_lies_on_labels_gets_the_rest(
    started: AnnotationSession, viewer_model: ViewerModel, number: int
) -> None:
    click(started, viewer_model, *COIN)
    coin = viewer_model.layers["SAM preview"].data == 1
    held = np.zeros(coin.shape, dtype=np.uint8)
    held[:, :49][coin[:, :49]] = number
    labels = viewer_model.add_labels(held.copy(), name="mine")
    started.masks.use(labels)
    assert started.accept() == number + 1
    assert np.array_equal(labels.data == number, held == number)
    assert np.array_equal(labels.data == number + 1, coin & (held == 0))
    assert started.state.occupied == 0


@pytest.fixture
def on_disk(viewer_model: ViewerModel, coins: NDArray[np.uint8], tmp_path: Path) -> Labels:
    held = np.lib.format.open_memmap(tmp_path / "held.npy", mode="w+", dtype=np.uint8, shape=coins.shape)
    held[0, 0] = 254
    return viewer_model.add_labels(held, name="on disk")


def test_labels_in_a_file_are_written_through(
    started: AnnotationSession, viewer_model: ViewerModel, on_disk: Labels, tmp_path: Path
) -> None:
    started.masks.use(on_disk)
    click(started, viewer_model, *COIN)
    assert started.accept() == 255
    assert isinstance(on_disk.data, np.memmap)
    assert np.load(tmp_path / "held.npy")[52, 49] == 255
    started.undo()
    assert started.wait(WAIT)
    assert np.load(tmp_path / "held.npy")[52, 49] == 0


def test_labels_in_a_file_that_would_have_to_be_widened_are_refused(
    started: AnnotationSession, viewer_model: ViewerModel, on_disk: Labels, tmp_path: Path
) -> None:
    on_disk.data[0, 0] = 255
    on_disk.refresh()
    started.masks.use(on_disk)
    click(started, viewer_model, *COIN)
    with pytest.raises(LayerError, match="file on disk of uint8, which cannot hold label 256; save it as uint16"):
        started.accept()
    assert on_disk.data.dtype == np.uint8
    assert np.load(tmp_path / "held.npy").sum() == 255
    assert started.state.scores, "the mask is not lost"
    started.masks.use(None)
    assert started.accept() == 1


def test_undo_of_a_label_in_a_locked_layer_waits_until_it_is_unlocked(
    started: AnnotationSession, viewer_model: ViewerModel
) -> None:
    click(started, viewer_model, *COIN)
    started.accept()
    labels = viewer_model.layers["coins masks"]
    labels.editable = False
    for _ in range(3):
        started.undo()
        assert labels.data.any()
        assert "locked" in started.state.message
        assert started.state.can_undo
        assert not started.state.can_redo
    labels.editable = True
    started.undo()
    assert not labels.data.any()
    labels.editable = False
    started.redo()
    assert not labels.data.any()
    assert "locked" in started.state.message
    labels.editable = True
    started.redo()
    assert labels.data[52, 49] == 1


def test_undo_goes_past_labels_that_can_never_be_written_again(
    started: AnnotationSession, viewer_model: ViewerModel
) -> None:
    import dask.array as da

    click(started, viewer_model, *COIN)
    started.accept()
    viewer_model.layers["coins masks"].data = da.zeros((303, 384), dtype=np.uint16)
    started.undo()
    assert "changed or removed since" in started.state.message
    assert started.state.scores, "the click is there again"


def test_an_image_changed_in_place_is_answered_as_it_looks_now(
    session: AnnotationSession, viewer_model: ViewerModel
) -> None:
    rows, cols = np.mgrid[:160, :220]
    disk = (rows - 50) ** 2 + (cols - 60) ** 2 < 18**2
    image = viewer_model.add_image(np.where(disk, 200, 40).astype(np.uint8), name="disk")
    _start(session, image)
    for shift in (40, 80):
        image.data[:] = np.where(np.roll(disk, shift, axis=1), 200, 40)
        image.refresh()
        viewer_model.layers["SAM prompts"].add(np.array([50, 60 + shift]))
        assert session.wait(WAIT)
        number = session.accept()
        mask, want = session.masks.layer.data == number, np.roll(disk, shift, axis=1)
        assert (mask & want).sum() / (mask | want).sum() > 0.85


def test_a_stack_changed_in_place_is_answered_as_it_looks_now(
    session: AnnotationSession, viewer_model: ViewerModel
) -> None:
    rows, cols = np.mgrid[:160, :220]
    disk = (rows - 50) ** 2 + (cols - 60) ** 2 < 18**2
    image = viewer_model.add_image(np.stack([np.where(disk, 200, 40).astype(np.uint8)] * 2), name="stack")
    viewer_model.dims.set_current_step(0, 1)
    _start(session, image)
    image.data[1] = np.where(np.roll(disk, 60, axis=1), 200, 40)
    image.refresh()
    click(session, viewer_model, 1, 50, 120)
    number = session.accept()
    want = np.roll(disk, 60, axis=1)
    mask = session.masks.layer.data[1] == number
    assert (mask & want).sum() / (mask | want).sum() > 0.85


def test_labels_that_are_hidden_are_written_and_widened_too(
    started: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    labels = viewer_model.add_labels(np.zeros(coins.shape, dtype=np.uint8), name="mine")
    labels.data[0, 0] = 255
    labels.visible = False
    started.masks.use(labels)
    click(started, viewer_model, *COIN)
    assert started.accept() == 256
    assert (labels.data[52, 49], labels.data[0, 0]) == (256, 255)
    labels.data = np.zeros((303, 384), dtype=np.uint16)
    click(started, viewer_model, *OTHER)
    assert started.accept() == 1
    labels.visible = True
    assert labels.data[120, 50] == 1
