"""What a user's Labels layer holds is theirs: features, locked and read-only data, numbers that are used up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels
from numpy.typing import NDArray

from napari_samdepth.core.errors import LayerError
from napari_samdepth.session.session import AnnotationSession

from .conftest import COIN, WAIT
from .test_session import click


@pytest.fixture
def two(viewer_model: ViewerModel, session: AnnotationSession) -> Labels:
    """Two labels on a picture with a ramp as depth."""
    ramp = viewer_model.add_image(np.tile(np.linspace(0, 1, 100, dtype=np.float32), (100, 1)), name="ramp")
    session.use_depth(ramp, "height", "m")
    held = np.zeros((100, 100), dtype=np.int32)
    held[10:40, 10:40], held[60:90, 60:90] = 1, 2
    return viewer_model.add_labels(held, name="cells")


@pytest.mark.parametrize("indexed", [True, False])
def test_a_readout_keeps_the_columns_and_rows_of_the_user(
    session: AnnotationSession, two: Labels, indexed: bool
) -> None:
    table = pd.DataFrame({"kind": ["none", "glia", "neuron", "lost"]})
    two.features = table.assign(index=range(4)) if indexed else table
    assert list(session.readout(two).index) == [1, 2]
    kept = two.features.set_index("index")
    assert kept["kind"].to_dict() == {0: "none", 1: "glia", 2: "neuron", 3: "lost"}
    assert kept.loc[[1, 2], "area"].tolist() == [900, 900]


def test_a_readout_of_one_slice_keeps_what_is_known_of_labels_in_others(
    session: AnnotationSession, viewer_model: ViewerModel, two: Labels
) -> None:
    stack = np.zeros((2, 100, 100), dtype=np.int32)
    stack[0, 10:40, 10:40], stack[1, 60:90, 60:90] = 1, 2
    labels = viewer_model.add_labels(stack, features=pd.DataFrame({"index": [1, 2], "kind": ["glia", "neuron"]}))
    viewer_model.dims.set_current_step(0, 0)
    session.readout(labels)
    assert labels.features.set_index("index")["kind"].to_dict() == {1: "glia", 2: "neuron"}


def test_a_number_given_anew_knows_nothing_of_the_label_that_had_it(
    started: AnnotationSession, viewer_model: ViewerModel
) -> None:
    started.everything.filter(0.5, 0.3)
    started.everything.search(6, 0)
    assert started.wait(WAIT)
    assert started.everything.accept()
    features = viewer_model.layers["coins masks"].features
    assert 1 in set(features["index"])
    started.undo()
    started.redo()
    pd.testing.assert_frame_equal(viewer_model.layers["coins masks"].features, features)
    started.undo()
    click(started, viewer_model, *COIN)
    assert started.accept() == 1
    assert 1 not in set(viewer_model.layers["coins masks"].features["index"])


@pytest.mark.parametrize("how", ["read-only", "locked"])
def test_labels_that_must_not_be_written_are_refused_in_one_sentence(
    started: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8], how: str
) -> None:
    held = np.zeros(coins.shape, dtype=np.int32)
    labels = viewer_model.add_labels(held, name="mine")
    started.masks.use(labels)
    click(started, viewer_model, *COIN)
    if how == "read-only":
        held.flags.writeable = False
    else:
        labels.editable = False
    with pytest.raises(LayerError, match=f"“mine” is {how}"):
        started.accept()
    with pytest.raises(LayerError, match=f"“mine” is {how}"):
        started.masks.use(labels)
    assert started.state.scores, "the mask is still on offer"


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_labels_without_a_free_number_are_refused_in_one_sentence(
    started: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8], dtype: type
) -> None:
    labels = viewer_model.add_labels(np.zeros(coins.shape, dtype=dtype), name="mine")
    labels.data[0, 0] = np.iinfo(dtype).max
    started.masks.use(labels)
    click(started, viewer_model, *COIN)
    with pytest.raises(LayerError, match="no number left"):
        started.accept()
    started.everything.filter(0.5, 0.3)
    started.everything.search(6, 0)
    assert started.wait(WAIT)
    with pytest.raises(LayerError, match="no number left"):
        started.everything.accept()


def test_undo_leaves_labels_alone_that_were_locked_since(started: AnnotationSession, viewer_model: ViewerModel) -> None:
    click(started, viewer_model, *COIN)
    started.accept()
    labels = viewer_model.layers["coins masks"]
    labels.editable = False
    started.undo()
    assert started.wait(WAIT)
    assert labels.data.any()
    assert "locked" in started.state.message


def test_small_integers_are_widened_when_they_are_full(
    started: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    labels = viewer_model.add_labels(np.zeros(coins.shape, dtype=np.uint8), name="mine")
    labels.data[0, 0] = 255
    started.masks.use(labels)
    click(started, viewer_model, *COIN)
    assert started.accept() == 256
    assert labels.data[0, 0] == 255
    started.undo()
    assert started.wait(WAIT)
    assert labels.data.max() == 255
    assert not started.state.problem


def test_a_height_map_can_be_depth_and_the_picture_that_is_clicked_on(
    session: AnnotationSession, image: Image, viewer_model: ViewerModel
) -> None:
    session.use_depth(image, "height", "nm")
    session.start()
    click(session, viewer_model, *COIN)
    assert session.image is image
    assert session.state.live["median"] > 100
    session.add_depth()
    assert session.wait(WAIT)
    viewer_model.layers.selection.active = viewer_model.layers["coins depth"]
    assert session.active_image() is image, "depth that a model made is no picture"
