"""Folders in transformers' format that are damaged, hostile or not whole: one sentence, no network, no large memory."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.loading import load_depth_estimator, load_segmenter, load_text_detector
from napari_samdepth.models.runtime.device import transformers_module
from napari_samdepth.models.weights.pretrained import identity, offline
from tests.word_models import save_grounding_dino, save_sam3

Change = Callable[[Path], Any]
BACKBONE = {"backbone": "facebook/dinov2-small", "backbone_config": None, "use_pretrained_backbone": True}
BIG = "model.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let nobody reach a network, and note who tries."""
    tries: list[Any] = []

    def refuse(*what: Any, **_: Any) -> None:
        tries.append(what)
        raise OSError(101, "Network is unreachable")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "create_connection", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)
    return tries


def _dpt(folder: Path) -> Path:
    transformers = transformers_module()
    torch.manual_seed(0)
    config = transformers.DPTConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=64, image_size=96,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=16,
    )  # fmt: skip
    transformers.DPTForDepthEstimation(config).save_pretrained(folder)
    transformers.DPTImageProcessor(size={"height": 96, "width": 96}).save_pretrained(folder)
    return folder


def _sam2(folder: Path) -> Path:
    transformers = transformers_module()
    hiera = transformers.Sam2HieraDetConfig(
        hidden_size=16, image_size=[128, 128], blocks_per_stage=[1, 1, 2, 1], embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 4, 8], window_size_per_stage=[4, 2, 4, 2], global_attention_blocks=[3],
        window_positional_embedding_background_size=[4, 4],
    )  # fmt: skip
    vision = transformers.Sam2VisionConfig(
        backbone_config=hiera, backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
    )  # fmt: skip
    prompts = transformers.Sam2PromptEncoderConfig(image_size=128)
    transformers.Sam2Model(
        transformers.Sam2Config(vision_config=vision, prompt_encoder_config=prompts)
    ).save_pretrained(folder)
    return folder


SOURCES: dict[str, tuple[Callable[[Path], Path], Callable[..., Any]]] = {
    "dpt": (_dpt, load_depth_estimator),
    "sam2": (_sam2, load_segmenter),
    "dino": (save_grounding_dino, load_text_detector),
    "sam3": (save_sam3, load_text_detector),
}


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a folder of SOURCES that is as it should be."""
    root = tmp_path_factory.mktemp("good")

    def make(kind: str) -> Path:
        return root / kind if (root / kind).exists() else SOURCES[kind][0](root / kind)

    return make


@pytest.fixture
def changed(good: Callable[[str], Path], tmp_path: Path) -> Callable[[str, Change], Path]:
    """Return a copy of a good folder with a change."""

    def make(kind: str, change: Change) -> Path:
        folder = tmp_path / "mine"
        shutil.copytree(good(kind), folder)
        change(folder)
        return folder

    return make


def _settings(name: str = "config.json", **values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, **values}))

    return change


def _text(name: str, text: str) -> Change:
    return lambda folder: (folder / name).write_text(text)


def _gone(*names: str) -> Change:
    return lambda folder: [(folder / name).unlink(missing_ok=True) for name in names]


def _pipe(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


def _link(name: str, target: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return change


def _bytes(edit: Callable[[bytes], bytes]) -> Change:
    return lambda folder: (folder / BIG).write_bytes(edit((folder / BIG).read_bytes()))


def _weights(edit: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    def change(folder: Path) -> None:
        found = {name: value.clone() for name, value in load_file(str(folder / BIG)).items()}
        save_file(edit(found), folder / BIG, {"format": "pt"})

    return change


def _pickled(edit: Callable[[dict[str, Any]], Any]) -> Change:
    def change(folder: Path) -> None:
        found = load_file(str(folder / BIG))
        (folder / BIG).unlink()
        torch.save(edit(found), folder / "pytorch_model.bin")

    return change


def _shards(edit: Callable[[dict[str, Any]], Any] = dict, *without: str) -> Change:
    def change(folder: Path) -> None:
        found = load_file(str(folder / BIG))
        names = sorted(found)
        listed = {}
        for number, part in enumerate((names[::2], names[1::2]), start=1):
            file = f"model-{number:05}-of-00002.safetensors"
            save_file({name: found[name].clone() for name in part}, folder / file, {"format": "pt"})
            listed.update(dict.fromkeys(part, file))
        (folder / BIG).rename(folder.parent / "outside.safetensors")
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": edit(listed)}))
        _gone(*without)(folder)

    return change


def _repeated(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "x": torch.zeros(1).expand(3_500_000, 1_000_000)}


NOT_WHOLE = "names a part that is not in it"
CODE = "brings Python code of its own"
NO_CONFIG = "is not a configuration of"
CUT = "is cut off or damaged"
TOO_LARGE = "asks for .* which no network has"
NOT_ENOUGH = "lacks weights that its config"
ODD: dict[str, tuple[str, Change, str]] = {
    "no configuration": ("dpt", _gone("config.json"), r"holds no config\.json"),
    "an empty one": ("dpt", _text("config.json", ""), rf"{NO_CONFIG}.*is empty"),
    "half a one": ("dpt", _text("config.json", '{"model_type": "dp'), rf"{NO_CONFIG}.*is no JSON"),
    "a web page": ("dpt", _text("config.json", "<!DOCTYPE html><html>sign in"), rf"{NO_CONFIG}.*is a web page"),
    "a list": ("dpt", _text("config.json", "[]"), rf"{NO_CONFIG}.*no JSON object"),
    "nothing": ("dpt", _text("config.json", "null"), rf"{NO_CONFIG}.*no JSON object"),
    "nested without end": ("dpt", _text("config.json", "[" * 100_000), NO_CONFIG),
    "a number for the kind": ("dpt", _settings(model_type=3), f"{NO_CONFIG}.*no model_type"),
    "no kind": ("dpt", _text("config.json", "{}"), f"{NO_CONFIG}.*no model_type"),
    "an unknown kind": ("dpt", _settings(model_type="frob"), "cannot be loaded"),
    "another kind": ("dpt", _settings(model_type="bert"), "cannot be loaded"),
    "a kind alone": ("dpt", _text("config.json", '{"model_type": "dpt"}'), NOT_ENOUGH),
    "another depth model": ("dpt", _text("config.json", '{"model_type": "zoedepth"}'), NOT_ENOUGH),
    "a pipe": ("dpt", _pipe("config.json"), f"{NO_CONFIG}.*no regular file"),
    "a link to nowhere": ("dpt", _link("config.json", "gone"), r"holds no config\.json"),
    "a link to itself": ("dpt", _link("config.json", "config.json"), "cannot be read"),
    "a width of 10^9": ("dpt", _settings(hidden_size=10**9), TOO_LARGE),
    "10^9 layers": ("dpt", _settings(num_hidden_layers=10**9), TOO_LARGE),
    "images of 10^9 px": ("dpt", _settings(image_size=10**9), TOO_LARGE),
    "10^6 names": ("dpt", _settings(num_labels=10**6), TOO_LARGE),
    "widths in a list": ("dpt", _settings(neck_hidden_sizes=[8, 8, 16, 10**9]), TOO_LARGE),
    "a vocabulary of 10^9": ("dino", _settings(text_config={"model_type": "bert", "vocab_size": 10**9}), TOO_LARGE),
    "a width of a million": ("dpt", _settings(hidden_size=10**6), NOT_ENOUGH),
    "a neck of millions": ("dpt", _settings(neck_hidden_sizes=[10**6] * 4), NOT_ENOUGH),
    "a negative width": ("dpt", _settings(hidden_size=-1), "cannot be loaded"),
    "words for numbers": ("dpt", _settings(image_size="x"), "cannot be loaded"),
    "no heads": ("dpt", _settings(num_attention_heads=0), "cannot be loaded"),
    "an unknown activation": ("dpt", _settings(hidden_act="frob"), "cannot be loaded"),
    "numbers for names": ("dpt", _settings(id2label=3), "cannot be loaded"),
    "an attention of its own": ("dpt", _settings(attn_implementation="flash_attention_2"), "cannot be loaded"),
    "an attention on the hub": ("dpt", _settings(attn_implementation="kernels-community/x"), "cannot be loaded"),
    "a backbone on the hub": ("dpt", _settings(**BACKBONE), NOT_WHOLE),
    "a backbone of timm's": ("dpt", _settings(backbone="resnet50", use_timm_backbone=True), NOT_WHOLE),
    "a backbone for words": ("dino", _settings(**BACKBONE), NOT_WHOLE),
    "a text network elsewhere": ("dino", _settings(text_config={"_name_or_path": "bert-base-uncased"}), "."),
    "an adapter": ("dpt", _text("adapter_config.json", '{"base_model_name_or_path": "a/b"}'), "holds an adapter"),
    "code": ("dpt", _settings(auto_map={"AutoModel": "a/b--evil.Model"}), CODE),
    "code deep inside": ("dpt", _settings(backbone_config={"auto_map": {"AutoConfig": "a/b--evil.C"}}), CODE),
    "code for images": ("dpt", _settings("preprocessor_config.json", auto_map={"AutoImageProcessor": "a--b.C"}), CODE),
    "code for words": ("dino", _settings("tokenizer_config.json", auto_map={"AutoTokenizer": ["a--b.C", None]}), CODE),
    "quantised": ("dpt", _settings(quantization_config={"quant_method": "bitsandbytes"}), "holds quantised weights"),
    "no weights": ("dpt", _gone(BIG), "holds no weights"),
    "empty weights": ("dpt", _text(BIG, ""), "is empty"),
    "a web page for weights": ("dpt", _text(BIG, "<html>sign in"), "is a web page"),
    "a pipe for weights": ("dpt", _pipe(BIG), "no regular file"),
    "a device for weights": ("dpt", _link(BIG, "/dev/zero"), "no regular file"),
    "weights linked to nowhere": ("dpt", _link(BIG, "gone"), "is a link to a file that is not there"),
    "cut weights": ("dpt", _bytes(lambda content: content[:-100]), CUT),
    "a cut header": ("dpt", _bytes(lambda content: content[:100]), CUT),
    "more than weights": ("dpt", _bytes(lambda content: content + b"more"), CUT),
    "pickled weights": ("dpt", lambda folder: torch.save({}, folder / BIG), "not a file of safetensors"),
    "NaN": ("dpt", _weights(lambda w: {name: v * torch.nan for name, v in w.items()}), "that are not finite"),
    "complex": ("dpt", _weights(lambda w: {name: v + 0j for name, v in w.items()}), "weights that are complex"),
    "one missing": ("dpt", _weights(lambda w: {name: w[name] for name in sorted(w)[1:]}), NOT_ENOUGH),
    "other names": ("dpt", _weights(lambda w: {f"x.{name}": v for name, v in w.items()}), NOT_ENOUGH),
    "other shapes": (
        "dpt",
        _weights(lambda w: {name: torch.zeros(v.numel(), 1) for name, v in w.items()}),
        "holds weights of other shapes",
    ),
    "sparse": ("dpt", _pickled(lambda w: {name: v.to_sparse() for name, v in w.items()}), "weights that are sparse"),
    "meta": ("dpt", _pickled(lambda w: {name: v.to("meta") for name, v in w.items()}), "weights that are left out"),
    "numeric keys": ("dpt", _pickled(lambda w: dict(enumerate(w.values()))), "holds weights by int"),
    "14 TB": ("dpt", _pickled(_repeated), "that are larger than their file"),
    "a program": ("dpt", _pickled(lambda _: {"a": os.system}), "could run code"),
    "a missing shard": ("dpt", _shards(dict, "model-00002-of-00002.safetensors"), "lacks model-00002.* lists"),
    "a shard beside": (
        "dpt", _shards(lambda listed: dict.fromkeys(listed, "../outside.safetensors")), "outside of its folder"
    ),
    "a shard elsewhere": ("dpt", _shards(lambda listed: dict.fromkeys(listed, "/etc/passwd")), "outside of its folder"),
    "numbers for shards": ("dpt", _shards(lambda listed: dict.fromkeys(listed, 3)), "outside of its folder"),
    "shards in a list": ("dpt", _shards(list), "lists no files of weights"),
    "no processor": ("dpt", _gone("preprocessor_config.json", "processor_config.json"), "has no image processor"),
    "an empty processor": ("dpt", _text("preprocessor_config.json", ""), "is empty"),
    "a processor's web page": ("dpt", _text("preprocessor_config.json", "<html>"), "is a web page"),
    "a list for a processor": ("dpt", _text("preprocessor_config.json", "[]"), "no JSON object"),
    "10^9 px": ("dpt", _settings("preprocessor_config.json", size={"height": 10**9, "width": 96}), "asks for images"),
    "a step of 10^9": ("dpt", _settings("preprocessor_config.json", ensure_multiple_of=10**9), "asks for images"),
    "a pipe for images": ("dpt", _pipe("preprocessor_config.json"), "no regular file"),
    "no tokenizer": ("dino", _gone("tokenizer.json", "vocab.txt"), r"has no tokenizer \(tokenizer\.json is missing\)"),
    "no tokenizer, SAM 3": ("sam3", _gone("tokenizer.json", "vocab.json"), r"has no tokenizer"),
    "a tokenizer's web page": ("dino", _text("tokenizer.json", "<html>"), "is a web page"),
    "a tokenizer of nothing": ("sam3", _text("tokenizer.json", "{}"), "that can be read"),
    "SAM 2 of 10^9 px": ("sam2", _settings(prompt_encoder_config={"image_size": 10**9}), TOO_LARGE),
    "SAM 2 cut": ("sam2", _bytes(lambda content: content[:-100]), CUT),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
@pytest.mark.filterwarnings("ignore")  # what is thrown away warns, too
def test_odd_folders_are_one_sentence(case: str, changed: Callable[[str, Change], Path], asked: list[Any]) -> None:
    kind, change, sentence = ODD[case]
    folder = changed(kind, change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=sentence) as caught:
        SOURCES[kind][1](folder, device="cpu")
    assert asked == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "kilobytes"
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
    assert str(folder) in str(caught.value)


RUNS_BADLY: dict[str, tuple[Change, str]] = {
    "steps that are missing": (_settings(backbone_out_indices=[0]), "cannot be used for estimating depth"),
    "no size": (_settings("preprocessor_config.json", size={"height": 0, "width": 0}), "cannot be used"),
    "a step of none": (_settings("preprocessor_config.json", ensure_multiple_of=0), "cannot be used"),
    "another processor": (
        _text("preprocessor_config.json", '{"image_processor_type": "CLIPImageProcessor"}'), "cannot be used"
    ),
    "NaN for the mean": (_settings("preprocessor_config.json", image_mean=[float("nan")] * 3), "no finite numbers"),
    "divided by zero": (_settings("preprocessor_config.json", image_std=[0, 0, 0]), "gives no finite numbers"),
    "weights that overflow": (_weights(lambda w: {name: v * 1e30 for name, v in w.items()}), "gives no finite numbers"),
}  # fmt: skip


@pytest.mark.parametrize("case", RUNS_BADLY)
@pytest.mark.filterwarnings("ignore")
def test_what_shows_only_in_use_is_one_sentence_too(
    case: str, changed: Callable[[str, Change], Path], picture: Callable[..., np.ndarray]
) -> None:
    change, sentence = RUNS_BADLY[case]
    estimator = load_depth_estimator(changed("dpt", change), device="cpu")
    with pytest.raises(ModelError, match=sentence) as caught:
        estimator.estimate(picture(60, 80))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["dino", "sam3"])
def test_words_with_weights_that_overflow_find_nothing_and_say_so(
    kind: str, changed: Callable[[str, Change], Path], picture: Callable[..., np.ndarray]
) -> None:
    folder = changed(kind, _weights(lambda w: {name: v * 1e30 for name, v in w.items()}))
    detector = load_text_detector(folder, device="cpu")
    with pytest.raises(ModelError, match="gives no finite numbers"):
        detector.detect(picture(60, 80), "coin.", 0.1)


@pytest.mark.parametrize("kind", SOURCES)
def test_whole_folders_load_without_any_request(
    kind: str, changed: Callable[[str, Change], Path], asked: list[Any]
) -> None:
    folder = changed(kind, _settings(_name_or_path="facebook/another", transformers_version="4.0.0"))
    SOURCES[kind][1](folder, device="cpu")
    assert asked == []


@pytest.mark.parametrize("change", [_pickled(dict), _shards()], ids=["torch's format", "shards"])
def test_weights_in_other_forms_load_without_any_request(
    change: Change, changed: Callable[[str, Change], Path], asked: list[Any], picture: Callable[..., np.ndarray],
    good: Callable[[str], Path],
) -> None:  # fmt: skip
    # outside of a test runner transformers would ask the hub to convert what torch has pickled
    found = load_depth_estimator(changed("dpt", change), device="cpu").estimate(picture(60, 80))
    assert asked == []
    assert np.array_equal(
        found.values, load_depth_estimator(good("dpt"), device="cpu").estimate(picture(60, 80)).values
    )


def test_the_hub_is_let_go_of_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants, is_offline_mode

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with offline():
        with offline():
            assert is_offline_mode()
        assert is_offline_mode()
    assert not is_offline_mode()


def test_every_file_that_decides_the_answers_is_part_of_the_identity(tmp_path: Path) -> None:
    files = {
        "config.json": "{}",
        "preprocessor_config.json": "{}",
        "model-00001-of-00002.safetensors": "one",
        "model-00002-of-00002.safetensors": "two",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    shards = [name for name in files if name.endswith("safetensors")]
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": dict(zip("ab", shards, strict=True))}))
    first, seen = identity(tmp_path), set()
    for name, text in files.items():
        (tmp_path / name).write_text(f"{text} ")
        seen.add(identity(tmp_path))
        (tmp_path / name).write_text(text)
    assert len(seen | {first}) == 1 + len(files)
    (tmp_path / "README.md").write_text("of no matter")
    assert identity(tmp_path) == first
    (tmp_path / "preprocessor_config.json").unlink()
    assert identity(tmp_path) != first
