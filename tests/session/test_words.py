"""Words: boxes come into the layer, are edited, filtered and made into named labels; every step can be undone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Shapes
from skimage import data

from napari_samdepth.core.errors import LayerError
from napari_samdepth.session.session import AnnotationSession
from tests.word_models import save_grounding_dino, save_sam3

from .conftest import COIN, WAIT

TEXT = "round coin. nucleus. the dark thing."


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a small Grounding DINO."""
    return str(save_grounding_dino(tmp_path_factory.mktemp("words") / "dino"))


@pytest.fixture(scope="module")
def sam3(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a small SAM 3."""
    return str(save_sam3(tmp_path_factory.mktemp("words") / "sam3"))


def _boxes(viewer: ViewerModel) -> Shapes:
    layer = viewer.layers["SAM shapes"]
    assert isinstance(layer, Shapes)
    return layer


def _found(session: AnnotationSession, viewer: ViewerModel, model: str, threshold: float) -> Shapes:
    session.words.filter(threshold)
    session.words.find(TEXT, model)
    assert session.wait(WAIT)
    assert not session.state.problem, session.state.message
    layer = _boxes(viewer)
    assert session.state.boxes == layer.nshapes > 2
    return layer


def _start_on_stack(session: AnnotationSession, viewer: ViewerModel) -> None:
    """Start on the first of two slices."""
    image = viewer.add_image(np.stack([data.coins()[:200, :200], data.coins()[-200:, -200:]]), name="stack")
    viewer.dims.set_current_step(0, 0)
    session.start(image)
    assert session.wait(WAIT)


def test_boxes_come_with_names_and_the_slider_needs_no_model(
    started: AnnotationSession, viewer_model: ViewerModel, dino: str
) -> None:
    layer = _found(started, viewer_model, dino, 0.9)
    assert set(layer.features["name"]) <= {"round coin", "nucleus", "the dark thing"}
    assert (layer.features["score"] > 0.9).all()
    assert [str(text) for text in layer.text.values] == [
        f"{name} {score:.2f}" for name, score in zip(layer.features["name"], layer.features["score"], strict=True)
    ]
    first = layer.nshapes
    started.words.filter(0.97)
    assert 0 < layer.nshapes < first
    assert (layer.features["score"] > 0.97).all()
    started.words.filter(0.9)
    assert layer.nshapes == first
    assert not started.lane.busy("words")


def test_boxes_can_be_moved_deleted_and_drawn_before_masks_are_made(
    started: AnnotationSession, viewer_model: ViewerModel, dino: str
) -> None:
    layer = _found(started, viewer_model, dino, 0.97)
    count = layer.nshapes
    gone = layer.features["number"].iloc[0]
    layer.selected_data = {0}
    layer.remove_selected()
    assert started.state.boxes == count - 1
    moved = layer.features["number"].iloc[0]
    corners = [np.array(box) for box in layer.data]
    corners[0] = np.array([[30, 30], [30, 70], [75, 70], [75, 30]], dtype=float)
    layer.data = corners
    drawn = np.array([[100, 100], [100, 140], [140, 140], [140, 100]], dtype=float)
    layer.add_rectangles([drawn])
    assert started.state.boxes == count
    started.words.filter(0.9)
    numbers = layer.features["number"].tolist()
    assert gone not in numbers
    assert numbers.count(-1) == numbers.count(moved) == 1
    np.testing.assert_allclose(layer.data[numbers.index(moved)], corners[0])
    np.testing.assert_allclose(layer.data[numbers.index(-1)], drawn)
    filtered = started.state.boxes
    started.undo()
    assert started.state.boxes == filtered - 1
    assert -1 not in layer.features["number"].tolist()
    assert gone not in layer.features["number"].tolist()
    started.undo()
    assert all(started.words.search.unmoved(box) for box in started.words.boxes)
    started.undo()
    assert gone in layer.features["number"].tolist(), "it was deleted before, and that is taken back"


def test_masks_are_made_of_the_boxes_in_one_step_beside_labels_that_are_there(
    started: AnnotationSession, viewer_model: ViewerModel, dino: str
) -> None:
    mine = viewer_model.add_labels(np.zeros((303, 384), dtype=np.uint8), name="mine")
    mine.data[:60, :70] = 7
    before = mine.data.copy()
    started.masks.use(mine)
    layer = _found(started, viewer_model, dino, 0.97)
    names = set(layer.features["name"])
    boxes = layer.nshapes
    started.words.accept()
    assert started.wait(WAIT)
    assert not started.state.problem, started.state.message
    assert layer.nshapes == started.state.boxes == 0
    assert (mine.data[before == 7] == 7).all()
    table = mine.features.set_index("index")
    assert 0 < len(table) <= boxes
    assert set(table["name"]) <= names
    assert table["word_score"].between(0.97, 1).all()
    assert table["predicted_iou"].between(0, 1.2).all()
    assert set(np.unique(mine.data)) - {0, 7} <= set(table.index)
    after = mine.data.copy()
    assert (after != before).any()
    started.undo()
    assert np.array_equal(mine.data, before)
    assert layer.nshapes == boxes
    started.redo()
    assert np.array_equal(mine.data, after)
    assert layer.nshapes == 0


def test_sam3_brings_masks_of_its_own_and_edited_boxes_are_segmented(
    started: AnnotationSession, viewer_model: ViewerModel, sam3: str
) -> None:
    layer = _found(started, viewer_model, sam3, 0.36)
    number = int(layer.features["number"].iloc[0])
    sought = started.words.search
    assert sought is not None
    assert sought.detections.patches is not None
    own = sought.detections.patches[number - sought.first].full((303, 384))
    while layer.nshapes > 1:
        layer.selected_data = {layer.nshapes - 1}
        layer.remove_selected()
    started.words.accept()
    assert started.wait(WAIT)
    masks = viewer_model.layers["coins masks"]
    assert np.array_equal(masks.data > 0, own)
    started.undo()
    layer.data = [np.array([[30, 30], [30, 70], [75, 70], [75, 30]], dtype=float)]
    started.words.accept()
    assert started.wait(WAIT)
    assert (masks.data > 0).any()
    assert not np.array_equal(masks.data > 0, own)


def test_names_stand_in_the_readout_and_stay_in_the_features(
    started: AnnotationSession, viewer_model: ViewerModel, dino: str
) -> None:
    started.add_depth()
    _found(started, viewer_model, dino, 0.97)
    started.words.accept()
    assert started.wait(WAIT)
    masks = viewer_model.layers["coins masks"]
    names = masks.features.set_index("index")["name"]
    table = started.readout()
    assert len(table) > 0
    assert (table["name"] == names.reindex(table.index)).all()
    assert {"name", "word_score", "nearness"} <= set(masks.features.columns)


def test_boxes_belong_to_their_slice(session: AnnotationSession, viewer_model: ViewerModel, dino: str) -> None:
    stack = np.stack([data.coins()[:200, :200], data.coins()[-200:, -200:]])
    image = viewer_model.add_image(stack, name="stack", scale=(2.0, 0.5, 0.5))
    viewer_model.dims.set_current_step(0, 1)
    session.start(image)
    assert session.wait(WAIT)
    layer = _found(session, viewer_model, dino, 0.9)
    assert all((corners[:, 0] == 1).all() for corners in layer.data)
    count = layer.nshapes
    viewer_model.dims.set_current_step(0, 0)
    assert session.wait(WAIT)
    with pytest.raises(LayerError, match="no box"):
        session.words.accept()
    session.words.filter(0.99)
    assert layer.nshapes == count
    viewer_model.dims.set_current_step(0, 1)
    assert session.wait(WAIT)
    session.words.accept()
    assert session.wait(WAIT)
    masks = viewer_model.layers["stack masks"].data
    assert masks[1].any()
    assert not masks[0].any()


def test_boxes_of_a_slice_are_counted_filtered_and_drawn_there_alone(
    session: AnnotationSession, viewer_model: ViewerModel, dino: str
) -> None:
    _start_on_stack(session, viewer_model)
    layer = _found(session, viewer_model, dino, 0.9)
    count = layer.nshapes
    viewer_model.dims.set_current_step(0, 1)
    assert session.wait(WAIT)
    assert session.state.boxes == session.state.words_found == 0
    session.words.discard()
    assert layer.nshapes == count
    layer.add_rectangles([np.array([[1, 20, 20], [1, 20, 60], [1, 60, 60], [1, 60, 20]], dtype=float)])
    assert session.wait(WAIT)
    assert session.state.scores, "a box drawn here is a prompt"
    session.clear()
    viewer_model.dims.set_current_step(0, 0)
    assert session.wait(WAIT)
    assert session.state.boxes == count
    assert session.state.words_found > 0
    session.words.filter(0.97)
    assert 0 < layer.nshapes < count
    layer.add_rectangles([np.array([[0, 20, 20], [0, 20, 60], [0, 60, 60], [0, 60, 20]], dtype=float)])
    assert session.state.boxes == layer.nshapes
    assert not session.state.scores, "a box drawn beside those found is one more of them"


def test_a_search_goes_on_where_it_was_begun_while_other_slices_are_looked_at(
    session: AnnotationSession, viewer_model: ViewerModel, dino: str
) -> None:
    _start_on_stack(session, viewer_model)
    session.words.filter(0.9)
    session.words.find(TEXT, dino)
    viewer_model.dims.set_current_step(0, 1)
    assert session.wait(WAIT)
    layer = _boxes(viewer_model)
    assert "go back to it" in session.state.message
    assert session.state.boxes == 0 < layer.nshapes
    assert all((corners[:, 0] == 0).all() for corners in layer.data)
    viewer_model.dims.set_current_step(0, 0)
    assert session.wait(WAIT)
    assert session.state.boxes == layer.nshapes
    session.words.accept()
    viewer_model.dims.set_current_step(0, 1)
    assert session.wait(WAIT)
    assert "go back to it" in session.state.message
    viewer_model.dims.set_current_step(0, 0)
    assert session.wait(WAIT)
    session.words.accept()
    assert session.wait(WAIT)
    assert viewer_model.layers["stack masks"].data[0].any()
    assert not viewer_model.layers["stack masks"].data[1].any()


def test_the_slider_goes_on_after_undo(started: AnnotationSession, viewer_model: ViewerModel, dino: str) -> None:
    layer = _found(started, viewer_model, dino, 0.97)
    few = layer.nshapes
    best = set(layer.features["number"])
    started.undo()
    assert layer.nshapes == started.state.boxes == started.state.words_found == 0
    started.redo()
    assert set(layer.features["number"]) == best, "what was undone is not deleted"
    started.words.accept()
    assert started.wait(WAIT)
    assert started.state.boxes == started.state.words_found == 0
    started.undo()
    started.words.filter(0.9)
    many = layer.nshapes
    assert many > few
    assert best <= set(layer.features["number"])
    started.words.discard()
    assert layer.nshapes == started.state.words_found == 0
    started.undo()
    assert layer.nshapes == many
    started.words.filter(0.97)
    assert set(layer.features["number"]) == best
    started.words.filter(1.0)
    assert layer.nshapes == 0
    started.words.discard()
    assert started.state.words_found == 0, "what was found can be discarded though no box passes"


def test_names_go_with_the_labels_that_are_taken_back(
    started: AnnotationSession, viewer_model: ViewerModel, dino: str
) -> None:
    _found(started, viewer_model, dino, 0.97)
    started.words.accept()
    assert started.wait(WAIT)
    masks = viewer_model.layers["coins masks"]
    table = masks.features.copy()
    assert len(table) > 0
    masks.features = table.assign(mine=np.arange(len(table)))
    started.undo()
    assert len(masks.features) == 0, "a label painted with the same number would have the name of another object"
    started.redo()
    assert masks.features["name"].tolist() == table["name"].tolist()
    assert masks.features["index"].tolist() == table["index"].tolist()
    assert masks.features["mine"].tolist() == list(range(len(table)))


def test_clicks_go_on_beside_the_boxes(started: AnnotationSession, viewer_model: ViewerModel, dino: str) -> None:
    layer = _found(started, viewer_model, dino, 0.97)
    count = layer.nshapes
    points = viewer_model.layers["SAM prompts"]
    points.add(COIN)
    assert started.wait(WAIT)
    assert started.state.scores
    started.words.filter(0.9)
    assert started.state.scores
    assert started.accept() == 1
    assert layer.nshapes == started.state.boxes > count
    assert len(points.data) == 0


def test_nothing_encoded_no_box_and_wrong_models_are_one_sentence(
    session: AnnotationSession, image: Image, tmp_path: Path
) -> None:
    with pytest.raises(LayerError, match="Press Start"):
        session.words.find("coin")
    with pytest.raises(LayerError, match="Press Start"):
        session.words.accept()
    session.start(image)
    assert session.wait(WAIT)
    with pytest.raises(LayerError, match="no box"):
        session.words.accept()
    session.words.find("coin", str(tmp_path))
    assert session.wait(WAIT)
    assert session.state.problem
    assert "config.json" in session.state.message


def test_a_text_without_words_and_a_lost_image(
    started: AnnotationSession, viewer_model: ViewerModel, image: Image, dino: str
) -> None:
    started.words.find(" . ", dino)
    assert started.wait(WAIT)
    assert "Say what to look for" in started.state.message
    started.words.find(TEXT, dino)
    viewer_model.layers.remove(image)
    assert started.wait(WAIT)
    assert started.state.boxes == 0
    assert "SAM shapes" not in viewer_model.layers
