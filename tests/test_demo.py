"""The demo's steps, with a segmenter and a depth that are plain arithmetic, and with the built-in models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage
from skimage import data, filters, io

from napari_samdepth import demo
from napari_samdepth.core.candidates import Candidates
from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.core.embedding import Embedding
from napari_samdepth.core.plane import to_rgb
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.core.resample import Frame
from napari_samdepth.models.protocols import DepthEstimator, Report, Segmenter


class Regions:
    """A segmenter by threshold: the mask is the connected region under the last foreground click."""

    name, model, device, device_reason = "regions", "regions", "cpu", "Arithmetic needs nothing else."

    def __init__(self) -> None:
        self.prompts: list[Prompts] = []
        self.clicked = np.zeros((0, 2))

    def encode(self, rgb: np.ndarray, report: Report | None = None) -> Embedding:
        grey = rgb.mean(axis=-1)
        bright = ndimage.binary_opening(grey > filters.threshold_otsu(grey), iterations=2)
        regions = ndimage.label(ndimage.binary_fill_holes(bright))[0]
        return Embedding({"regions": regions}, rgb.shape[:2], rgb.shape[:2], self.model)

    def decode(self, embedding: Embedding, prompts: Prompts, multimask: bool | None = None) -> Candidates:
        self.prompts.append(prompts)
        regions = embedding.features["regions"]
        row, col = prompts.points[prompts.labels == 1][-1].astype(int)
        mask = (regions == regions[row, col]) & (regions > 0)
        logits = np.where(mask, 5, -5).astype(np.float32)[None]
        score = 0.95 if mask.any() else 0.1
        return Candidates(logits, np.array([score]), Frame.whole(embedding.image_shape, embedding.image_shape))

    def point_masks(self, embedding: Embedding, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, Frame]:
        self.clicked = np.concatenate([self.clicked, points])
        answers = [self.decode(embedding, Prompts([point])) for point in points]
        logits = np.stack([np.repeat(answer.logits, 3, axis=0) for answer in answers])
        return logits, np.stack([np.repeat(answer.scores, 3) for answer in answers]), answers[0].frame


class Ramp:
    """Depth by height in the picture."""

    name, device, device_reason = "ramp", "cpu", "Arithmetic needs nothing else."

    def estimate(self, rgb: np.ndarray, report: Report | None = None) -> DepthMap:
        return DepthMap(np.mgrid[: rgb.shape[0], : rgb.shape[1]][0], "inverse", None, "ramp")


def coins() -> demo.Scene:
    return demo.Scene("coins", to_rgb(data.coins()), demo.COINS_CLICKS)


def test_the_stand_ins_are_what_the_demo_takes() -> None:
    assert isinstance(Regions(), Segmenter)
    assert isinstance(Ramp(), DepthEstimator)


def test_a_scene_writes_files_that_agree(tmp_path: Path) -> None:
    lines: list[str] = []
    shown = demo.run_scene(coins(), Regions(), Ramp(), tmp_path / "out", lines.append)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in shown.files)
    labels = tifffile.imread(tmp_path / "out" / "coins_labels.tif")
    np.testing.assert_array_equal(labels, shown.labels)
    assert labels.dtype == np.uint8
    assert tifffile.imread(tmp_path / "out" / "coins_depth.tif").dtype == np.float32
    table = pd.read_csv(tmp_path / "out" / "coins_table.csv", index_col="label")
    assert table.index.tolist() == np.unique(labels)[1:].tolist()
    assert table["area"].tolist() == np.bincount(labels.ravel())[1:].tolist()
    # by the ramp the lowest coin is the nearest
    assert table["rank"].idxmin() == table["centroid_row"].idxmax()
    assert io.imread(tmp_path / "out" / "coins_figure.png").shape[1] > 1000
    report = "\n".join(lines)
    for step in ("encode", "clicks", "everything", "depth", "readout", "files"):
        assert shown.seconds[step] >= 0
        assert step in report
    for file in shown.files:
        assert file.name in report


def test_clicked_objects_come_first_and_the_grid_leaves_them_alone(tmp_path: Path) -> None:
    scene, segmenter = coins(), Regions()
    shown = demo.run_scene(scene, segmenter, Ramp(), tmp_path, lambda line: None)
    embedding = segmenter.encode(scene.rgb)
    for number, clicks in enumerate(scene.objects, start=1):
        expected = demo.click(segmenter, embedding, clicks).full(scene.rgb.shape[:2])
        assert expected.any()
        assert (shown.labels[expected] <= number).all()
        assert shown.labels[int(clicks[0][0]), int(clicks[0][1])] <= number
    regions = embedding.features["regions"]
    large = np.flatnonzero(np.bincount(regions.ravel()) > 1000)[1:]
    missed = [number for number in large if not (shown.labels[regions == number] > 0).all()]
    assert not missed  # every large region of the picture is found by a click or by the grid


def test_a_later_click_gets_the_logits_of_the_one_before() -> None:
    segmenter = Regions()
    scene = coins()
    embedding = segmenter.encode(scene.rgb)
    demo.click(segmenter, embedding, ((58, 44, 1), (58, 50, 1), (5, 5, 0)))
    first, second, third = segmenter.prompts
    assert first.mask is None
    assert second.mask is not None
    assert third.points.tolist() == [[58, 44], [58, 50], [5, 5]]
    assert third.labels.tolist() == [1, 1, 0]


def two_squares() -> np.ndarray:
    """Return a picture with a large and a small bright square."""
    rgb = np.zeros((100, 100, 3), dtype=np.uint8)
    rgb[10:60, 10:60], rgb[70:90, 70:90] = 200, 255
    return rgb


def test_everything_finds_each_region_once_and_numbers_by_size() -> None:
    segmenter = Regions()
    labels = demo.everything(segmenter, segmenter.encode(two_squares()), np.zeros((100, 100), dtype=bool))
    assert set(np.unique(labels)) == {0, 1, 2}
    assert (labels[20:50, 20:50] == 1).all()
    assert (labels[75:85, 75:85] == 2).all()


def test_everything_leaves_out_what_is_there_already() -> None:
    segmenter = Regions()
    taken = np.zeros((100, 100), dtype=bool)
    taken[12:60, 12:58] = True  # most of the larger one: its rim is no object of its own
    labels = demo.everything(segmenter, segmenter.encode(two_squares()), taken)
    assert set(np.unique(labels)) == {0, 1}
    assert (labels[75:85, 75:85] == 1).all()
    assert not taken[tuple(segmenter.clicked.astype(int).T)].any()


def test_most_of_the_picture_is_no_object() -> None:
    segmenter = Regions()
    embedding = Embedding({"regions": np.ones((40, 40), dtype=int)}, (40, 40), (40, 40), "regions")
    assert not demo.everything(segmenter, embedding, np.zeros((40, 40), dtype=bool)).any()


@pytest.mark.slow
def test_the_built_in_models_find_the_coins(tmp_path: Path) -> None:
    from napari_samdepth.models.loading import load_depth_estimator, load_segmenter

    scene = demo.Scene("coins", to_rgb(data.coins()), demo.COINS_CLICKS)
    shown = demo.run_scene(
        scene, load_segmenter("builtin"), load_depth_estimator("builtin"), tmp_path, lambda line: None
    )
    truth = Regions().encode(scene.rgb).features["regions"]
    for number in (1, 2, 3):  # coins that a threshold separates from the ground as well
        row, col, _ = scene.objects[number - 1][0]
        coin = truth == truth[row, col]
        mask = shown.labels == number
        if coin.sum() < 5000:
            assert (coin & mask).sum() / (coin | mask).sum() > 0.75
    assert len(shown.files) == 4
