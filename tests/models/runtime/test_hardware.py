"""Names of devices: coarse, the same every time, and other ones for other hardware."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from napari_samdepth.models.runtime import hardware as hardware_module
from napari_samdepth.models.runtime.hardware import hardware, threads


@pytest.fixture(autouse=True)
def _afresh() -> None:
    hardware.cache_clear()


def test_the_cpu_is_named_with_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    kind, name, count = hardware("cpu").split(" · ")
    assert (kind, count) == ("cpu", "3 threads")
    assert name
    assert name == " ".join(name.split())


@pytest.mark.parametrize("wanted", ["", "0", "many", "-2"])
def test_without_a_usable_wish_the_cores_count(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert 1 <= threads() <= (os.cpu_count() or 1)


def test_a_gpu_is_named_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["NVIDIA A", "NVIDIA B"]
    fake = SimpleNamespace(cuda=SimpleNamespace(get_device_name=lambda index: names[index]))
    monkeypatch.setattr(hardware_module, "torch_module", lambda: fake)
    assert hardware("cuda") == "cuda · NVIDIA A"
    assert hardware("cuda:1") == "cuda · NVIDIA B"


def test_a_gpu_that_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_index: int) -> str:
        raise RuntimeError("Found no NVIDIA driver")

    monkeypatch.setattr(
        hardware_module, "torch_module", lambda: SimpleNamespace(cuda=SimpleNamespace(get_device_name=gone))
    )
    assert hardware("cuda") == "cuda · unknown"


@pytest.mark.parametrize("system", ["Linux", "Darwin", "Windows", "Plan 9"])
def test_every_system_gives_some_name(monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    monkeypatch.setattr(hardware_module.platform, "system", lambda: system)
    assert len(hardware("mps").split(" · ")) == 2
    assert hardware("mps").split(" · ")[1]
