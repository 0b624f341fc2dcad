"""“As shown”: the model sees all visible images as napari's canvas blends them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from numpy.typing import NDArray

from napari_samdepth.session.blending import read_blended
from napari_samdepth.session.session import AnnotationSession

from .conftest import WAIT
from .test_session import click

BLOCK = 12
"""Pixels a side of areas of one colour; they are compared at their centres."""


def blocks(seed: int, rows: int = 10, cols: int = 14) -> NDArray[np.uint8]:
    values = np.random.default_rng(seed).integers(0, 255, (rows, cols)).astype(np.uint8)
    return np.kron(values, np.ones((BLOCK, BLOCK), dtype=np.uint8))


def colours(seed: int) -> NDArray[np.uint8]:
    return np.stack([blocks(seed + channel) for channel in range(3)], axis=-1)


SCENES: dict[str, list[dict[str, Any]]] = {
    "channels": [
        {"data": blocks(0), "colormap": "green", "blending": "additive"},
        {"data": blocks(1) * 256.0, "colormap": "magenta", "blending": "additive", "gamma": 0.6},
        {"data": blocks(2), "colormap": "gray", "blending": "additive", "opacity": 0.4, "contrast_limits": (30, 190)},
    ],
    "opacity over colours": [
        {"data": colours(3), "rgb": True},
        {"data": blocks(6), "colormap": "viridis", "blending": "translucent", "opacity": 0.55},
    ],
    "minimum": [
        {"data": blocks(7), "colormap": "I Blue", "blending": "minimum"},
        {"data": blocks(8), "colormap": "I Forest", "blending": "minimum"},
    ],
    "multiplicative": [
        {"data": blocks(9), "colormap": "inferno", "blending": "translucent_no_depth", "opacity": 0.7},
        {"data": blocks(10), "colormap": "gray", "blending": "multiplicative"},
    ],
    "opaque on top, hidden between": [
        {"data": blocks(11), "colormap": "red"},
        {"data": blocks(12), "colormap": "blue", "visible": False},
        {"data": blocks(13)[:60, :84], "colormap": "cyan", "blending": "opaque"},
    ],
    "another grid": [
        {"data": blocks(14), "colormap": "gray"},
        {"data": blocks(15)[::2, ::3], "colormap": "green", "blending": "additive", "scale": (2, 3)},
        {"data": blocks(16)[:60], "colormap": "red", "blending": "additive", "translate": (36, 24)},
    ],
}


@pytest.mark.filterwarnings("ignore:Inconsistent units")
def test_it_is_what_the_canvas_shows(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1000, 700)
    for name, scene in SCENES.items():
        viewer.layers.clear()
        first = None
        for layer in scene:
            added = viewer.add_image(**layer)
            first = first or added
        viewer.reset_view()
        shot = viewer.screenshot(canvas_only=True, flash=False)
        canvas = viewer.window._qt_viewer.canvas
        ratio = shot.shape[0] / canvas.native.height()
        seen = read_blended(first, viewer).render().rgb
        centres = [(row, col) for row in range(5, 120, BLOCK) for col in range(5, 168, BLOCK)]
        drawn = []
        for row, col in centres:
            x, y = canvas.view.scene.transform.map([col, row])[:2]
            drawn.append(shot[round(float(y) * ratio), round(float(x) * ratio), :3])
        expected = np.array([seen[row, col] for row, col in centres], dtype=int)
        assert np.abs(np.array(drawn, dtype=int) - expected).max() <= 4, name


def test_an_object_that_only_all_channels_show_is_found(session: AnnotationSession, viewer_model: ViewerModel) -> None:
    rows, cols = np.mgrid[:90, :120]
    left = np.where((rows - 45) ** 2 + (cols - 60) ** 2 < 500, 220, 15).astype(np.uint8)
    image = viewer_model.add_image(np.full((90, 120), 15, dtype=np.uint8), contrast_limits=(0, 255), name="empty")
    channel = viewer_model.add_image(left, colormap="green", blending="additive", contrast_limits=(0, 255))
    session.start(image, as_shown=True)
    click(session, viewer_model, 45, 60)
    mask = viewer_model.layers["SAM preview"].data == 1
    disc = left > 100
    assert (mask & disc).sum() > 0.85 * (mask | disc).sum()
    # what is blended otherwise is another picture; adding depth or labels is not
    encoded = session._annotator.encoded
    session.accept()
    session.add_depth()
    assert session.wait(WAIT)
    assert session._annotator.encoded is encoded
    channel.visible = False
    assert session._annotator.encoded is None
    click(session, viewer_model, 20, 20)
    assert not np.array_equal(session._annotator.encoded.rgb, encoded.rgb)
    session.start(image)
    assert session.wait(WAIT)
    channel.visible = True
    assert session._annotator.encoded is not None, "by itself the image is as it was"
