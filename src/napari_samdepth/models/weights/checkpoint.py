"""Reading weights from files that nobody vouches for: tensors only, no code, and one sentence when it fails."""

from __future__ import annotations

import pickle
import pickletools
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.runtime.device import torch_module
from napari_samdepth.models.weights.checksums import file_checksum
from napari_samdepth.models.weights.file_formats import (
    check_regular,
    check_zip,
    is_web_page,
    safetensors_header,
    unreadable,
    weights_format,
)

# What torch's restricted unpickler says when a file asks for more than tensors and plain containers.
_CODE_MARKS = ("unsupported global", "unsupported class", "trying to call", "blocked", "disallowed", "not allowed")


def fingerprint(path: Path) -> str:
    """Return the xxh128 of a file's bytes, 32 hexadecimal digits: the identity of its weights."""
    return file_checksum(path, "xxh128")


def read_weights(path: Path) -> dict[str, Any]:
    """Return the tensors in a checkpoint by name, on the CPU, without running anything that the file contains.

    Read are torch's own format (with ``weights_only=True``) and safetensors. A dict with the entry ``model_state``
    (micro-sam) or ``state_dict`` stands for the weights in it; there and nowhere else the prefix ``sam.`` is dropped.
    Tensors of the zip format are mapped from the file, so copy what is to outlive it.

    Raises
    ------
    ModelError
        If the file is missing, cut off, wants to run code, or holds anything else than dense tensors by name.
    """
    check_regular(path)
    try:
        content = _load(path)
        size = path.stat().st_size
    except ModelError:
        raise
    except Exception as error:  # whatever a reader makes of a foreign file, it is the file that is bad
        raise ModelError(_why_unreadable(path, error)) from error
    return _named_tensors(path, content, size)


def check_file(path: Path) -> None:
    """Look at a file's first bytes, and at the names in a zip file, whether weights may be in it; none are read.

    Raises
    ------
    ModelError
        If it is of neither of the formats that `read_weights` reads.
    """
    check_regular(path)
    try:
        found = weights_format(path)
        if found == "zip":
            check_zip(path)
        elif found == "safetensors":
            safetensors_header(path)
    except OSError as error:
        raise ModelError(unreadable(path, error)) from error
    if not found:
        raise ModelError(f"{path} is no checkpoint: it is a file neither of torch nor of safetensors; choose another.")


def _load(path: Path) -> Any:
    torch = torch_module()
    found = weights_format(path)
    if found == "safetensors":
        from safetensors.torch import load_file

        safetensors_header(path)
        return load_file(str(path))
    if found == "zip":
        check_zip(path)
    with warnings.catch_warnings():
        # torch warns of pickles and kinds of tensors that it may not understand; it either does or says why not
        warnings.simplefilter("ignore")
        if path.suffix != ".safetensors":
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=found == "zip")
        with path.open("rb") as file:  # by its name torch would take it for safetensors
            return torch.load(file, map_location="cpu", weights_only=True)


def _why_unreadable(path: Path, error: Exception) -> str:
    text = str(error).lower()
    if isinstance(error, pickle.UnpicklingError) and (any(mark in text for mark in _CODE_MARKS) or _names_code(path)):
        return (
            f"{path} is refused because it holds Python objects that could run code, not only weights; "
            "save its state_dict alone and load that file."
        )
    if isinstance(error, OSError) and error.errno is not None:
        return unreadable(path, error)
    if isinstance(error, MemoryError) or "allocate memory" in text:
        return f"{path} claims to hold more than fits into memory; it is damaged, or too large for this machine."
    with path.open("rb") as file:
        start = file.read(1024)
    if not start:
        return f"{path} is empty; download it again."
    if weights_format(path) in ("zip", "safetensors") or isinstance(error, EOFError) or "truncated" in text:
        return f"{path} is cut off or damaged; download it again."
    # torch's own words advise to read the file without its safeguard
    page = " (it is a web page)" if is_web_page(start) else ""
    return f"{path} is no checkpoint, or is damaged; give a file of torch or safetensors{page}."


def _names_code(path: Path) -> bool:
    """Return whether a file is a plain pickle that names functions or classes; it is read, not run."""
    try:
        with path.open("rb") as file:
            return any(code.name in ("GLOBAL", "STACK_GLOBAL", "INST") for code, _, _ in pickletools.genops(file))
    except (ValueError, EOFError, OSError):
        return False


def _named_tensors(path: Path, content: Any, size: int) -> dict[str, Any]:
    """Return the weights in what a file of `size` bytes holds."""
    prefix = ""
    for key in ("model_state", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content, prefix = content[key], "sam."
            break
    if not isinstance(content, Mapping) or not content:
        kind = f"an empty {type(content).__name__}" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise ModelError(f"{path} holds {kind}, not weights by name; save a state_dict.")
    found = {}
    for name, value in content.items():
        if not isinstance(name, str):
            raise ModelError(
                f"{path} holds weights by {type(name).__name__} ({name!r}), not by name; save a state_dict."
            )
        _check_tensor(path, name, value, size)
        found[name.removeprefix(prefix)] = value
    return found


def _check_tensor(path: Path, name: str, value: Any, size: int) -> None:
    """Refuse what is no dense tensor of plain numbers, or claims to be larger than its file."""
    torch = torch_module()
    if not isinstance(value, torch.Tensor):
        raise ModelError(f"{path} holds more than weights (the entry {name!r}); save its state_dict alone.")
    if value.is_quantized:
        odd = "quantised"
    elif value.layout is not torch.strided:
        odd = "sparse"
    elif value.is_meta:
        odd = "left out (tensors on the device meta)"
    elif value.is_complex():
        odd = "complex"
    elif value.is_nested:
        odd = "nested"
    elif value.numel() * value.element_size() > size:
        # a tensor may repeat one number without end
        odd = "larger than their file"
    else:
        return
    raise ModelError(f"{path} holds weights that are {odd} (the entry {name!r}); save them as dense float32.")


def check_numbers(path: Path, weights: Mapping[str, Any]) -> None:
    """Refuse weights that are not finite: whatever they compute would be NaN.

    Raises
    ------
    ModelError
        If a number is NaN or infinite.
    """
    torch = torch_module()
    for name, value in weights.items():
        if value.is_floating_point() and value.numel() and not torch.stack(torch.aminmax(value)).isfinite().all():
            raise ModelError(
                f"{path} holds weights that are not finite (the entry {name!r}); choose another checkpoint."
            )
