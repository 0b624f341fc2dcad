"""Files that are no checkpoints, or odd ones: one sentence each, no code run, no memory taken, no NaN."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_samdepth.core.errors import ModelError
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.models.loading import load_segmenter
from napari_samdepth.models.weights.checkpoint import check_file, read_weights

KEY = "image_encoder.patch_embed.proj.weight"
TOKEN = "mask_decoder.iou_token.weight"
ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
Weights = dict[str, Any]


def _saved(change: Callable[[Weights], Any], **how: Any) -> Callable[[Path, Weights], None]:
    return lambda path, weights: torch.save(change(weights), path, **how)


def _written(content: bytes) -> Callable[[Path, Weights], None]:
    def write(path: Path, weights: Weights) -> None:
        path.write_bytes(content)

    return write


def _safetensors(header: Any, data: bytes = b"", length: int | None = None) -> Callable[[Path, Weights], None]:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return _written(struct.pack("<Q", len(text) if length is None else length) + text + data)


def _zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Callable[[Path, Weights], None]:
    def write(path: Path, weights: Weights) -> None:
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in files.items():
                archive.writestr(name, content)

    return write


def _with_nan(weights: Weights) -> Weights:
    values = weights[KEY].clone()
    values[3, 1, 2, 5] = float("nan")
    return {**weights, KEY: values}


def _claiming(path: Path, weights: Weights) -> None:
    """An old file of torch's whose pickle claims a storage of 3.5e12 numbers."""
    torch.save({"x": torch.zeros(4)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    at = content.find(b"K\x04", content.find(b"cpuq"))
    number = b"\x8a\x06" + (3_500_000_000_000).to_bytes(6, "little")
    path.write_bytes(content[:at] + number + content[at + 2 :])


def _tar(path: Path, weights: Weights) -> None:
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps({})
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _half(path: Path, weights: Weights) -> None:
    torch.save(weights, path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _quantised(weights: Weights) -> Weights:
    return {**weights, KEY: torch.quantize_per_tensor(weights[KEY], 0.1, 0, torch.qint8)}


ODD: dict[str, tuple[Callable[[Path, Weights], None], str]] = {
    "numbers for names": (_saved(lambda _: {1: torch.zeros(3)}), r"holds weights by int \(1\), not by name"),
    "numbers inside": (_saved(lambda w: {"state_dict": {**w, 7: w[KEY]}}), r"holds weights by int \(7\), not by name"),
    "tuples for names": (_saved(lambda _: {(1, 2): torch.zeros(3)}), "holds weights by tuple"),
    "quantised": (_saved(_quantised), "that are quantised"),
    "sparse": (_saved(lambda w: {**w, KEY: w[KEY].to_sparse()}), "that are sparse"),
    "compressed rows": (_saved(lambda w: {**w, TOKEN: w[TOKEN].to_sparse_csr()}), "that are sparse"),
    "meta": (_saved(lambda w: {**w, KEY: w[KEY].to("meta")}), "that are left out"),
    "complex": (_saved(lambda w: {**w, KEY: w[KEY].to(torch.complex64)}), "that are complex"),
    "14 TB of one number": (
        _saved(lambda _: {KEY: torch.zeros(1).expand(64, 3, 4_000_000, 4_000)}),
        "that are larger than their file",
    ),
    "14 TB beside the rest": (
        _saved(lambda w: {**w, "x": torch.zeros(1).expand(3_500_000, 1_000_000)}),
        "that are larger than their file",
    ),
    "14 TB in an old file": (_claiming, "claims to hold more than fits into memory"),
    "not finite": (_saved(_with_nan), r"holds weights that are not finite .*patch_embed"),
    "infinite": (_saved(lambda w: {**w, KEY: w[KEY] + torch.inf}), "holds weights that are not finite"),
    "beyond float32": (_saved(lambda w: {**w, KEY: w[KEY].double() + 1e300}), "holds weights that are not finite"),
    "integers": (_saved(lambda w: {name: value.long() for name, value in w.items()}), "holds int64 where weights are"),
    "truth values": (_saved(lambda w: {name: value.bool() for name, value in w.items()}), "holds bool where weights"),
    "nothing in them": (_saved(lambda w: {**w, KEY: torch.zeros(64, 0, 16, 16)}), "it has another shape of"),
    "no dimension": (_saved(lambda w: {**w, KEY: torch.tensor(1.0)}), "holds no Segment Anything weights"),
    "nested": (_saved(lambda w: {"model": {"state": w}}), r"holds more than weights \(the entry 'model'\)"),
    "nested in state_dict": (_saved(lambda w: {"state_dict": {"model": w}}), "holds more than weights"),
    "an empty state": (_saved(lambda _: {"model_state": {}}), "holds an empty dict, not weights by name"),
    "one tensor": (_saved(lambda _: torch.zeros(3)), "holds a Tensor, not weights by name"),
    "a module": (_saved(lambda _: torch.nn.Linear(2, 2)), "is refused because it holds Python objects"),
    "old tar": (_tar, "is no checkpoint, or is damaged"),
    "numpy's pickle": (_written(pickle.dumps({"a": np.zeros(3)})), "is refused because it holds Python objects"),
    "pickle of protocol 0": (_written(pickle.dumps({"a": [1]}, 0)), "is no checkpoint, or is damaged"),
    "half a zip": (_half, "is cut off or damaged"),
    "a zip of texts": (_zipped({"hello.txt": b"x"}), "is no checkpoint but a zip file of something else"),
    "TorchScript": (_zipped({"a/data.pkl": b"", "a/constants.pkl": b""}), "holds a program"),
    "a compressed zip": (
        _zipped({"a/data.pkl": b"\x80\x02}." + bytes(100_000_000), "a/version": b"3"}, zipfile.ZIP_DEFLATED),
        "is compressed, as no file of torch's is",
    ),
    "overlapping": (_safetensors({"a": ENTRY, "b": ENTRY}, bytes(4)), "is cut off or damaged"),
    "one name twice": (
        _safetensors(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_off'
                     b'sets":[4,8]}}', bytes(8)),
        "is cut off or damaged",
    ),
    "a header of 2^60 bytes": (_safetensors({}, b"", 2**60), "is no checkpoint, or is damaged"),
    "a header longer than the file": (_safetensors({}, b"", 5000), "is cut off or damaged"),
    "14 TB of safetensors": (
        _safetensors({"a": {"dtype": "F32", "shape": [3500000, 1000000], "data_offsets": [0, 14 * 10**12]}}, bytes(4)),
        "is cut off or damaged",
    ),
    "a negative shape": (_safetensors({"a": {**ENTRY, "shape": [-1]}}, bytes(4)), "is cut off or damaged"),
    "an unknown type": (_safetensors({"a": {**ENTRY, "dtype": "Q9"}}, bytes(4)), "is cut off or damaged"),
    "a list for a header": (_safetensors(b'{"a": [1]}', bytes(4)), "is cut off or damaged"),
    "bytes beyond the end": (_safetensors({"a": ENTRY}, bytes(9)), "is cut off or damaged"),
    "an empty header": (_safetensors({}), "holds an empty dict"),
    "empty": (_written(b""), "is empty; download it again"),
    "noise": (_written(np.random.default_rng(0).bytes(5000)), "is no checkpoint, or is damaged"),
    "a pointer": (_written(b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\n"), "is no checkpoint"),
    "a web page": (_written(b"<!DOCTYPE html><html>sign in"), r"is no checkpoint, .* \(it is a web page\)\.$"),
}  # fmt: skip


@pytest.mark.usefixtures("small_architecture")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("case", ODD)
@pytest.mark.filterwarnings("ignore")  # torch warns while these are made
def test_odd_files_are_one_sentence(case: str, suffix: str, weights: Weights, tmp_path: Path) -> None:
    make, sentence = ODD[case]
    path = tmp_path / "odd.pth"
    make(path, weights)
    path = path.rename(path.with_suffix(suffix))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=sentence) as caught:
        load_segmenter(path, device="cpu")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kilobytes"
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
    assert str(path) in str(caught.value)


@pytest.mark.usefixtures("small_architecture")
def test_a_file_is_known_by_its_content(weights: Weights, tmp_path: Path, picture: Callable[..., np.ndarray]) -> None:
    from safetensors.torch import save_file

    save_file(weights, tmp_path / "own.pth")
    save_file(weights, tmp_path / "own.SAFETENSORS")
    torch.save(weights, tmp_path / "own.safetensors")
    torch.save({name: value.to(torch.float8_e4m3fn) for name, value in weights.items()}, tmp_path / "coarse.pth")
    (tmp_path / "link.pth").symlink_to("own.pth")
    for path in tmp_path.iterdir():
        check_file(path)
        network = load_segmenter(path, device="cpu").network  # type: ignore[attr-defined]
        if path.name != "coarse.pth":
            assert torch.equal(network.state_dict()[KEY], weights[KEY]), path.name


@pytest.mark.usefixtures("small_architecture")
def test_numbers_that_overflow_on_the_way_are_no_masks(
    weights: Weights, tmp_path: Path, picture: Callable[..., np.ndarray]
) -> None:
    path = tmp_path / "large.pth"
    torch.save({**weights, KEY: weights[KEY] + 1e30}, path)
    with pytest.raises(ModelError, match=r"large\.pth gives no finite numbers for this image"):
        load_segmenter(path, device="cpu").encode(picture(40, 60))
    torch.save({**weights, TOKEN: weights[TOKEN] + 1e30}, path)
    segmenter = load_segmenter(path, device="cpu")
    with pytest.raises(ModelError, match="gives no finite numbers"):
        segmenter.decode(segmenter.encode(picture(40, 60)), Prompts([(10, 10)]))


@pytest.mark.parametrize("use", [read_weights, check_file, load_segmenter])
def test_what_is_no_regular_file_is_said(use: Callable[[Path], Any], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "nowhere.pth").symlink_to(tmp_path / "gone.pth")
    (tmp_path / "round.pth").symlink_to("round.pth")
    for path, sentence in (
        (tmp_path / "pipe.pth", "is no regular file but a pipe or a device"),
        (Path("/dev/zero"), "is no regular file but a pipe or a device"),
        (tmp_path / "nowhere.pth", "is a link to .* not there; check where it leads"),
        (tmp_path / "round.pth", "cannot be read .*; check the path"),
        (tmp_path / ("x" * 300 + ".pth"), "cannot be read .*too long.*; check the path"),
        (tmp_path / "a\0b.pth", "cannot be read .*; check the path"),
        (tmp_path / "gone.pth", "There is no file .*; check the path"),
    ):
        with pytest.raises(ModelError, match=sentence):
            use(path)
