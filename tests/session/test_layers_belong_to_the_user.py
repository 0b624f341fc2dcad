"""Scaled, rotated, stacked, lazy and multiscale layers; layers renamed, changed and removed at any time."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from numpy.typing import NDArray

from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.core.errors import LayerError
from napari_samdepth.session.depth_layers import depth_layer_for, fill_depth
from napari_samdepth.session.geometry import Shown, shown_plane
from napari_samdepth.session.session import AnnotationSession

from .conftest import COIN, WAIT
from .test_session import click, preview


@pytest.fixture
def plain(session: AnnotationSession, viewer_model: ViewerModel, image: Image) -> NDArray[np.bool_]:
    """The mask of the first coin in a plain image."""
    session.start(image)
    click(session, viewer_model, *COIN)
    mask = preview(viewer_model)
    viewer_model.layers.clear()
    assert mask.any()
    return mask


def test_a_placed_image_gives_the_same_mask_in_the_same_place(
    plain: NDArray[np.bool_], session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    place = {"scale": (0.5, 0.25), "translate": (10, -4), "rotate": 30, "units": ("um", "um")}
    image = viewer_model.add_image(coins, name="placed", **place)
    session.start(image)
    # a click arrives in world coordinates, whatever layer it is made in
    points = viewer_model.layers["SAM prompts"]
    points.add(points.world_to_data(image.data_to_world(COIN)))
    assert session.wait(WAIT)
    assert np.array_equal(preview(viewer_model), plain)
    session.accept()
    labels = viewer_model.layers["placed masks"]
    assert np.allclose(labels.data_to_world((3, 7)), image.data_to_world((3, 7)))
    assert labels.units == image.units


def test_labels_on_another_grid_get_the_mask_where_it_is_seen(
    plain: NDArray[np.bool_], session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    image = viewer_model.add_image(coins, name="coins")
    labels = viewer_model.add_labels(np.zeros((200, 220), dtype=np.int32), scale=(0.5, 0.5), translate=(20, 10))
    session.start(image, labels=labels)
    click(session, viewer_model, *COIN)
    session.accept()
    rows, cols = np.nonzero(labels.data)
    back = np.round(np.stack([rows * 0.5 + 20, cols * 0.5 + 10], axis=1)).astype(int)
    assert plain[back[:, 0], back[:, 1]].mean() > 0.97
    assert len(rows) == pytest.approx(4 * plain.sum(), rel=0.05)


def test_what_the_user_sees_counts(
    plain: NDArray[np.bool_], session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    deep = coins.astype(np.uint16) * 40 + 3000
    image = viewer_model.add_image(deep, name="16 bit", contrast_limits=(3000, 3000 + 255 * 40))
    session.start(image)
    click(session, viewer_model, *COIN)
    assert np.array_equal(preview(viewer_model), plain)
    image.contrast_limits = (3000, 3000 + 255 * 10)
    assert session.state.phase == "busy", "the mask on offer is made anew for the new look"
    assert session.wait(WAIT)
    assert session.state.phase == "ready"
    assert preview(viewer_model).any()
    assert not np.array_equal(preview(viewer_model), plain)
    session.clear()
    image.contrast_limits = (60000, 65000)
    assert session.state.phase == "idle", "nothing waits for an answer"
    click(session, viewer_model, 60, 60)
    assert session.state.phase == "ready"


def test_a_stack_is_annotated_slice_by_slice(
    plain: NDArray[np.bool_], session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    stack = np.stack([coins, coins[::-1], coins[:, ::-1]])
    viewer_model.add_image(stack, name="stack")
    viewer_model.dims.set_current_step(0, 0)
    session.start()
    click(session, viewer_model, 0, *COIN)
    session.accept()
    viewer_model.dims.set_current_step(0, 2)
    assert session.wait(WAIT)
    click(session, viewer_model, 2, COIN[0], 383 - COIN[1])
    session.accept()
    labels = viewer_model.layers["stack masks"].data
    assert np.array_equal(labels[0] == 1, plain)
    assert (labels[2] == 2).sum() > 500
    assert not labels[1].any()
    session.add_depth()
    assert session.wait(WAIT)
    assert list(session.readout().index) == [2]
    depth = viewer_model.layers["stack depth"].data
    assert np.isfinite(depth[2]).all()
    assert np.isnan(depth[0]).all()
    viewer_model.dims.set_current_step(0, 0)
    session.add_depth()
    assert session.wait(WAIT)
    table = session.readout()
    assert table["slice"].to_dict() == {1: 0, 2: 2}
    session.show_label(viewer_model.layers["stack masks"], 2, plane=2)
    assert viewer_model.dims.current_step[0] == 2


def test_a_points_layer_of_the_user_serves_as_prompts_and_stays(
    plain: NDArray[np.bool_], session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    image = viewer_model.add_image(coins, name="coins")
    own = viewer_model.add_points([COIN], name="my clicks", face_color="blue")
    own.current_face_color = "yellow"
    session.start(image, points=own)
    assert session.wait(WAIT)
    assert np.array_equal(preview(viewer_model), plain)
    assert own.face_color[0, 1] > 0.7, "green: it says foreground"
    own.add((120.0, 50.0))
    assert "SAM prompts" not in viewer_model.layers
    session.finish()
    assert own in viewer_model.layers
    assert not own.keymap
    np.testing.assert_allclose(own.face_color, [[0, 0, 1, 1], [1, 1, 0, 1]])
    own.add((10.0, 10.0))
    np.testing.assert_allclose(own.face_color[-1], [1, 1, 0, 1])
    with pytest.raises(LayerError, match="3 dimensions"):
        session.start(image, points=viewer_model.add_points(np.zeros((1, 3))))


def test_transposed_axes_show_and_write_the_transposed_plane(
    session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    viewer_model.add_image(coins, name="coins")
    viewer_model.dims.order = (1, 0)
    session.start()
    click(session, viewer_model, *COIN)
    assert preview(viewer_model)[52, 49]
    assert preview(viewer_model).sum() > 500


def test_only_the_shown_plane_of_a_lazy_array_is_computed(
    session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    computed: list[int] = []

    def plane(block_info: dict[None, dict[str, list[tuple[int, int]]]] | None = None) -> NDArray[np.uint8]:
        assert block_info is not None
        computed.append(block_info[None]["array-location"][0][0])
        return coins[None]

    lazy = da.map_blocks(plane, chunks=((1,) * 50, (303,), (384,)), dtype=np.uint8, meta=np.empty((0, 0, 0), np.uint8))
    viewer_model.add_image(lazy, name="lazy", contrast_limits=(0, 255))
    viewer_model.dims.set_current_step(0, 17)
    computed.clear()
    session.start()
    click(session, viewer_model, 17, *COIN)
    assert set(computed) <= {17}
    assert preview(viewer_model)[17].sum() > 500


def test_multiscale_images_get_masks_at_full_resolution(
    session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_samdepth.session.layers.MAX_SIDE", 400)
    large = np.kron(coins, np.ones((4, 4), dtype=np.uint8))
    viewer_model.add_image([large, large[::2, ::2], coins], name="pyramid", multiscale=True)
    session.start()
    click(session, viewer_model, *(4 * at for at in COIN))
    mask = preview(viewer_model)
    assert mask.shape == large.shape
    assert mask[4 * 52, 4 * 49]
    session.accept()
    assert np.array_equal(viewer_model.layers["pyramid masks"].data == 1, mask)
    session.add_depth()
    assert session.wait(WAIT)
    depth = viewer_model.layers["pyramid depth"]
    assert np.allclose(depth.data_to_world((0, 0)), (1.5, 1.5))
    assert list(session.readout().index) == [1]


def test_renamed_layers_are_still_ours(
    plain: NDArray[np.bool_], session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    image = viewer_model.add_image(coins, name="coins")
    session.start(image)
    for layer in list(viewer_model.layers):
        layer.name = f"renamed {layer.name}"
    viewer_model.add_points(np.zeros((0, 2)), name="SAM prompts")
    viewer_model.layers["renamed SAM prompts"].add(list(COIN))
    assert session.wait(WAIT)
    assert np.array_equal(viewer_model.layers["renamed SAM preview"].data == 1, plain)
    session.accept()
    assert np.array_equal(viewer_model.layers["renamed coins masks"].data == 1, plain)


@pytest.mark.parametrize("name", ["coins", "SAM prompts", "SAM shapes", "SAM preview", "coins masks", "coins depth"])
@pytest.mark.parametrize("busy", [False, True])
def test_any_layer_may_go_at_any_time(
    started: AnnotationSession, viewer_model: ViewerModel, name: str, busy: bool
) -> None:
    click(started, viewer_model, *COIN)
    started.accept()
    started.add_depth()
    assert started.wait(WAIT)
    image = started.image
    viewer_model.layers["SAM prompts"].add([120, 100])
    if not busy:
        assert started.wait(WAIT)
    viewer_model.layers.remove(viewer_model.layers[name])
    assert started.wait(WAIT)
    started.accept()
    started.undo()
    started.redo()
    assert started.wait(WAIT)
    if name == "coins":
        image = viewer_model.add_image(image.data if image is not None else np.zeros((9, 9)), name="again")
    started.start(image)
    assert started.wait(WAIT)
    click(started, viewer_model, *COIN)
    assert started.state.scores


def test_answers_for_another_slice_layer_or_model_are_dropped(
    started: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    other = viewer_model.add_image(coins[:200, :200], name="other")
    viewer_model.layers["SAM prompts"].add(list(COIN))
    started.start(other)
    assert started.wait(WAIT)
    assert started.state.scores == ()
    assert viewer_model.layers["SAM preview"].data.shape == (200, 200)
    assert not preview(viewer_model).any()


def test_complex_images_are_refused_in_one_sentence(
    session: AnnotationSession, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    # napari 0.9 refuses to show complex images at all, so the layer only says that it is one
    monkeypatch.setattr(type(image), "dtype", property(lambda _layer: np.dtype(np.complex64)))
    with pytest.raises(LayerError, match="complex"):
        session.start(image)


def test_a_3d_view_is_refused_in_one_sentence(session: AnnotationSession, viewer_model: ViewerModel) -> None:
    viewer_model.add_image(np.zeros((4, 16, 16)))
    viewer_model.dims.ndisplay = 3
    with pytest.raises(LayerError, match="3-D"):
        session.start()


def test_masks_are_not_written_into_lazy_or_multiscale_labels(
    started: AnnotationSession, viewer_model: ViewerModel
) -> None:
    lazy = viewer_model.add_labels(da.zeros((303, 384), dtype=np.int32), name="lazy")
    with pytest.raises(LayerError, match="not held in memory"):
        started.start(started.image, labels=lazy)


def test_contrast_limits_of_depth_grow_with_its_slices_until_the_user_sets_them(viewer_model: ViewerModel) -> None:
    image = viewer_model.add_image(np.zeros((3, 8, 9), np.uint8), name="stack", contrast_limits=(0, 255))

    def depth(plane: int, low: float, high: float) -> tuple[Shown, DepthMap]:
        viewer_model.dims.set_current_step(0, plane)
        values = np.linspace(low, high, 72, dtype=np.float32).reshape(8, 9)
        return shown_plane(image, viewer_model.dims), DepthMap(values, "inverse", None, "test")

    layer = depth_layer_for(image, *depth(0, 1, 2))
    assert tuple(layer.contrast_limits) == (1, 2)
    fill_depth(layer, *depth(1, 0, 1.5))
    assert tuple(layer.contrast_limits) == (0, 2)
    layer.contrast_limits = (0.5, 1.5)
    fill_depth(layer, *depth(2, 1, 9))
    assert tuple(layer.contrast_limits) == (0.5, 1.5)
    assert tuple(layer.contrast_limits_range) == (0, 9)
    assert np.isfinite(layer.data).all()
