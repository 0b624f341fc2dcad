"""Many single clicks decoded at once are those that segment_anything's decoder gives, one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_samdepth.core.prompts import Prompts
from napari_samdepth.models.auto_masks.everything import segment_everything
from napari_samdepth.models.runtime.device import Device
from napari_samdepth.models.sam.segmenter import SamSegmenter

CPU = Device("cpu", "asked for")
POINTS = np.array([[3.0, 4.0], [40.0, 100.0], [59.5, 20.25]])


@pytest.fixture
def rgb(picture: Callable[..., np.ndarray]) -> NDArray[np.uint8]:
    return picture(60, 110)


def test_masks_are_the_stock_decoders(tiny_sam: Any, rgb: NDArray[np.uint8]) -> None:
    segmenter = SamSegmenter(tiny_sam, "tiny", "tiny:0", CPU)
    embedding = segmenter.encode(rgb)
    logits, scores, frame = segmenter.point_masks(embedding, POINTS)
    found, promised, clicks, same_frame = segmenter.masks_above(embedding, POINTS, -np.inf)
    assert clicks.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert frame == same_frame
    assert np.abs(found - logits.reshape(-1, 256, 256)).max() <= 1e-5 * np.abs(logits).max()
    assert np.abs(promised - scores.ravel()).max() <= 1e-5
    by_one = [segmenter.decode(embedding, Prompts([tuple(point)])).logits for point in POINTS]
    assert np.abs(found - np.concatenate(by_one)).max() <= 1e-5 * np.abs(logits).max()


def test_only_masks_that_promise_enough_are_made(tiny_sam: Any, rgb: NDArray[np.uint8]) -> None:
    segmenter = SamSegmenter(tiny_sam, "tiny", "tiny:0", CPU)
    embedding = segmenter.encode(rgb)
    everything, scores, clicks, _ = segmenter.masks_above(embedding, POINTS, -np.inf)
    threshold = float(np.sort(scores)[4]) + 1e-6
    found, promised, of, _ = segmenter.masks_above(embedding, POINTS, threshold)
    kept = scores > threshold
    assert 0 < kept.sum() < len(scores)
    assert np.array_equal(promised, scores[kept])
    assert np.array_equal(of, clicks[kept])
    assert np.abs(found - everything[kept]).max() <= 1e-5 * np.abs(everything).max()
    nothing, *_others = segmenter.masks_above(embedding, POINTS, 1e9)
    assert nothing.shape == (0, 256, 256)


def test_what_clicks_share_belongs_to_one_embedding(tiny_sam: Any, picture: Callable[..., np.ndarray]) -> None:
    segmenter = SamSegmenter(tiny_sam, "tiny", "tiny:0", CPU)
    embeddings = [segmenter.encode(picture(50, 90, seed=seed)) for seed in (0, 1)]
    first, second, again = (segmenter.masks_above(embeddings[at], POINTS, -np.inf)[0] for at in (0, 1, 0))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, again)


def test_clicks_are_decoded_in_float32_whatever_the_encoder_does(tiny_sam: Any, rgb: NDArray[np.uint8]) -> None:
    exact = SamSegmenter(tiny_sam, "tiny", "tiny:0", CPU)
    coarse = SamSegmenter(tiny_sam, "tiny", "tiny:0", CPU, precision="bfloat16")
    embedding = coarse.encode(rgb)
    logits, scores, _ = coarse.point_masks(embedding, POINTS)
    found, promised, _, _ = coarse.masks_above(embedding, POINTS, -np.inf)
    assert np.abs(found - logits.reshape(-1, 256, 256)).max() < 1e-5 * np.abs(logits).max()
    assert np.abs(promised - scores.ravel()).max() < 1e-5
    same = exact.encode(rgb)
    local = {"image": embedding.local["image"]}
    moved = type(same)(embedding.features, same.image_shape, same.input_size, same.model, local)
    prompts = Prompts([(20, 30)])
    assert np.array_equal(coarse.decode(embedding, prompts).logits, exact.decode(moved, prompts).logits)


def test_a_decoder_with_hooks_is_left_to_itself(tiny_sam: Any, rgb: NDArray[np.uint8]) -> None:
    segmenter = SamSegmenter(tiny_sam, "tiny", "tiny:0", CPU)
    embedding = segmenter.encode(rgb)
    before = segmenter.masks_above(embedding, POINTS, -np.inf)[0]
    handle = tiny_sam.mask_decoder.output_upscaling.register_forward_hook(lambda module, args, out: out * 2)
    try:
        after = segmenter.masks_above(embedding, POINTS, -np.inf)[0]
    finally:
        handle.remove()
    assert np.allclose(after, 2 * before, atol=1e-4 * np.abs(before).max())


def test_large_masks_are_judged_as_small_ones_are(monkeypatch: pytest.MonkeyPatch, tiny_sam: Any) -> None:
    from napari_samdepth.models.auto_masks import point_grid

    segmenter = SamSegmenter(tiny_sam, "tiny", "tiny:0", CPU)
    embedding = segmenter.encode(np.random.default_rng(0).integers(0, 255, (700, 900, 3), dtype=np.uint8))
    search = {"points_per_side": 3, "pred_iou_thresh": -1e9, "stability_score_thresh": 0.0}
    sparing = segment_everything(segmenter, embedding, **search)  # type: ignore[arg-type]
    monkeypatch.setattr(point_grid, "LARGE", 1 << 60)
    whole = segment_everything(segmenter, embedding, **search)  # type: ignore[arg-type]
    assert max(mask.area for mask in whole.masks) > 1 << 15
    assert [mask.stability_score for mask in sparing.masks] == [mask.stability_score for mask in whole.masks]
    assert np.array_equal(sparing.labels(), whole.labels())
