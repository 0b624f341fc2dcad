"""Depth layers: what is known of their values goes wherever the values go."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.core.errors import LayerError
from napari_samdepth.session.depth_layers import DepthLayer, depth_layer_for, depth_source, fill_depth
from napari_samdepth.session.geometry import shown_plane
from napari_samdepth.session.session import AnnotationSession

SLOPE = np.linspace(0, 1, 40 * 60, dtype=np.float32).reshape(40, 60)


def depth_layer(viewer: ViewerModel, upsampling: float, shape: tuple[int, ...] = (40, 60)) -> Image:
    """Return the depth layer of a new image; its map was enlarged by `upsampling`."""
    image = viewer.add_image(np.zeros(shape, dtype=np.uint8))
    shown = shown_plane(image, viewer.dims)
    return viewer.add_layer(depth_layer_for(image, shown, DepthMap(SLOPE, "inverse", None, "a model", upsampling)))


def read_on(layer: Image, size: tuple[int, int], viewer: ViewerModel) -> DepthMap:
    """Return a depth layer's map on the grid of labels of `size` that lie over the same 40 x 60 world."""
    labels = viewer.add_labels(np.zeros(size, dtype=np.uint8), scale=(40 / size[0], 60 / size[1]))
    known = DepthLayer.noted(layer)
    assert known is not None
    return depth_source(known, labels, shown_plane(labels, viewer.dims), viewer).render()


@pytest.mark.parametrize(
    ("own", "size", "expected"),
    [(3.0, (40, 60), 3.0), (3.0, (160, 240), 12.0), (3.0, (20, 30), 1.5), (3.0, (8, 12), 1.0), (1.0, (80, 120), 2.0)],
)
def test_another_grid_has_its_own_upsampling(
    viewer_model: ViewerModel, own: float, size: tuple[int, int], expected: float
) -> None:
    found = read_on(depth_layer(viewer_model, own), size, viewer_model)
    assert found.values.shape == size
    assert found.upsampling == pytest.approx(expected)


def test_a_coarse_level_is_no_finer_than_its_pixels(viewer_model: ViewerModel) -> None:
    fine = np.zeros((8192, 64), dtype=np.float32)  # more than the longest side that is read
    layer = viewer_model.add_image([fine, fine[::2, ::2]], multiscale=True)
    for own, expected in ((1.0, 2.0), (6.0, 6.0)):
        labels = viewer_model.add_labels(np.zeros((8192, 64), dtype=np.uint8))
        shown = shown_plane(labels, viewer_model.dims)
        source = depth_source(DepthLayer(layer, "inverse", None, "", own), labels, shown, viewer_model)
        assert source.render().upsampling == pytest.approx(expected)


def test_metadata_keep_what_is_known(viewer_model: ViewerModel) -> None:
    layer = depth_layer(viewer_model, 3.0, (2, 40, 60))
    shown = shown_plane(layer, viewer_model.dims)
    fill_depth(layer, shown, DepthMap(SLOPE, "distance", "m", "another", 5.0))
    noted = DepthLayer.noted(Image(layer.data, metadata=layer.metadata))
    assert noted is not None
    assert (noted.kind, noted.unit, noted.source, noted.upsampling) == ("distance", "m", "another", 5.0)


@pytest.mark.parametrize("noted", [None, {}, "text", {"kind": "depth"}, {"kind": ["inverse"]}])
def test_metadata_that_say_nothing(noted: object) -> None:
    assert DepthLayer.noted(Image(SLOPE, metadata={"napari-samdepth": noted})) is None


@pytest.mark.parametrize("wrong", [0, -3, "4", None, float("nan"), True])
def test_metadata_with_a_wrong_upsampling_count_as_1(wrong: object) -> None:
    known = DepthLayer.noted(Image(SLOPE, metadata={"napari-samdepth": {"kind": "inverse", "upsampling": wrong}}))
    assert known is not None
    assert known.upsampling == 1


def test_every_slice_of_a_stack_and_the_shown_plane_are_read_alike(
    session: AnnotationSession, viewer_model: ViewerModel
) -> None:
    layer = depth_layer(viewer_model, 4.0, (2, 40, 60))
    layer.data[:] = SLOPE + np.random.default_rng(0).normal(0, 0.05, (2, 40, 60))
    labels = np.zeros((2, 40, 60), dtype=np.uint8)
    labels[:, 5:35, 5:30] = 1
    stack = viewer_model.add_labels(labels)
    other_grid = viewer_model.add_labels(labels[:1, :, :59])
    whole = session.readout(stack, layer)
    plane = session.readout(other_grid, layer)
    assert whole.loc[whole["slice"] == 0, "p5"].item() == pytest.approx(plane["p5"].item())
    layer.metadata = {"napari-samdepth": {"kind": "inverse"}}
    assert session.readout(other_grid, layer)["p5"].item() != pytest.approx(plane["p5"].item())


def scene_in_mm() -> tuple[np.ndarray, np.ndarray]:
    """Return labels of a thing at 900 mm and a glossy one at 1500 mm, and a camera's depth with holes of 0."""
    labels = np.zeros((60, 80), dtype=np.uint8)
    labels[10:30, 10:30], labels[30:50, 45:70] = 1, 2
    depth = np.where(labels == 1, 900, np.where(labels == 2, 1500, 2000)).astype(np.uint16)
    depth[(labels == 2) & (np.random.default_rng(0).random(labels.shape) < 0.6)] = 0
    return labels, depth


@pytest.mark.parametrize("fill", [0, 65535])
@pytest.mark.parametrize("stacked", [False, True])
def test_no_reading_is_left_out_counted_and_said(
    session: AnnotationSession, viewer_model: ViewerModel, fill: int, stacked: bool
) -> None:
    labels, depth = scene_in_mm()
    depth[depth == 0] = fill
    if stacked:
        labels, depth = np.stack([labels] * 2), np.stack([depth] * 2)
    things, sensor = viewer_model.add_labels(labels), viewer_model.add_image(depth, name="sensor")
    session.use_depth(sensor, "distance", "mm")
    table = session.readout(things)
    assert table["median"].tolist() == [900, 1500] * (2 if stacked else 1)
    assert table["nan_count"].tolist()[:2] == [0, (depth == fill).sum() // (2 if stacked else 1)]
    said = f"6 % of the pixels hold no reading ({fill})"
    assert session.state.message.startswith(said)
    assert said in session.state.depth_text
    session.use_depth(sensor, "distance", "mm", no_reading="none")
    assert session.readout(things)["nan_count"].tolist()[:2] == [0, 0]
    assert session.state.message == ""
    session.use_depth(sensor, "distance", "mm", no_reading=900)
    assert session.readout(things)["valid_share"].tolist()[:2] == [0, 1]
    assert (sensor.data == depth).all(), "the layer is the user's"


def test_scattered_holes_do_not_eat_a_finer_grid(session: AnnotationSession, viewer_model: ViewerModel) -> None:
    labels, depth = scene_in_mm()
    fine = viewer_model.add_labels(np.kron(labels, np.ones((4, 4), dtype=np.uint8)), scale=(0.25, 0.25))
    fine.translate = (-0.375, -0.375)
    session.use_depth(viewer_model.add_image(depth), "distance", "mm")
    table = session.readout(fine)
    assert table["valid_share"].tolist() == pytest.approx([1, (depth[labels == 2] > 0).mean()], abs=0.05)
    assert table["median"].tolist() == [900, 1500]


@pytest.mark.parametrize(("kind", "no_reading"), [("depth", "auto"), ("", "auto"), (None, "auto"), ("height", "zero")])
def test_what_means_nothing_is_refused_and_the_depth_in_use_stays(
    session: AnnotationSession, viewer_model: ViewerModel, kind: str, no_reading: str
) -> None:
    first = viewer_model.add_image(SLOPE, name="first")
    session.use_depth(first, "height")
    with pytest.raises(LayerError, match=r"is of kind|No reading is"):
        session.use_depth(viewer_model.add_image(SLOPE), kind, no_reading=no_reading)  # type: ignore[arg-type]
    assert session.state.depth_layer == "first"


def test_heights_far_from_zero_keep_their_detail(session: AnnotationSession, viewer_model: ViewerModel) -> None:
    relief = 4e8 + np.add.outer(np.arange(40), np.zeros(60))
    labels = viewer_model.add_labels(np.pad(np.ones((21, 30), dtype=np.uint8), ((10, 9), (10, 20))))
    session.use_depth(viewer_model.add_image(relief), "height", "nm")
    assert session.readout(labels)["median"].item() == 4e8 + 20
    session.use_depth(viewer_model.add_image(relief[::2, ::2], scale=(2, 2)), "height", "nm")
    assert session.readout(labels)["median"].item() == pytest.approx(4e8 + 20, abs=0.01, rel=0)


@pytest.mark.parametrize(("unit", "other"), [("nm", "µm"), ("nm", None), (None, "m")])
def test_features_say_the_unit_of_the_depth_in_use_and_no_other(
    session: AnnotationSession, viewer_model: ViewerModel, unit: str | None, other: str | None
) -> None:
    labels = viewer_model.add_labels(np.pad(np.ones((21, 30), dtype=np.uint8), ((10, 9), (10, 20))))
    labels.features = {"index": [1], "mine": ["kept"], "p5 %": [3]}
    layer = viewer_model.add_image(SLOPE)
    for now in (unit, other):
        session.use_depth(layer, "height", now)
        table = session.readout(labels)
        assert table.attrs["unit"] == now
        assert "median" in table.columns
        titles = {str(name) for name in labels.features.columns}
        assert (f"median [{now}]" if now else "median") in titles
        assert len([name for name in titles if name.startswith("median")]) == 1
        assert {"mine", "p5 %"} <= titles
    assert labels.features["mine"].tolist() == ["kept"]
