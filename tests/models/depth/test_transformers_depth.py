"""Depth networks with random weights in the real format against transformers' own pipeline."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_samdepth.core.errors import Cancelled, ModelError
from napari_samdepth.models.depth import mean_subtraction
from napari_samdepth.models.depth import transformers_depth as depth_module
from napari_samdepth.models.depth.transformers_depth import kind_of, load_depth
from napari_samdepth.models.protocols import DepthEstimator
from napari_samdepth.models.registry import find
from napari_samdepth.models.runtime.device import Device, transformers_module

HALF = [0.5, 0.5, 0.5]
# the old style in which Intel/dpt-large's own file is written
DPT_PROCESSOR = {
    "feature_extractor_type": "DPTFeatureExtractor", "do_normalize": True, "do_resize": True, "resample": 2,
    "ensure_multiple_of": 1, "keep_aspect_ratio": False, "image_mean": HALF, "image_std": HALF, "size": 96,
}  # fmt: skip
ANYTHING_PROCESSOR = {
    "image_processor_type": "DPTImageProcessor", "do_normalize": True, "do_rescale": True, "do_resize": True,
    "do_pad": False, "ensure_multiple_of": 14, "keep_aspect_ratio": True, "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225], "resample": 3, "rescale_factor": 1 / 255, "size": {"height": 98, "width": 98},
}  # fmt: skip
ZOE_PROCESSOR = {
    "image_processor_type": "ZoeDepthImageProcessor", "do_normalize": True, "do_pad": True, "do_rescale": True,
    "do_resize": True, "ensure_multiple_of": 32, "keep_aspect_ratio": True, "image_mean": HALF, "image_std": HALF,
    "resample": 2, "rescale_factor": 1 / 255, "size": {"height": 64, "width": 64},
}  # fmt: skip
SMALL_NECK = {"neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16}
SMALL_VIT = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 64}


def _dpt(transformers: Any) -> Any:
    return transformers.DPTConfig(**SMALL_VIT, image_size=96, backbone_out_indices=[0, 1, 2, 3], **SMALL_NECK)


def _dpt_hybrid(transformers: Any) -> Any:
    bit = {
        "model_type": "bit", "global_padding": "same", "layer_type": "bottleneck", "depths": [1, 1, 1],
        "out_features": ["stage1", "stage2", "stage3"], "embedding_dynamic_padding": True, "embedding_size": 16,
        "hidden_sizes": [16, 32, 64, 128], "num_groups": 4,
    }  # fmt: skip
    return transformers.DPTConfig(
        **SMALL_VIT, image_size=96, backbone_out_indices=[0, 1, 2, 3], is_hybrid=True, backbone_config=bit,
        backbone_featmap_shape=[1, 64, 6, 6], neck_hidden_sizes=[16, 32, 16, 16], fusion_hidden_size=16,
        reassemble_factors=[1, 1, 1, 0.5],
    )  # fmt: skip


def _dpt_swinv2(transformers: Any) -> Any:
    swin = transformers.Swinv2Config(
        image_size=96, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8], window_size=3,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    return transformers.DPTConfig(
        backbone_config=swin, neck_hidden_sizes=[16, 32, 64, 128], fusion_hidden_size=16, hidden_size=128,
        add_projection=False,
    )  # fmt: skip


def _anything(transformers: Any, **kind: Any) -> Any:
    dino = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, image_size=98, patch_size=14,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    return transformers.DepthAnythingConfig(
        backbone_config=dino, reassemble_hidden_size=32, head_hidden_size=8, **SMALL_NECK, **kind
    )


def _zoe(transformers: Any) -> Any:
    beit = transformers.BeitConfig(
        **SMALL_VIT, image_size=64, out_indices=[1, 2, 3, 4], reshape_hidden_states=False,
        use_relative_position_bias=True, use_absolute_position_embeddings=False,
    )  # fmt: skip
    return transformers.ZoeDepthConfig(
        backbone_config=beit, backbone_hidden_size=32, fusion_hidden_size=16, neck_hidden_sizes=[8, 8, 16, 16],
        bottleneck_features=16, num_attractors=[4, 2, 2, 1], bin_embedding_dim=8, num_relative_features=16,
    )  # fmt: skip


MODELS: dict[str, tuple[Callable[[Any], Any], dict[str, Any], str]] = {
    "dpt-large": (_dpt, DPT_PROCESSOR, "DPTForDepthEstimation"),
    "dpt-hybrid-midas": (_dpt_hybrid, DPT_PROCESSOR, "DPTForDepthEstimation"),
    "dpt-swinv2-tiny-256": (_dpt_swinv2, DPT_PROCESSOR, "DPTForDepthEstimation"),
    "depth-anything-v2-small": (_anything, ANYTHING_PROCESSOR, "DepthAnythingForDepthEstimation"),
    "zoedepth-nyu-kitti": (_zoe, ZOE_PROCESSOR, "ZoeDepthForDepthEstimation"),
}


@pytest.fixture(scope="session")
def depth_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a small random model of one of MODELS' kinds, as the hub would give it."""
    root = tmp_path_factory.mktemp("depth")

    def make(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            transformers = transformers_module()
            import torch

            torch.manual_seed(0)
            configure, processor, class_name = MODELS[name]
            model = getattr(transformers, class_name)(configure(transformers)).eval()
            for parameter in model.parameters():
                parameter.data += 0.05 * torch.randn_like(parameter)
            model.save_pretrained(folder)
            if name in ("dpt-hybrid-midas",):  # the real one has no safetensors
                torch.save(model.state_dict(), folder / "pytorch_model.bin")
                (folder / "model.safetensors").unlink()
            (folder / "preprocessor_config.json").write_text(json.dumps(processor))
        return folder

    return make


@pytest.mark.parametrize("name", MODELS)
def test_depth_equals_transformers_pipeline(
    name: str, depth_folder: Callable[[str], Path], picture: Callable[..., np.ndarray]
) -> None:
    from PIL import Image

    folder = depth_folder(name)
    entry = find(name, "depth")
    estimator = load_depth(folder, name, "cpu", spec=entry)
    assert isinstance(estimator, DepthEstimator)
    pipeline = transformers_module().pipeline("depth-estimation", model=str(folder), device="cpu")
    for shape in [(96, 96), (120, 81), (45, 133)]:
        rgb = picture(*shape)
        expected = pipeline(Image.fromarray(rgb))["predicted_depth"].numpy().reshape(shape)
        found = estimator.estimate(rgb)
        span = expected.max() - expected.min()
        assert span > 0
        assert found.values.shape == shape
        assert found.values.dtype == np.float32
        if entry.kind == "inverse":
            assert np.abs(found.values - expected).max() <= 1e-4 * span
        else:  # held to the network's own range, which the enlargement leaves
            assert np.median(np.abs(found.values - expected)) <= 1e-4 * span
            assert found.values.min() >= expected.min()
        assert (found.kind, found.unit) == (entry.kind, entry.unit)
        assert name in found.source
        assert entry.hub_id in found.source


def test_the_kind_of_a_folder_comes_from_its_configuration(
    depth_folder: Callable[[str], Path], picture: Callable[..., np.ndarray]
) -> None:
    estimator = load_depth(depth_folder("depth-anything-v2-small"), device="cpu")
    found = estimator.estimate(picture(40, 50))
    assert (found.kind, found.unit) == ("inverse", None)
    assert "depth_estimation_type=relative" in found.source
    transformers = transformers_module()
    assert kind_of(_anything(transformers, depth_estimation_type="metric", max_depth=20))[:2] == ("distance", "m")
    assert kind_of(_zoe(transformers))[:2] == ("distance", "m")
    assert kind_of(_dpt(transformers))[:2] == ("inverse", None)
    with pytest.raises(ModelError, match="A vit network gives no depth that is known here"):
        kind_of(transformers.ViTConfig())


def test_the_map_knows_how_far_it_was_enlarged(
    depth_folder: Callable[[str], Path], picture: Callable[..., np.ndarray]
) -> None:
    estimator = load_depth(depth_folder("dpt-large"), device="cpu")  # gives 96 x 96 samples
    assert estimator.estimate(picture(192, 192)).upsampling == pytest.approx(2)
    assert estimator.estimate(picture(96, 384)).upsampling == pytest.approx(2)
    assert estimator.estimate(picture(40, 50)).upsampling == 1


def test_progress_and_cancel(
    depth_folder: Callable[[str], Path], picture: Callable[..., np.ndarray], steps: Any
) -> None:
    estimator = load_depth(depth_folder("dpt-large"), device="cpu", report=steps.report)
    assert steps.notes[-1][0] == 1.0
    steps.notes.clear()
    estimator.estimate(picture(40, 40), steps.report)
    assert [what for _, what in steps.notes][:4] == [f"estimating depth, block {n} of 4" for n in (1, 2, 3, 4)]
    steps.notes.clear()
    steps.stop_at = 2
    with pytest.raises(Cancelled):
        estimator.estimate(picture(40, 40), steps.report)
    steps.stop_at = None
    steps.notes.clear()
    estimator.estimate(picture(40, 40), steps.report)
    assert len(steps.notes) == 5, "a cancelled run left its hooks behind"


def test_out_of_memory_on_a_gpu_goes_on_on_the_cpu(
    depth_folder: Callable[[str], Path], picture: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    estimator = load_depth(depth_folder("dpt-large"), device="cpu")
    expected = estimator.estimate(picture(40, 40)).values
    monkeypatch.setattr(estimator, "_device", Device("mps", "pretended"))
    forward = estimator.network.head.forward
    failures = [torch.OutOfMemoryError("injected")]

    def exhausted(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return forward(*args)

    monkeypatch.setattr(estimator.network.head, "forward", exhausted)
    assert np.array_equal(estimator.estimate(picture(40, 40)).values, expected)
    assert estimator.device == "cpu"
    assert "mps ran out of memory while estimating depth" in estimator.device_reason


def test_bfloat16_keeps_the_order(
    depth_folder: Callable[[str], Path], picture: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    from scipy.stats import spearmanr

    monkeypatch.setattr(mean_subtraction, "LEAST", 1)  # the layers of this network are tiny
    folder = depth_folder("dpt-large")
    exact = load_depth(folder, device="cpu").estimate(picture(64, 64))
    coarse = load_depth(folder, device="cpu", precision="bfloat16").estimate(picture(64, 64))
    assert coarse.values.dtype == np.float32
    assert not np.array_equal(exact.values, coarse.values)
    assert spearmanr(exact.values.ravel(), coarse.values.ravel()).statistic > 0.999
    assert coarse.source.endswith("bfloat16")


def _copy(folder: Path, target: Path) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_damaged_folders_are_one_sentence(depth_folder: Callable[[str], Path], tmp_path: Path) -> None:
    good = depth_folder("dpt-large")
    cut = _copy(good, tmp_path / "cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(ModelError, match=r"model\.safetensors is cut off or damaged; download it again"):
        load_depth(cut, device="cpu")
    weights.unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        load_depth(cut, device="cpu")

    other = _copy(good, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}))
    with pytest.raises(ModelError, match="lacks weights that its configuration asks for"):
        load_depth(other, device="cpu")

    bare = _copy(good, tmp_path / "bare")
    (bare / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"it needs preprocessor_config\.json"):
        load_depth(bare, device="cpu")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/napari-samdepth-was-here"),))


def test_a_pickle_that_wants_to_run_code_is_refused(depth_folder: Callable[[str], Path], tmp_path: Path) -> None:
    import torch

    folder = _copy(depth_folder("dpt-large"), tmp_path / "evil")
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is refused because it holds Python objects"):
        load_depth(folder, device="cpu")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelError, match="is refused because it holds Python objects"):
        load_depth(folder, device="cpu")
    assert not Path("/tmp/napari-samdepth-was-here").exists()


def test_metres_are_only_claimed_for_networks_made_for_them() -> None:
    assert "dpt" not in depth_module.METRES
    assert "depth_anything" not in depth_module.METRES
