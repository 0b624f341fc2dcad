"""Which device the networks run on, and the one door through which torch is loaded.

OpenMP reads its waiting policy when torch is loaded. A pool of threads that spins while it waits makes a click seven
times slower beside one busy process, so the policy is set here first, and every module of this package gets torch
from `torch_module`.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.errors import ModelError
from napari_samdepth.core.resample import round_as

logger = logging.getLogger(__name__)

OPENMP_SETTINGS = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
"""What is put into the environment before torch is loaded; what the user set already is left alone."""

Precision = Literal["float32", "bfloat16"]
"""Number format of what takes a network's time; bfloat16 is coarser, and faster where `bfloat16_gains`."""

_state = {"settled": False}


@dataclass(frozen=True)
class Device:
    """A torch device and why it was chosen.

    Attributes
    ----------
    name
        As torch understands it: "cpu", "cuda", "cuda:1", "mps".
    reason
        One sentence for the user.
    """

    name: str
    reason: str

    @property
    def is_gpu(self) -> bool:
        """Whether this is not the CPU."""
        return self.name != "cpu"


def prepare_openmp() -> None:
    """Make OpenMP's threads wait passively; has an effect only while torch is not loaded yet.

    Says so in the log, once, if torch was loaded earlier without these settings.
    """
    if _state["settled"]:
        return
    _state["settled"] = True
    unset = [name for name in OPENMP_SETTINGS if name not in os.environ]
    if "torch" in sys.modules and len(unset) == len(OPENMP_SETTINGS):
        logger.warning(
            "torch was loaded before napari-samdepth, so its threads spin while they wait and clicks are slow beside "
            "other work; set OMP_WAIT_POLICY=passive before starting Python to avoid this."
        )
        return
    for name in unset:
        os.environ[name] = OPENMP_SETTINGS[name]


def torch_module() -> Any:
    """Return the module torch, loaded with passive OpenMP waiting.

    Raises
    ------
    ModelError
        If torch cannot be loaded.
    """
    torch = _load("torch")
    if not _state.get("rounds"):
        _state["rounds"] = True
        round_as(lambda values, shape: _resized(torch, values, shape))
    return torch


def _resized(torch: Any, values: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return values (h, w) resized by torch, as masks are by segment_anything."""
    image = torch.from_numpy(values)[None, None]
    resized: NDArray[np.float32] = torch.nn.functional.interpolate(image, shape, mode="bilinear")[0, 0].numpy()
    return resized


def transformers_module() -> Any:
    """Return the module transformers, loaded after `torch_module`.

    Raises
    ------
    ModelError
        If transformers or torch cannot be loaded.
    """
    torch_module()
    return _load("transformers")


def keep_triton_out() -> None:
    """Keep torch from loading triton into a process that holds the system's LLVM, where that crashes Python.

    Mesa's OpenGL drivers, which napari's window may use, bring libLLVM; triton's own copy of LLVM dies of a
    segmentation fault beside it (seen with triton's libtriton.so and libLLVM-15). Nothing here compiles with triton,
    and torch does without it when it cannot be imported. The other order, triton first, is harmless.
    """
    if "triton" in sys.modules or not sys.platform.startswith("linux"):
        return
    if "libLLVM" in Path("/proc/self/maps").read_text(errors="replace"):
        logger.info("triton is left out: it cannot live beside the window system's LLVM.")
        sys.modules["triton"] = None  # type: ignore[assignment]


def _load(name: str) -> ModuleType:
    prepare_openmp()
    keep_triton_out()
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelError(
            f"{name} cannot be loaded ({first_line(error)}); install it again: pip install --force-reinstall {name}"
        ) from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without a final full stop, or the error's name if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ")[:300] if lines else type(error).__name__


def choose_device(requested: str | None = None) -> Device:
    """Return the device to use: the requested one, else CUDA, then MPS, then the CPU.

    Parameters
    ----------
    requested
        A torch device ("cpu", "cuda", "cuda:1", "mps"), or None or "auto" for the best there is.

    Raises
    ------
    ModelError
        If the requested device does not exist here.
    """
    torch = torch_module()
    has_cuda = bool(torch.cuda.is_available())
    has_mps = bool(torch.backends.mps.is_available())
    if requested in (None, "auto"):
        device = _best_device(torch, has_cuda, has_mps)
    else:
        device = _requested_device(torch, str(requested), has_cuda, has_mps)
    logger.info("Device %s: %s", device.name, device.reason)
    return device


def _best_device(torch: Any, has_cuda: bool, has_mps: bool) -> Device:
    if has_cuda:
        return Device("cuda", f"Running on the GPU {torch.cuda.get_device_name(0)}, found through CUDA.")
    if has_mps:
        return Device("mps", "Running on the Apple GPU, found through MPS.")
    if torch.version.cuda is None and torch.version.hip is None:
        return Device("cpu", "Running on the CPU: this torch was built without CUDA and there is no Apple GPU.")
    return Device("cpu", "Running on the CPU: torch finds no CUDA GPU and no Apple GPU here.")


def _requested_device(torch: Any, requested: str, has_cuda: bool, has_mps: bool) -> Device:
    kind, _, index = requested.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise ModelError(f"Unknown device {requested!r}; use cpu, cuda, cuda:<number>, mps or auto.")
    count = torch.cuda.device_count() if has_cuda else 0
    there = {"cpu": True, "cuda": has_cuda and int(index or 0) < count, "mps": has_mps}[kind]
    if not there:
        raise ModelError(f"The device {requested!r} does not exist on this machine; choose auto or cpu.")
    return Device("cpu" if kind == "cpu" else requested, f"Running on {requested}, as requested.")


def bfloat16_gains(device: str = "cpu") -> bool:
    """Return whether bfloat16 makes matrix products at least half as fast again on `device`; measured once on a CPU.

    On processors without instructions for it, bfloat16 is slower than float32.
    """
    torch = torch_module()
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device != "cpu":
        return False
    if "bfloat16" not in _state:
        seconds = {dtype: _product_seconds(torch, dtype) for dtype in (torch.float32, torch.bfloat16)}
        _state["bfloat16"] = seconds[torch.float32] > 1.5 * seconds[torch.bfloat16]
    return _state["bfloat16"]


def usable_precision(wanted: Precision, device: str | None) -> Precision:
    """Return `wanted`, or "float32" where bfloat16 gains nothing on the device ("", None: the one that is chosen)."""
    if wanted == "float32":
        return wanted
    chosen = choose_device(device or None)
    if bfloat16_gains(chosen.name):
        return wanted
    logger.info("bfloat16 gains nothing on %s; float32 is used.", chosen.name)
    return "float32"


def _product_seconds(torch: Any, dtype: Any) -> float:
    """Return the least processor time of a few products as large as an image encoder's."""
    left, right = torch.ones(512, 768, dtype=dtype), torch.ones(768, 3072, dtype=dtype)
    least = float("inf")
    with torch.inference_mode():
        for _ in range(5):
            start = time.process_time()
            left @ right
            least = min(least, time.process_time() - start)
    return least


# What torch says of a CPU's memory, on Linux and macOS, and on Windows.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def empty_cache(device: str) -> None:
    """Give back to a GPU what torch keeps of its memory without using it."""
    torch, kind = torch_module(), device.partition(":")[0]
    if kind == "cuda":
        torch.cuda.empty_cache()
    elif kind == "mps" and torch.backends.mps.is_available():
        torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that memory ran out, a GPU's or the machine's: by torch's own class, or its text."""
    torch = sys.modules.get("torch")
    kind = getattr(torch, "OutOfMemoryError", None)
    return (
        isinstance(error, MemoryError)
        or (kind is not None and isinstance(error, kind))
        or (isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY))
    )


@contextmanager
def enough_memory(doing: str) -> Iterator[None]:
    """Tell in a sentence where the machine's memory is not enough for what is done inside; a decorator as well.

    Raises
    ------
    ModelError
        If memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"There is not enough memory for {doing}; give a smaller image, close other programs, or choose a smaller "
            "model."
        ) from error


def cpu_after_out_of_memory(device: Device, what: str) -> Device:
    """Return the CPU as the device to go on with after `device` ran out of memory in `what`, and log why."""
    fallback = Device("cpu", f"Running on the CPU: {device.name} ran out of memory while {what}.")
    logger.warning("%s", fallback.reason)
    torch = torch_module()
    if device.name.startswith("cuda"):
        torch.cuda.empty_cache()
    return fallback
