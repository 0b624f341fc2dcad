"""SAM behind our protocol equals `segment_anything.SamPredictor`, whose masks and scores are the reference here.

Rule of the parity tests: given the same embedding, masks must be identical and scores equal within 1e-4. From pixels to
masks the same is asked with ``attention="stock"``, which runs the very same operations; with the default attention in
pieces features must agree within 1e-5, and masks be identical wherever the features are (they are bit for bit with
torch's x86 libraries), else cover each other with IoU >= 0.999.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_samdepth.core.embedding import Embedding
from napari_samdepth.core.errors import Cancelled, ModelError
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.models.protocols import Segmenter
from napari_samdepth.models.runtime.device import Device
from napari_samdepth.models.sam.segmenter import SamSegmenter, load_sam

SHAPES = {"grey": (96, 128), "rgb": (256, 256), "tall": (301, 90), "wide": (61, 400), "odd": (123, 457)}
CPU = Device("cpu", "asked for")


def _prompts(shape: tuple[int, int], mask: np.ndarray) -> dict[str, tuple[Prompts, dict[str, Any]]]:
    """Return prompts of ours by name, each with the same as SamPredictor's arguments."""
    height, width = shape
    inside = np.array([[0.4 * height, 0.6 * width], [0.2 * height, 0.3 * width], [0.9 * height, 0.1 * width]]).round(1)
    box = np.array([0.1 * height, 0.2 * width, 0.8 * height, 0.9 * width])
    labels = np.array([1, 1, 0])
    flipped = {"box": box[[1, 0, 3, 2]], "labels": labels}
    one = {"point_coords": inside[:1, ::-1], "point_labels": labels[:1]}
    all_points = {"point_coords": inside[:, ::-1], "point_labels": labels}
    again = {"mask_input": mask[None].copy(), "multimask_output": False}
    return {
        "one point": (Prompts(inside[:1]), {**one, "multimask_output": True}),
        "points": (Prompts(inside, labels), {**all_points, "multimask_output": False}),
        "box": (Prompts(box=box), {"box": flipped["box"], "multimask_output": False}),
        "points and box": (
            Prompts(inside, labels, box), {**all_points, "box": flipped["box"], "multimask_output": False},
        ),
        "point and mask": (Prompts(inside[:1], mask=mask), {**one, **again}),
        "everything": (Prompts(inside, labels, box, mask), {**all_points, "box": flipped["box"], **again}),
    }  # fmt: skip


def _assert_same(segmenter: Segmenter, embedding: Embedding, predictor: Any) -> int:
    """Compare all prompts; return how many pixels of all masks are set (a test on empty masks shows nothing)."""
    height, width = embedding.image_shape
    first = segmenter.decode(embedding, Prompts([(0.4 * height, 0.6 * width)]))
    set_pixels = 0
    for name, (ours, theirs) in _prompts(embedding.image_shape, first.logits[first.best]).items():
        masks, scores, logits = predictor.predict(**theirs)
        found = segmenter.decode(embedding, ours)
        assert np.array_equal(found.logits, logits), name
        assert np.array_equal(found.masks, masks), name
        assert np.abs(found.scores - scores).max() <= 1e-4, name
        assert found.best == int(np.argmax(scores)), name
        set_pixels += int(np.count_nonzero(masks != masks[:, :1, :1]))
    return set_pixels


@pytest.mark.parametrize(("kind", "attention"), [*((kind, "chunked") for kind in SHAPES), ("odd", "stock")])
def test_masks_equal_sam_predictors(
    tiny_sam: Any, picture: Callable[..., np.ndarray], kind: str, attention: Any
) -> None:
    from segment_anything import SamPredictor

    rgb = picture(*SHAPES[kind], grey=kind == "grey")
    segmenter = SamSegmenter(tiny_sam, "tiny", "tiny:0", CPU, attention=attention)
    predictor = SamPredictor(tiny_sam)
    predictor.set_image(rgb)
    embedding = segmenter.encode(rgb)
    expected = predictor.features[0].numpy()
    if attention == "stock":
        assert np.array_equal(embedding.features["image"], expected)
    assert np.abs(embedding.features["image"] - expected).max() <= 1e-5 * np.abs(expected).max()
    assert embedding.input_size == tuple(predictor.input_size)
    predictor.features = predictor.features.new_tensor(embedding.features["image"])[None]
    assert _assert_same(segmenter, embedding, predictor) > 1000


def _predictor(path: Path, architecture: str) -> Any:
    import torch
    from segment_anything import SamPredictor, sam_model_registry

    with torch.device("meta"):
        sam = sam_model_registry[architecture]()
    sam.load_state_dict(torch.load(path, weights_only=True), assign=True)
    sam.pixel_mean = torch.tensor([123.675, 116.28, 103.53]).view(-1, 1, 1)
    sam.pixel_std = torch.tensor([58.395, 57.12, 57.375]).view(-1, 1, 1)
    return SamPredictor(sam.eval())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("architecture", ["vit_b", "vit_l", "vit_h"])
def test_decoder_of_a_checkpoint_equals_sam_predictors(
    sam_checkpoint: Callable[[str], Path], full_size: Callable[[bool], None], architecture: str
) -> None:
    """The weights of every size arrive where they belong, seen through the decoder on a random embedding."""
    import torch

    full_size(architecture == "vit_h")
    path = sam_checkpoint(architecture)
    segmenter = load_sam(path, device="cpu")
    predictor = _predictor(path, architecture)
    assert segmenter.model.startswith(f"{architecture}:")
    ours, theirs = segmenter.network.state_dict(), predictor.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    shape, input_size = (123, 457), (276, 1024)
    features = torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(3))
    predictor.features, predictor.is_image_set = features, True
    predictor.original_size, predictor.input_size = shape, input_size
    embedding = Embedding({"image": features[0].numpy()}, shape, input_size, segmenter.model)
    assert _assert_same(segmenter, embedding, predictor) > 1000


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("architecture", ["vit_b", "vit_l", "vit_h"])
def test_pixels_to_masks_equal_sam_predictors(
    sam_checkpoint: Callable[[str], Path],
    picture: Callable[..., np.ndarray],
    full_size: Callable[[bool], None],
    architecture: str,
    kind: str,
) -> None:
    """Everything at full size; all but one picture through ViT-B takes minutes: NAPARI_SAMDEPTH_SLOW asks for it."""
    full_size((architecture, kind) != ("vit_b", "odd"))
    path = sam_checkpoint(architecture)
    segmenter = load_sam(path, device="cpu")
    predictor = _predictor(path, architecture)
    rgb = picture(*SHAPES[kind], grey=kind == "grey")
    predictor.set_image(rgb)
    embedding = segmenter.encode(rgb)
    expected = predictor.features[0].numpy()
    assert np.abs(embedding.features["image"] - expected).max() <= 1e-5 * np.abs(expected).max()
    if np.array_equal(embedding.features["image"], expected):
        assert _assert_same(segmenter, embedding, predictor) > 1000
    else:
        _assert_nearly_same(segmenter, embedding, predictor)


def _assert_nearly_same(segmenter: Segmenter, embedding: Embedding, predictor: Any) -> None:
    for name, (ours, theirs) in _prompts(embedding.image_shape, np.zeros((256, 256), np.float32)).items():
        masks, scores, _ = predictor.predict(**theirs)
        found = segmenter.decode(embedding, ours)
        assert np.abs(found.scores - scores).max() <= 1e-4, name
        for mine, stock in zip(found.masks, masks, strict=True):
            assert (mine & stock).sum() >= 0.999 * (mine | stock).sum(), name


def test_multimask_can_be_asked_for(tiny_sam: Any, picture: Callable[..., np.ndarray]) -> None:
    segmenter = SamSegmenter(tiny_sam, "tiny", "tiny:0", CPU)
    embedding = segmenter.encode(picture(64, 64))
    assert len(segmenter.decode(embedding, Prompts([(3, 4)]))) == 3
    assert len(segmenter.decode(embedding, Prompts([(3, 4)]), multimask=False)) == 1
    assert len(segmenter.decode(embedding, Prompts([(3, 4), (9, 9)]))) == 1
    assert len(segmenter.decode(embedding, Prompts([(3, 4), (9, 9)]), multimask=True)) == 3


def test_an_embedding_from_the_disk_decodes_the_same(tiny_sam: Any, picture: Callable[..., np.ndarray]) -> None:
    segmenter = SamSegmenter(tiny_sam, "tiny", "tiny:0", CPU)
    fresh = segmenter.encode(picture(50, 80))
    stored = Embedding(dict(fresh.features), fresh.image_shape, fresh.input_size, fresh.model)
    prompts = Prompts([(20, 30)])
    assert np.array_equal(segmenter.decode(fresh, prompts).logits, segmenter.decode(stored, prompts).logits)
    with pytest.raises(ValueError, match="read-only"):
        fresh.features["image"][0] = 0


def test_progress_is_told_per_block_and_cancel_stops(
    tiny_sam: Any, picture: Callable[..., np.ndarray], steps: Any
) -> None:
    segmenter = SamSegmenter(tiny_sam, "tiny", "tiny:0", CPU)
    segmenter.encode(picture(40, 40), steps.report)
    fractions = [fraction for fraction, _ in steps.notes]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert [what for _, what in steps.notes][:3] == [f"encoding, block {number} of 3" for number in (1, 2, 3)]
    steps.notes.clear()
    steps.stop_at = 1
    with pytest.raises(Cancelled):
        segmenter.encode(picture(40, 40), steps.report)
    assert len(steps.notes) == 2


def test_out_of_memory_on_a_gpu_goes_on_on_the_cpu(
    tiny_sam: Any, picture: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    expected = SamSegmenter(tiny_sam, "tiny", "tiny:0", CPU).encode(picture(40, 60))
    segmenter = SamSegmenter(tiny_sam, "tiny", "tiny:0", Device("mps", "pretended"))
    calls = []

    def exhausted(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(calls))
        if len(calls) == 1:
            raise torch.OutOfMemoryError("injected")
        return type(tiny_sam.image_encoder.patch_embed).forward(tiny_sam.image_encoder.patch_embed, x)

    monkeypatch.setattr(tiny_sam.image_encoder.patch_embed, "forward", exhausted)
    embedding = segmenter.encode(picture(40, 60))
    assert len(calls) == 2
    assert np.array_equal(embedding.features["image"], expected.features["image"])
    assert segmenter.device == "cpu"
    assert "mps ran out of memory while encoding" in segmenter.device_reason
    assert segmenter.device_reason in caplog.text


def test_other_errors_are_not_taken_for_out_of_memory(
    tiny_sam: Any, picture: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = SamSegmenter(tiny_sam, "tiny", "tiny:0", Device("mps", "pretended"))

    def broken(x: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(tiny_sam.image_encoder.patch_embed, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        segmenter.encode(picture(40, 60))
    assert segmenter.device == "mps"


def test_what_does_not_fit_is_refused(tiny_sam: Any, picture: Callable[..., np.ndarray]) -> None:
    segmenter = SamSegmenter(tiny_sam, "tiny", "tiny:0", CPU)
    embedding = segmenter.encode(picture(40, 40))
    other = Embedding(embedding.features, embedding.image_shape, embedding.input_size, "vit_b:1")
    with pytest.raises(ModelError, match=r"made by vit_b:1, not by tiny:0; encode"):
        segmenter.decode(other, Prompts([(1, 1)]))
    with pytest.raises(ModelError, match=r"shape \(256, 256\), got \(64, 64\)"):
        segmenter.decode(embedding, Prompts([(1, 1)], mask=np.zeros((64, 64))))
    with pytest.raises(ModelError, match=r"uint8 \(H, W, 3\), got float64 \(4, 4, 3\)"):
        segmenter.encode(np.zeros((4, 4, 3)))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="too elongated"):
        segmenter.encode(np.zeros((1, 5000, 3), np.uint8))


def test_bfloat16_is_near_and_known_by_its_name(tiny_sam: Any, picture: Callable[..., np.ndarray]) -> None:
    exact = SamSegmenter(tiny_sam, "tiny", "tiny:0", CPU).encode(picture(70, 70))
    segmenter = SamSegmenter(tiny_sam, "tiny", "tiny:0", CPU, precision="bfloat16")
    coarse = segmenter.encode(picture(70, 70))
    difference = coarse.features["image"] - exact.features["image"]
    assert coarse.features["image"].dtype == np.float32
    assert 0 < np.linalg.norm(difference) < 0.05 * np.linalg.norm(exact.features["image"])
    with pytest.raises(ModelError, match="encode the image again"):
        segmenter.decode(exact, Prompts([(1, 1)]))


def test_adapter_keeps_the_protocol(tiny_sam: Any) -> None:
    assert isinstance(SamSegmenter(tiny_sam, "tiny", "tiny:0", CPU), Segmenter)
