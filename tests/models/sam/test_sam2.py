"""SAM 2 with random weights in the real format against transformers' own processor and network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_samdepth.core.embedding import Embedding
from napari_samdepth.core.errors import Cancelled, ModelError
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.models.loading import load_segmenter
from napari_samdepth.models.protocols import Segmenter
from napari_samdepth.models.runtime.device import Device, transformers_module

SIDE = 128


@pytest.fixture(scope="session")
def sam2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small SAM 2.1 as the hub would give it."""
    transformers = transformers_module()
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sam2") / "sam2-small"
    hiera = {
        "hidden_size": 16, "image_size": [SIDE, SIDE], "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [16, 32, 64, 128], "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [4, 2, 4, 2], "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4],
    }  # fmt: skip
    config = transformers.Sam2Config(
        vision_config=transformers.Sam2VisionConfig(
            backbone_config=transformers.Sam2HieraDetConfig(**hiera), backbone_channel_list=[128, 64, 32, 16],
            backbone_feature_sizes=[[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
        ),
        prompt_encoder_config=transformers.Sam2PromptEncoderConfig(image_size=SIDE),
    )  # fmt: skip
    model = transformers.Sam2Model(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    processor = transformers.Sam2Processor(transformers.Sam2ImageProcessor(size={"height": SIDE, "width": SIDE}))
    processor.save_pretrained(folder)
    return folder


def _theirs(folder: Path, rgb: np.ndarray, several: bool, masks: Any, **prompts: Any) -> tuple[np.ndarray, ...]:
    from PIL import Image

    transformers = transformers_module()
    import torch

    model = transformers.Sam2Model.from_pretrained(folder)
    processor = transformers.Sam2Processor.from_pretrained(folder)
    inputs = processor(images=Image.fromarray(rgb), return_tensors="pt", **prompts)
    with torch.no_grad():
        outputs = model(
            **{name: value for name, value in inputs.items() if name != "original_sizes"},
            multimask_output=several, input_masks=masks,
        )  # fmt: skip
    (found,) = processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])
    return found[0].numpy(), outputs.iou_scores[0, 0].numpy(), outputs.pred_masks[0, 0].numpy()


@pytest.mark.parametrize("shape", [(96, 96), (150, 61), (47, 203)])
def test_masks_equal_transformers(
    sam2_folder: Path, picture: Callable[..., np.ndarray], shape: tuple[int, int]
) -> None:
    import torch

    rgb = picture(*shape)
    segmenter = load_segmenter(sam2_folder, device="cpu")
    assert isinstance(segmenter, Segmenter)
    embedding = segmenter.encode(rgb)
    stored = Embedding(dict(embedding.features), embedding.image_shape, embedding.input_size, embedding.model)
    height, width = shape
    points = np.array([[0.4 * height, 0.6 * width], [0.8 * height, 0.2 * width]]).round(1)
    box = [0.1 * height, 0.2 * width, 0.7 * height, 0.9 * width]
    xy = [[points[:, ::-1].tolist()]]
    first = segmenter.decode(embedding, Prompts(points[:1]))
    fed = first.logits[first.best]
    mask = torch.tensor(fed)[None, None]
    found_any = 0
    for ours, several, given, theirs in (
        (Prompts(points[:1]), True, None, {"input_points": [[[xy[0][0][0]]]], "input_labels": [[[1]]]}),
        (Prompts(points, [1, 0]), False, None, {"input_points": xy, "input_labels": [[[1, 0]]]}),
        (Prompts(box=box), False, None, {"input_boxes": [[[box[1], box[0], box[3], box[2]]]]}),
        (
            Prompts(points, [1, 0], box, fed), False, mask,
            {"input_points": xy, "input_labels": [[[1, 0]]], "input_boxes": [[[box[1], box[0], box[3], box[2]]]]},
        ),
    ):  # fmt: skip
        masks, scores, logits = _theirs(sam2_folder, rgb, several, given, **theirs)
        for embedded in (embedding, stored):
            found = segmenter.decode(embedded, ours)
            assert np.abs(found.logits - logits).max() <= 1e-4 * np.abs(logits).max()
            assert np.abs(found.scores - scores).max() <= 1e-4
            for mine, other in zip(found.masks, masks, strict=True):
                assert (mine & other).sum() >= 0.999 * (mine | other).sum()
        found_any += int(masks.any() and not masks.all())
    assert found_any, "masks that are all or nothing show nothing"


def test_many_clicks_at_once_equal_single_ones(sam2_folder: Path, picture: Callable[..., np.ndarray]) -> None:
    segmenter: Any = load_segmenter(sam2_folder, device="cpu")
    embedding = segmenter.encode(picture(60, 90))
    points = np.array([[10.0, 20.0], [50.0, 70.0], [3.5, 88.0]])
    logits, scores, frame = segmenter.point_masks(embedding, points)
    assert logits.shape == (3, 3, 32, 32)
    for index, point in enumerate(points):
        single = segmenter.decode(embedding, Prompts([point]))
        assert np.abs(logits[index] - single.logits).max() <= 1e-4 * np.abs(single.logits).max()
        assert np.abs(scores[index] - single.scores).max() <= 1e-4
        assert frame == single.frame


def test_a_folder_without_processor_uses_the_standard_one(
    sam2_folder: Path, tmp_path: Path, picture: Callable[..., np.ndarray]
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((sam2_folder / name).read_bytes())
    expected = load_segmenter(sam2_folder, device="cpu").encode(picture(40, 50))
    found = load_segmenter(tmp_path, device="cpu").encode(picture(40, 50))
    for name, value in expected.features.items():
        assert np.array_equal(found.features[name], value)


def test_progress_cancel_and_refusals(sam2_folder: Path, picture: Callable[..., np.ndarray], steps: Any) -> None:
    segmenter = load_segmenter(sam2_folder, device="cpu")
    embedding = segmenter.encode(picture(40, 40), steps.report)
    assert steps.notes[0][1] == "encoding, block 1 of 5"
    assert steps.notes[-1] == (1.0, "encoded")
    steps.notes.clear()
    steps.stop_at = 1
    with pytest.raises(Cancelled):
        segmenter.encode(picture(40, 40), steps.report)
    with pytest.raises(ModelError, match=r"shape \(32, 32\), got \(9, 9\)"):
        segmenter.decode(embedding, Prompts([(1, 1)], mask=np.zeros((9, 9))))
    other = Embedding(embedding.features, embedding.image_shape, embedding.input_size, "vit_b:1")
    with pytest.raises(ModelError, match="made by vit_b:1, not by sam2:"):
        segmenter.decode(other, Prompts([(1, 1)]))


def test_out_of_memory_on_a_gpu_goes_on_on_the_cpu(
    sam2_folder: Path, picture: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    segmenter: Any = load_segmenter(sam2_folder, device="cpu")
    expected = segmenter.encode(picture(40, 40)).features["image"]
    segmenter._device = Device("mps", "pretended")
    original = segmenter.network.get_image_embeddings
    failures = [torch.OutOfMemoryError("injected")]

    def exhausted(pixels: Any) -> Any:
        if failures:
            raise failures.pop()
        return original(pixels)

    monkeypatch.setattr(segmenter.network, "get_image_embeddings", exhausted)
    assert np.array_equal(segmenter.encode(picture(40, 40)).features["image"], expected)
    assert segmenter.device == "cpu"
    assert "mps ran out of memory while encoding" in segmenter.device_reason
