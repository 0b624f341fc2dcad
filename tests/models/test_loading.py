"""From names and paths to models, and what is said when that fails."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_samdepth.core.errors import ModelError
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.models.loading import load_depth_estimator, load_segmenter
from napari_samdepth.models.registry import is_like_path
from napari_samdepth.models.runtime import device
from napari_samdepth.models.sam.checkpoint import architecture_of, build_sam
from napari_samdepth.models.sam.segmenter import load_sam
from napari_samdepth.models.weights import store
from napari_samdepth.models.weights.checkpoint import fingerprint, read_weights
from napari_samdepth.models.weights.checksums import file_checksum, matches

MARKER = "napari-samdepth-code-was-run"


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.target = folder / MARKER

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def _save(content: Any, path: Path) -> Path:
    import torch

    torch.save(content, path)
    return path


@pytest.mark.usefixtures("small_architecture")
@pytest.mark.parametrize("wrap", ["plain", "model_state", "prefixed", "legacy", "safetensors", "half"])
def test_all_ways_to_keep_weights_load_alike(
    weights: dict[str, Any], tmp_path: Path, picture: Callable[..., np.ndarray], tiny_sam: Any, wrap: str
) -> None:
    import torch
    from safetensors.torch import save_file

    path = tmp_path / "own.pth"
    if wrap == "plain":
        _save(weights, path)
    elif wrap == "model_state":
        _save({"model_state": weights, "decoder_state": {"a": torch.zeros(1)}}, path)
    elif wrap == "prefixed":
        _save({"model_state": {f"sam.{name}": value for name, value in weights.items()}}, path)
    elif wrap == "legacy":
        torch.save(weights, path, _use_new_zipfile_serialization=False)
    elif wrap == "half":
        _save({name: value.half().float() for name, value in weights.items()}, path)
    else:
        path = tmp_path / "own.safetensors"
        save_file(weights, path)
    segmenter = load_segmenter(str(path), device="cpu")
    assert segmenter.name == path.name
    assert segmenter.model == f"vit_b:{fingerprint(path)}"
    assert segmenter.device == "cpu"
    loaded = segmenter.network.state_dict()  # type: ignore[attr-defined]
    if wrap != "half":
        assert all(torch.equal(loaded[name], weights[name]) for name in weights)
    path.unlink()  # the network must not be a view of the file
    embedding = segmenter.encode(picture(40, 60))
    assert segmenter.decode(embedding, Prompts([(10, 10)])).masks.shape == (3, 40, 60)
    assert np.isfinite(embedding.features["image"]).all()


@pytest.mark.usefixtures("small_architecture")
def test_a_name_loads_the_file_in_the_models_folder(
    weights: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: Any
) -> None:
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(
        ModelError, match=r"vit_b is not on this machine; fetch it with .* \(375 MB\), or put sam_vit_b"
    ):
        load_segmenter("vit_b", device="cpu", download=False)
    _save(weights, tmp_path / "sam_vit_b_01ec64.pth")
    segmenter = load_segmenter("vit_b", device="cpu", report=steps.report)
    assert segmenter.name == "vit_b"
    fractions = [fraction for fraction, _ in steps.notes]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    _save(weights, tmp_path / "sam_vit_l_0b3195.pth")
    with pytest.raises(ModelError, match=r"holds vit_b, not vit_l; choose the checkpoint of vit_l"):
        load_segmenter("vit_l", device="cpu")


@pytest.mark.usefixtures("small_architecture")
def test_bfloat16_is_used_where_it_gains(
    weights: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: Callable[..., np.ndarray]
) -> None:
    path = tmp_path / "own.pth"
    _save(weights, path)
    exact = load_segmenter(path, "cpu")
    monkeypatch.setattr(device, "bfloat16_gains", lambda _device: False)
    assert load_segmenter(path, "cpu", precision="bfloat16").model == exact.model
    monkeypatch.setattr(device, "bfloat16_gains", lambda _device: True)
    coarse = load_segmenter(path, "cpu", precision="bfloat16")
    assert coarse.model == f"{exact.model}:bfloat16"
    features = [made.encode(picture(40, 60)).features["image"] for made in (exact, coarse)]
    assert 0 < np.abs(features[0] - features[1]).max() < 0.1 * np.ptp(features[0])
    assert load_segmenter("builtin", "cpu", precision="bfloat16").model == load_segmenter("builtin", "cpu").model


def test_without_a_network_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for load, model in ((load_segmenter, "vit_b"), (load_depth_estimator, "depth-anything-v2-small")):
        with pytest.raises(
            ModelError,
            match=r"cannot be downloaded because \S+ cannot be reached \(.*\); go online, or put .* by hand\.$",
        ):
            load(model, device="cpu")
    left = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert left == [], "half-written files"


def _broken(kind: str, good: Path, folder: Path) -> Path:
    path = folder / "broken.pth"
    if kind == "truncated":
        path.write_bytes(good.read_bytes()[:-5000])
    elif kind == "truncated early":
        path.write_bytes(good.read_bytes()[:50])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("<html>404 not found</html>")
    elif kind == "folder":
        path.mkdir()
    elif kind == "code":
        _save({"model_state": Evil(folder)}, path)
    elif kind == "code, plain pickle":
        path.write_bytes(pickle.dumps(Evil(folder)))
    elif kind == "code, old pickle":
        path.write_bytes(pickle.dumps(Evil(folder), protocol=2))
    elif kind == "a list":
        _save([1, 2, 3], path)
    elif kind == "numbers":
        _save({"epoch": 3}, path)
    return path


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("truncated", "is cut off or damaged; download it again"),
        ("truncated early", "is cut off or damaged; download it again"),
        ("empty", "is empty; download it again"),
        ("text", r"is no checkpoint, or is damaged; give a file of torch or safetensors"),
        ("folder", r"holds no config\.json; give a folder in transformers' format, or a checkpoint file"),
        ("code", "is refused because it holds Python objects that could run code"),
        ("code, plain pickle", "is refused because it holds Python objects that could run code"),
        ("code, old pickle", "is refused because it holds Python objects that could run code"),
        ("a list", "holds a list, not weights by name"),
        ("numbers", r"holds more than weights \(the entry 'epoch'\)"),
        ("missing", r"There is no file or folder .*broken\.pth; check the path"),
    ],
)
def test_bad_files_are_one_sentence(weights: dict[str, Any], tmp_path: Path, kind: str, sentence: str) -> None:
    good = _save(weights, tmp_path / "good.pth")
    path = _broken(kind, good, tmp_path)
    with pytest.raises(ModelError, match=sentence) as caught:
        load_segmenter(path, device="cpu")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
    assert not (tmp_path / MARKER).exists()


def test_a_truncated_safetensors_file_is_one_sentence(weights: dict[str, Any], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "own.safetensors"
    save_file(weights, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cut off or damaged"):
        load_segmenter(path, device="cpu")


@pytest.mark.usefixtures("small_architecture")
def test_weights_of_another_network_are_refused(weights: dict[str, Any], tmp_path: Path) -> None:
    import torch

    path = tmp_path / "other.pth"
    key = "image_encoder.patch_embed.proj.weight"
    for change, sentence in (
        ({"vision_encoder.x": torch.zeros(3)}, "holds no Segment Anything weights"),
        ({key: torch.zeros(99, 3, 16, 16)}, "holds no Segment Anything weights"),
        ({**weights, "mask_decoder.hf_token.weight": torch.zeros(1, 256)}, r"it has unknown mask_decoder\.hf_token\.w"),
        ({name: value for name, value in weights.items() if "neck" not in name}, "it lacks .*neck.* and 5 more"),
        ({**weights, "mask_decoder.iou_token.weight": torch.zeros(1, 8)}, "it has another shape of mask_decoder.iou"),
    ):
        with pytest.raises(ModelError, match=sentence):
            load_sam(_save(change, path), device="cpu")


def test_the_size_is_read_from_the_keys(sam_checkpoint: Callable[[str], Path]) -> None:
    path = sam_checkpoint("vit_b")
    found = read_weights(path)
    assert architecture_of(found, path) == "vit_b"
    network = build_sam("vit_b", found, path)
    assert len(network.image_encoder.blocks) == 12
    assert network.pixel_mean.shape == (3, 1, 1)
    assert not any(parameter.is_meta or parameter.requires_grad for parameter in network.parameters())


def test_unknown_names_say_which_there_are() -> None:
    with pytest.raises(ModelError, match=r"no model called 'vit_z'; choose one of: builtin, vit_b, vit_l"):
        load_segmenter("vit_z")
    with pytest.raises(ModelError, match=r"no model called 'vit_b'; choose one of: builtin, dpt-large"):
        load_depth_estimator("vit_b")


def _folder(path: Path, **settings: Any) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(settings))
    return path


def test_folders_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds a bert model; a segmenter's folder must hold SAM 2"):
        load_segmenter(_folder(tmp_path / "bert", model_type="bert"))
    custom = _folder(tmp_path / "code", model_type="dpt", auto_map={"AutoModel": "evil.Model"})
    with pytest.raises(ModelError, match="brings Python code of its own, which is never run"):
        load_depth_estimator(custom)
    with pytest.raises(ModelError, match="is not a configuration of transformers"):
        load_depth_estimator(_folder(tmp_path / "odd", version=3))
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        load_depth_estimator(tmp_path)
    file = tmp_path / "weights.pth"
    file.write_bytes(b"x")
    with pytest.raises(ModelError, match="is a file; a depth model is given as a folder"):
        load_depth_estimator(file)


def test_builtin_goes_to_the_models_that_ship(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_samdepth.models.builtin import depth_builtin, segmenter

    asked: list[Any] = []
    monkeypatch.setattr(segmenter, "load_builtin", lambda device, report: asked.append(("segment", device)))
    monkeypatch.setattr(depth_builtin, "BuiltinDepth", lambda device: asked.append(("depth", device)))
    load_segmenter("builtin", "cpu")
    load_depth_estimator("builtin", "cpu")
    assert asked == [("segment", "cpu"), ("depth", "cpu")]


def test_what_looks_like_a_path_is_one() -> None:
    for text in ("a/b", "weights.pth", "~/x", "./x", "X.SAFETENSORS"):
        assert is_like_path(text)
    for text in ("vit_b", "sam2.1-tiny", "builtin"):
        assert not is_like_path(text)


def test_checksums_of_files(tmp_path: Path, steps: Any) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_checksum(path, "sha256", steps.report) == sha
    assert steps.notes == [(1.0, "checking abc")]
    assert file_checksum(path, "xxh128") == "06b05ab6733a618578af5f94892f3950"
    assert matches(path, f"sha256:{sha.upper()}")
    assert not matches(path, "xxh128:00")
    with pytest.raises(ValueError, match="must be 'sha256:<hex>' or 'xxh128:<hex>', got 'md5:1'"):
        matches(path, "md5:1")


def test_a_folder_beside_needs_no_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "builtin").mkdir()
    with pytest.raises(ModelError, match=r"mine holds no config\.json"):
        load_depth_estimator("mine")
    assert load_depth_estimator("builtin", "cpu").name == "builtin"
    with pytest.raises(ModelError, match="There is no model called"):
        load_depth_estimator("yours")
