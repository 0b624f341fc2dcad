"""A thick slice is seen as napari draws it: its mean, sum, maximum or minimum over the slices it holds."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_samdepth.core.plane import to_rgb
from napari_samdepth.session.layers import read_plane
from napari_samdepth.session.session import AnnotationSession

from .conftest import WAIT
from .test_session import click

MODES = ("none", "mean", "max", "min", "sum")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0)])
def test_the_plane_read_is_the_projection_drawn(viewer_model: ViewerModel, mode: str, order: tuple[int, ...]) -> None:
    stack = np.random.default_rng(0).integers(0, 200, (9, 12, 15)).astype(np.uint8)
    image = viewer_model.add_image(stack, scale=(2, 1, 0.5), units=("um", "um", "nm"), projection_mode=mode)
    assert viewer_model.add_image(stack, visible=False).projection_mode == "mean", "napari's own choice"
    viewer_model.layers.pop()
    viewer_model.dims.order = order
    hidden = order[0]
    start, stop, step = viewer_model.dims.range[hidden]
    for share in (0, 0.3, 0.5, 1):
        viewer_model.dims.set_point(hidden, start + share * (stop - start))
        for left, right in ((0, 0), (1, 1), (1.5, 0.5), (0.4, 2.6), (20, 20)):
            margins = np.zeros(3)
            margins[hidden] = left * step
            viewer_model.dims.margin_left = tuple(margins)
            margins[hidden] = right * step
            viewer_model.dims.margin_right = tuple(margins)
            source = read_plane(image, viewer_model)
            assert np.array_equal(source.read(), image._slice.image.raw), (share, left, right)
            assert np.array_equal(source.render().rgb, to_rgb(source.read(), contrast_limits=(0, 255), rgb=False))


@pytest.mark.parametrize("rgb", [False, True])
def test_levels_and_colours_are_projected_as_well(viewer_model: ViewerModel, rgb: bool) -> None:
    colours = (3,) if rgb else ()
    fine = np.random.default_rng(1).integers(0, 255, (8, 6000, 10, *colours)).astype(np.uint8)
    image = viewer_model.add_image([fine, fine[::2, ::2, ::2]], rgb=rgb, projection_mode="max")
    viewer_model.dims.set_point(0, 4)
    viewer_model.dims.thickness = (4, 0, 0)
    source = read_plane(image, viewer_model)
    assert source.shown.level == 1
    assert np.array_equal(source.read(), fine[::2, ::2, ::2][1:4].max(axis=0))


def test_another_thickness_is_another_picture(session: AnnotationSession, viewer_model: ViewerModel) -> None:
    rows, cols = np.mgrid[:80, :100]
    stack = np.full((5, 80, 100), 20, dtype=np.uint8)
    stack[1][(rows - 40) ** 2 + (cols - 30) ** 2 < 200] = 250
    stack[3][(rows - 40) ** 2 + (cols - 75) ** 2 < 200] = 250
    image = viewer_model.add_image(stack, projection_mode="max", name="stack")
    viewer_model.dims.set_point(0, 2)
    session.start(image)
    assert session.wait(WAIT)
    viewer_model.dims.thickness = (2, 0, 0)
    for col, number in ((30, 1), (75, 2)):
        click(session, viewer_model, 2, 40, col)
        assert session.accept() == number
        disc = (rows - 40) ** 2 + (cols - col) ** 2 < 200
        mask = session.masks.layer.data[2] == number
        assert (mask & disc).sum() > 0.8 * (mask | disc).sum()
    assert not session.masks.layer.data[[0, 1, 3, 4]].any(), "labels go to the middle slice"
    click(session, viewer_model, 2, 20, 50)
    image.projection_mode = "mean"
    assert session.lane.busy("embed"), "the mask on offer is made anew for the new look"
    assert session.wait(WAIT)
