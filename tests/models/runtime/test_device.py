from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import pytest

from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.runtime import device as device_module
from napari_samdepth.models.runtime.device import (
    bfloat16_gains,
    choose_device,
    cpu_after_out_of_memory,
    first_line,
    is_out_of_memory,
    prepare_openmp,
    torch_module,
)

PROGRAM = """
import os, sys
from napari_samdepth.models import catalog, loading
from napari_samdepth.models.depth import transformers_depth
from napari_samdepth.models.runtime import device
from napari_samdepth.models.weights import store
from napari_samdepth.models.sam import image_encoder, sam2, segmenter
assert "torch" not in sys.modules and "transformers" not in sys.modules, "loaded too early"
device.torch_module()
print(os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"])
"""


def test_openmp_is_told_to_wait_passively_before_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in device_module.OPENMP_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["passive", "0"]


def test_what_the_user_set_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    program = PROGRAM.replace('os.environ["GOMP_SPINCOUNT"]', 'os.environ.get("GOMP_SPINCOUNT")')
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split()[0] == "active"


def test_a_torch_that_was_loaded_earlier_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    torch_module()
    for name in device_module.OPENMP_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(device_module._state, "settled", False)
    with caplog.at_level(logging.WARNING):
        prepare_openmp()
        prepare_openmp()
    assert len(caplog.records) == 1
    assert "OMP_WAIT_POLICY=passive" in caplog.text


@pytest.mark.parametrize(
    ("cuda", "mps", "expected", "why"),
    [
        (True, True, "cuda", "GPU Big One"),
        (False, True, "mps", "Apple GPU"),
        (False, False, "cpu", "Running on the CPU"),
    ],
)
def test_the_best_device_is_chosen_and_explained(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str, why: str
) -> None:
    torch = torch_module()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Big One")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    for request in (None, "auto"):
        chosen = choose_device(request)
        assert chosen.name == expected
        assert why in chosen.reason
        assert chosen.is_gpu == (expected != "cpu")


def test_a_requested_device_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = torch_module()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("cuda:1").name == "cuda:1"
    assert choose_device("cpu").reason == "Running on cpu, as requested."
    for missing in ("cuda:2", "mps"):
        with pytest.raises(ModelError, match=f"'{missing}' does not exist on this machine"):
            choose_device(missing)
    for nonsense in ("gpu", "cuda:x", ""):
        with pytest.raises(ModelError, match="Unknown device"):
            choose_device(nonsense)


def test_a_broken_torch_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise RuntimeError("operator torchvision::nms does not exist\nmore")

    monkeypatch.setattr(device_module.importlib, "import_module", broken)
    with pytest.raises(ModelError) as caught:
        torch_module()
    assert "(operator torchvision::nms does not exist); install it again" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_out_of_memory_is_recognised(caplog: pytest.LogCaptureFixture) -> None:
    torch = torch_module()
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"))
    assert not is_out_of_memory(RuntimeError("sizes differ"))
    assert not is_out_of_memory(ValueError("out of memory"))
    fallback = cpu_after_out_of_memory(device_module.Device("mps", ""), "encoding")
    assert fallback.name == "cpu"
    assert fallback.reason in caplog.text


def test_first_line_always_says_something() -> None:
    assert first_line(ValueError("one.\ntwo")) == "one"
    assert first_line(EOFError()) == "EOFError"


def test_bfloat16_is_judged_by_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = torch_module()
    monkeypatch.setattr(device_module, "_state", {"settled": True})
    seconds = {torch.float32: 1.0, torch.bfloat16: 0.5}
    monkeypatch.setattr(device_module, "_product_seconds", lambda _, dtype: seconds[dtype])
    assert bfloat16_gains()
    seconds[torch.bfloat16] = 0.9
    assert bfloat16_gains(), "measured again"
    monkeypatch.setattr(device_module, "_state", {"settled": True})
    assert not bfloat16_gains()
    assert not bfloat16_gains("mps")
    monkeypatch.undo()
    assert device_module._product_seconds(torch, torch.float32) < 10
