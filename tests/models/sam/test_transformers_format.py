"""SAM in transformers' format: our network with its weights gives what transformers gives, SlimSAM's odd widths too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_samdepth.core.errors import ModelError
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.models.loading import load_segmenter
from napari_samdepth.models.runtime.device import transformers_module
from napari_samdepth.models.sam.segmenter import SamSegmenter

SIDE = 128


def small_model(hidden: int = 24, heads: int = 3, mlp: int = 50) -> Any:
    """Return a small ``SamModel`` with random weights; widths as odd as pruning leaves them."""
    transformers = transformers_module()
    import torch

    torch.manual_seed(0)
    config = transformers.SamConfig(
        vision_config={
            "hidden_size": hidden, "num_hidden_layers": 3, "num_attention_heads": heads, "image_size": SIDE,
            "mlp_dim": mlp, "window_size": 3, "global_attn_indexes": [1], "output_channels": 32, "num_pos_feats": 16,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": SIDE, "mask_input_channels": 16},
        mask_decoder_config={
            "hidden_size": 32, "mlp_dim": 40, "num_attention_heads": 4, "iou_head_hidden_dim": 48,
        },
    )  # fmt: skip
    model = transformers.SamModel(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.15 * torch.randn_like(parameter)
    model.prompt_encoder.shared_embedding.positional_embedding = model.shared_image_embedding.positional_embedding
    return model


@pytest.fixture(scope="module", params=[(24, 3, 50), (42, 3, 37)], ids=["small", "pruned"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = transformers_module()
    path = tmp_path_factory.mktemp("sam") / "sam-small"
    small_model(*request.param).save_pretrained(path)
    size = {"size": {"longest_edge": SIDE}, "pad_size": {"height": SIDE, "width": SIDE}}
    sizes = {"mask_size": {"longest_edge": SIDE // 4}, "mask_pad_size": {"height": SIDE // 4, "width": SIDE // 4}}
    transformers.SamProcessor(transformers.SamImageProcessor(**size, **sizes)).save_pretrained(path)
    return path


def theirs(folder: Path, rgb: np.ndarray, several: bool, masks: Any = None, **prompts: Any) -> tuple[np.ndarray, ...]:
    """Return pixel values, logits and scores of transformers' processor and network."""
    from PIL import Image

    transformers = transformers_module()
    import torch

    model, processor = (getattr(transformers, name).from_pretrained(folder) for name in ("SamModel", "SamProcessor"))
    inputs = processor(images=Image.fromarray(rgb), return_tensors="pt", **prompts)
    given = {name: value for name, value in inputs.items() if name in ("pixel_values", "input_points", "input_labels")}
    if "input_boxes" in inputs:
        given["input_boxes"] = inputs["input_boxes"]
    with torch.no_grad():
        outputs = model(**given, input_masks=masks, multimask_output=several)
    return inputs["pixel_values"][0].numpy(), outputs.pred_masks[0, 0].numpy(), outputs.iou_scores[0, 0].numpy()


@pytest.mark.parametrize("shape", [(96, 96), (150, 61), (47, 203)])
def test_masks_equal_transformers(folder: Path, picture: Callable[..., np.ndarray], shape: tuple[int, int]) -> None:
    import torch

    rgb = picture(*shape)
    segmenter = load_segmenter(folder, device="cpu")
    assert isinstance(segmenter, SamSegmenter)
    embedding = segmenter.encode(rgb)
    inside, labels = [(0.4 * shape[0], 0.6 * shape[1]), (0.2 * shape[0], 0.3 * shape[1])], [1, 0]
    xy, box = [[[col, row] for row, col in inside]], [2.0, 3.0, 30.0, 40.0]
    first = segmenter.decode(embedding, Prompts(inside[:1]))
    fed = torch.tensor(first.feedback[first.best].logits)[None, None]
    for name, ours, several, given in (
        ("one point", Prompts(inside[:1]), True, {"input_points": [xy[0][:1]], "input_labels": [[1]]}),
        ("points", Prompts(inside, labels), False, {"input_points": xy, "input_labels": [labels]}),
        ("box", Prompts(box=box), False, {"input_boxes": [[[box[1], box[0], box[3], box[2]]]]}),
        (
            "point and mask", Prompts(inside[:1], mask=first.feedback[first.best]), False,
            {"input_points": [xy[0][:1]], "input_labels": [[1]], "masks": fed},
        ),
    ):  # fmt: skip
        _, logits, scores = theirs(folder, rgb, several, **given)
        found = segmenter.decode(embedding, ours)
        # the picture is enlarged by PIL here and by torchvision there, which round to other grey values now and then
        assert np.abs(found.logits - logits).mean() <= 0.01 * np.abs(logits).mean(), name
        assert np.mean((found.logits > 0) == (logits > 0)) > 0.995, name
        np.testing.assert_allclose(found.scores, scores, atol=2e-3, err_msg=name)


def test_the_network_is_transformers_number_for_number(folder: Path, picture: Callable[..., np.ndarray]) -> None:
    """Without resizing there is nothing between the two but the order of sums."""
    import torch

    rgb = picture(SIDE, SIDE)
    segmenter = load_segmenter(folder, device="cpu")
    embedding = segmenter.encode(rgb)
    model = transformers_module().SamModel.from_pretrained(folder)
    pixels, logits, scores = theirs(folder, rgb, True, input_points=[[[40.0, 60.0]]], input_labels=[[1]])
    with torch.no_grad():
        features = model.get_image_embeddings(torch.tensor(pixels)[None])[0].numpy()
    np.testing.assert_allclose(embedding.features["image"], features, atol=2e-4 * np.abs(features).max())
    found = segmenter.decode(embedding, Prompts([(60.0, 40.0)]))
    assert np.abs(found.logits - logits).max() <= 1e-3 * np.abs(logits).max()
    np.testing.assert_allclose(found.scores, scores, atol=1e-4)
    many, _, clicks, _ = segmenter.masks_above(embedding, np.array([(60.0, 40.0)]), -np.inf)
    assert np.abs(many - logits).max() <= 1e-3 * np.abs(logits).max()
    assert clicks.tolist() == [0, 0, 0]


def changed(folder: Path, into: Path, part: str, **settings: Any) -> Path:
    """Return a copy of a model's folder with other settings in a part of its configuration."""
    shutil.copytree(folder, into)
    config = json.loads((into / "config.json").read_text())
    config[part] = config[part] | settings
    (into / "config.json").write_text(json.dumps(config))
    return into


@pytest.mark.parametrize(
    ("part", "settings", "words"),
    [
        ("vision_config", {"num_attention_heads": 5}, "Segment Anything model|does not fit"),
        ("vision_config", {"window_size": 5}, "does not fit its configuration"),
        ("vision_config", {"image_size": 256}, "does not fit its configuration"),
        ("vision_config", {"image_size": "large"}, "no Segment Anything model that can be built"),
        ("vision_config", {"hidden_act": "relu"}, "wants relu where SAM has gelu"),
        ("mask_decoder_config", {"num_attention_heads": 0}, "no Segment Anything model that can be built"),
    ],
)
def test_configuration_and_weights_must_fit(
    folder: Path, tmp_path: Path, part: str, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        load_segmenter(changed(folder, tmp_path / "odd", part, **settings), "cpu")


def test_weights_of_another_network_are_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    into = tmp_path / "odd"
    shutil.copytree(folder, into)
    weights = load_file(into / "model.safetensors")
    for odd, words in (
        ({"bert.pooler.weight": np.zeros((3, 3), np.float32)}, "no Segment Anything model"),
        (
            {name: value for name, value in weights.items() if "no_mask" not in name},
            "lacks prompt_encoder.no_mask_embed",
        ),
        (weights | {"extra": np.zeros(3, np.float32)}, "has unknown extra"),
    ):
        save_file(odd, into / "model.safetensors")
        with pytest.raises(ModelError, match=words):
            load_segmenter(into, "cpu")


def test_the_name_in_the_catalog_loads_such_a_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_SAMDEPTH_MODELS", str(tmp_path))
    shutil.copytree(folder, tmp_path / "slimsam-77")
    segmenter = load_segmenter("slimsam-77", "cpu", download=False)
    assert segmenter.name == "slimsam-77"
    assert isinstance(segmenter, SamSegmenter)
