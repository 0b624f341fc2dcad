"""Whole-image masks are those of segment_anything's generator, and can be filtered anew without the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from segment_anything import SamAutomaticMaskGenerator

from napari_samdepth.core.errors import Cancelled, ModelError
from napari_samdepth.core.maskset import MaskSet
from napari_samdepth.models.auto_masks.everything import propose, segment_everything, usual_search
from napari_samdepth.models.auto_masks.point_grid import Search, crop_boxes
from napari_samdepth.models.builtin.segmenter import load_builtin
from napari_samdepth.models.runtime.device import Device
from napari_samdepth.models.sam.segmenter import SamSegmenter

from .planted import discs_sam, planted_sam


@pytest.fixture(scope="module")
def segmenter() -> SamSegmenter:
    return SamSegmenter(planted_sam(), "planted", "planted", Device("cpu", "for the test"))


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def matched(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> float:
    """Return the smallest over all of their masks of the best IoU with one of ours."""
    mine = np.array([record["segmentation"].ravel() for record in ours], dtype=np.float32)
    stock = np.array([record["segmentation"].ravel() for record in theirs], dtype=np.float32)
    common = stock @ mine.T
    union = stock.sum(1)[:, None] + mine.sum(1)[None] - common
    return float((common / union).max(axis=1).min())


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        ((300, 420), {}),
        ((257, 190), {"pred_iou_thresh": 0.7, "stability_score_thresh": 0.8}),
        ((320, 320), {"points_per_side": 12, "crop_n_layers": 1, "pred_iou_thresh": 0.75}),
        ((240, 300), {"points_per_side": 16, "min_mask_region_area": 60, "pred_iou_thresh": 0.7}),
    ],
)
def test_the_masks_are_those_of_the_generator(
    segmenter: SamSegmenter, shape: tuple[int, int], parameters: dict[str, Any]
) -> None:
    parameters = {"points_per_side": 24, **parameters}
    rgb = picture(*shape)
    if "min_mask_region_area" in parameters:
        pytest.importorskip("cv2", reason="segment_anything needs OpenCV to remove small regions")
    theirs = SamAutomaticMaskGenerator(segmenter.network, **parameters).generate(rgb)
    found = segment_everything(segmenter, segmenter.encode(rgb), rgb=rgb, **parameters)
    ours = found.records()
    assert len(theirs) > 15
    assert abs(len(ours) - len(theirs)) <= 0.01 * len(theirs)
    assert matched(ours, theirs) >= 0.99
    assert matched(theirs, ours) >= 0.99
    by_box = {tuple(record["bbox"]): record for record in ours}
    for record in theirs:
        same = by_box.get(tuple(float(value) for value in record["bbox"]))
        if same is not None:
            assert same["stability_score"] == pytest.approx(record["stability_score"], abs=1e-3)
            assert same["crop_box"] == [float(v) for v in (*record["crop_box"][:2], *record["crop_box"][2:])]


@pytest.mark.parametrize("points_per_side", [8, 16, 32])
@pytest.mark.parametrize(("seed", "shape"), [(0, (300, 300)), (1, (280, 200)), (2, (190, 257))])
def test_small_masks_pass_where_the_generators_do(seed: int, shape: tuple[int, int], points_per_side: int) -> None:
    """Of a few low-resolution pixels the stability is another at image resolution, and that counts."""
    sam = discs_sam(seed)
    parameters: dict[str, Any] = {"points_per_side": points_per_side, "pred_iou_thresh": 0.7}
    segmenter, rgb = SamSegmenter(sam, "planted", "planted", Device("cpu", "for the test")), picture(*shape)
    theirs = SamAutomaticMaskGenerator(sam, **parameters).generate(rgb)
    ours = segment_everything(segmenter, segmenter.encode(rgb), **parameters).records()
    assert len(theirs) > 15
    same = [sorted((r["predicted_iou"], *r["point_coords"][0]) for r in records) for records in (ours, theirs)]
    assert same[0] == same[1]
    assert matched(ours, theirs) >= 0.99
    assert matched(theirs, ours) >= 0.99


def test_crops_are_those_of_the_generator() -> None:
    from segment_anything.utils.amg import generate_crop_boxes

    theirs, layers = generate_crop_boxes((301, 477), 2, 512 / 1500)
    ours = list(crop_boxes((301, 477), 2, 512 / 1500))
    flipped = [(layer, (box[1], box[0], box[3], box[2])) for layer, box in zip(layers, theirs, strict=True)]
    assert sorted(ours) == sorted(flipped)


@pytest.fixture(scope="module")
def proposals(segmenter: SamSegmenter) -> MaskSet:
    search = Search(points_per_side=32, pred_iou_thresh=0.5, stability_score_thresh=0.5)
    return propose(segmenter, segmenter.encode(picture(300, 400)), search)


@pytest.mark.parametrize("shape", [(3, 3), (1, 9), (9, 1), (1, 1)])
def test_images_of_a_few_pixels_have_no_empty_crops(shape: tuple[int, int]) -> None:
    boxes = [box for _, box in crop_boxes(shape, 2, 512 / 1500)]
    assert boxes[0] == (0, 0, *shape)
    assert all(top < bottom <= shape[0] and left < right <= shape[1] for top, left, bottom, right in boxes)
    builtin = load_builtin("cpu")
    rgb = np.full((*shape, 3), 90, np.uint8)
    search = usual_search("builtin")
    assert segment_everything(builtin, builtin.encode(rgb), **vars(search), rgb=rgb).image_shape == shape


def test_filtering_anew_equals_searching_anew(segmenter: SamSegmenter, proposals: MaskSet) -> None:
    again = segment_everything(
        segmenter, segmenter.encode(picture(300, 400)), pred_iou_thresh=0.8, stability_score_thresh=0.9
    )
    filtered = proposals.filtered(0.8, 0.9)
    assert len(filtered) == len(again) > 10
    assert np.array_equal(filtered.labels(), again.labels())


def test_labels_lie_small_above_large_and_know_their_parents(proposals: MaskSet) -> None:
    found = proposals.filtered(0.6, 0.6, box_nms_thresh=0.95)
    labels, order, parents = found.labels(), found.by_area, found.parents()
    assert labels.max() <= len(found)
    smallest = found.masks[order[-1]].patch
    assert (labels[smallest.slices][smallest.mask] == len(found)).all()
    assert (parents < np.arange(1, len(found) + 1)).all()
    child = int(np.flatnonzero(parents)[0])
    inner, outer = (found.masks[order[at]].patch.full(found.image_shape) for at in (child, parents[child] - 1))
    assert (inner & outer).sum() >= 0.9 * inner.sum()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_run_lengths_are_those_of_coco(proposals: MaskSet) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    found = proposals.filtered(0.8, 0.9)
    plain, runs, packed = (found.records(encoding) for encoding in ("mask", "rle", "coco_rle"))
    for mask, run, short in zip(plain, runs, packed, strict=True):
        rle = coco.frPyObjects(run["segmentation"], *found.image_shape)
        assert np.array_equal(coco.decode(rle).astype(bool), mask["segmentation"])
        assert np.array_equal(coco.decode(short["segmentation"]).astype(bool), mask["segmentation"])


def test_the_search_can_be_cancelled_and_refuses_what_it_cannot_do(segmenter: SamSegmenter) -> None:
    embedding = segmenter.encode(picture(100, 100))

    def stop(fraction: float, _what: str) -> None:
        if fraction > 0.1:
            raise Cancelled

    with pytest.raises(Cancelled):
        segment_everything(segmenter, embedding, report=stop)
    with pytest.raises(ModelError, match="picture"):
        segment_everything(segmenter, embedding, crop_n_layers=1)
    with pytest.raises(ValueError, match="either"):
        segment_everything(segmenter, embedding, points_per_side=None)


def test_the_built_in_model_finds_nearly_every_coin_by_looking_closer() -> None:
    """Each object is clicked into once more at its own zoom; masks are whole coins, not parts or neighbours."""
    from pathlib import Path

    from skimage import data, io

    from napari_samdepth import load_segmenter, segment_everything

    truth = io.imread(Path(__file__).parents[2] / "data" / "coins-labels.png")
    rgb = np.stack([data.coins()] * 3, axis=-1)
    seg = load_segmenter("builtin", "cpu")
    told: list[float] = []
    found = segment_everything(
        seg, seg.encode(rgb), points_per_side=12, pred_iou_thresh=0.7, stability_score_thresh=0.5,
        report=lambda part, _what: told.append(part),
    )  # fmt: skip
    assert told == sorted(told)
    labels = found.labels()
    hit = 0
    for number in range(1, 25):
        coin = truth == number
        under = labels == np.bincount(labels[coin]).argmax()
        hit += bool((under & coin).sum() / (under | coin).sum() > 0.85)
    assert hit >= 22
    assert len(found) <= 30
