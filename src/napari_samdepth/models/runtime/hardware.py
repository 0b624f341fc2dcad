"""What a device is called on this machine, so that times measured on one are not taken for those of another."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from pathlib import Path

from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.runtime.device import torch_module


@lru_cache
def hardware(device: str) -> str:
    """Return a coarse name of a torch device: "cpu · <processor> · 8 threads", "cuda · <GPU>", "mps · <processor>".

    Torch is loaded for a CUDA device only, whose name it knows.

    Parameters
    ----------
    device
        "cpu", "cuda", "cuda:1", "mps".
    """
    kind, _, index = device.partition(":")
    if kind == "cuda":
        try:
            return f"cuda · {torch_module().cuda.get_device_name(int(index or 0))}"
        except (RuntimeError, AssertionError, ModelError):
            return "cuda · unknown"
    if kind == "cpu":
        return f"cpu · {_processor()} · {threads()} threads"
    return f"{kind} · {_processor()}"


def threads() -> int:
    """Return how many threads torch may use on the CPU: OMP_NUM_THREADS, else the cores this process may run on."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    """Return the processor's name as the system gives it, else its architecture."""
    name = ""
    try:
        if platform.system() == "Linux":
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
            name = next((line.partition(":")[2] for line in lines if line.startswith("model name")), "")
        elif platform.system() == "Darwin":
            asked = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
            name = subprocess.run(asked, capture_output=True, text=True, timeout=5, check=True).stdout
        else:
            name = platform.processor()
    except (OSError, subprocess.SubprocessError):
        pass
    return " ".join(name.split()) or platform.machine() or "unknown"
