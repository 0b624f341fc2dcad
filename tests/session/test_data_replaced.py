"""Image data that become others while something is made of them: shape, dtype or dimensions; and depth of odd kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from numpy.typing import NDArray

from napari_samdepth.core.errors import LayerError
from napari_samdepth.session.session import AnnotationSession

from .conftest import COIN, WAIT

OTHERS: dict[str, Callable[[NDArray[np.uint8]], Any]] = {
    "smaller": lambda held: held[:200, :250].copy(),
    "larger": lambda held: np.pad(held, 40),
    "float64": lambda held: held.astype(np.float64) / 3,
    "a stack": lambda held: np.stack([held, held, held]),
    "another picture": lambda held: held[::-1].copy(),
}
WORK: dict[str, Callable[[AnnotationSession], Any]] = {
    "depth": lambda session: session.add_depth(),
    "search": lambda session: session.everything.search(4, 0),
    "encoding": lambda session: session.start(),
    "decoding": lambda session: session.masks.prompts.points.add(np.array(COIN)),
    "waiting": lambda session: (session.masks.prompts.points.add(np.array(COIN)), session.accept()),
    "readout": lambda session: session.request_readout(session.masks.layer, lambda _table: None, lambda _error: None),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("work", WORK)
def test_data_that_become_others_meanwhile_break_nothing(
    started: AnnotationSession, viewer_model: ViewerModel, image: Image, work: str, other: str
) -> None:
    if work == "readout":
        held = np.zeros((303, 384), dtype=np.uint16)
        held[40:60, 40:60] = 3
        started.masks.use(viewer_model.add_labels(held, name="mine"))
        started.use_depth(image, "height", "nm")
    before = [layer.name for layer in viewer_model.layers]
    WORK[work](started)
    image.data = OTHERS[other](np.asarray(image.data))
    assert started.wait(WAIT)
    assert started.state.task == ""
    assert started.state.waiting == 0
    for layer in viewer_model.layers:
        if layer.name not in before and isinstance(layer, Image):
            assert layer.data.shape == image.data.shape, "depth lies on what is there now"
    if image.ndim == 3:
        viewer_model.dims.set_current_step(0, 1)
    started.start(image)
    assert started.wait(WAIT)
    started.clear()
    started.masks.prompts.points.add(np.array([1, *COIN][-image.ndim :]))
    assert started.wait(WAIT)
    assert started.state.scores, started.state.message


@pytest.mark.parametrize("kind", ["nearness", "", "Distance", "inverse depth"])
def test_depth_of_an_unknown_kind_is_refused_and_clicks_go_on(
    started: AnnotationSession, image: Image, kind: Any
) -> None:
    with pytest.raises(LayerError, match="Depth is of kind"):
        started.use_depth(image, kind)
    started.masks.prompts.points.add(np.array(COIN))
    assert started.wait(WAIT)
    assert started.state.scores
    assert not started.state.live


def test_depth_that_becomes_a_colour_image_or_is_cut_breaks_no_click(
    started: AnnotationSession, viewer_model: ViewerModel, image: Image
) -> None:
    depth = viewer_model.add_image(np.ones((303, 384), dtype=np.float32), name="height")
    started.use_depth(depth, "height", "nm")
    for data in (np.ones((10, 12), dtype=np.float32), np.full((303, 384), np.nan), np.ones((2, 303, 384))):
        depth.data = data
        started.masks.prompts.points.add(np.array([COIN[0], COIN[1], 0][:2]) if image.ndim == 2 else np.array(COIN))
        assert started.wait(WAIT)
        assert started.state.scores
