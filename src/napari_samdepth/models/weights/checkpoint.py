"""Reading weights from files that nobody vouches for: tensors only, no code, and one sentence when it fails."""

from __future__ import annotations

import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.runtime.device import first_line, torch_module
from napari_samdepth.models.weights.checksums import file_checksum

_ZIP_MAGIC = b"PK\x03\x04"
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
        If the file is missing, cut off, wants to run code, or holds no tensors.
    """
    if path.is_dir():
        raise ModelError(f"{path} is a folder, not a checkpoint; give the path of a .pth, .pt or .safetensors file.")
    if not path.is_file():
        raise ModelError(f"There is no file {path}; check the path.")
    try:
        content = _load(path)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise ModelError(_why_unreadable(path, error)) from error
    return _named_tensors(path, content)


def check_file(path: Path) -> None:
    """Look at a file's first bytes, and at the names in a zip file, whether weights may be in it; none are read.

    Raises
    ------
    ModelError
        If it is of neither of the formats that `read_weights` reads.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
        fits = _holds_pickle(path) if start[:4] == _ZIP_MAGIC else _may_be_weights(start, path.stat().st_size)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    if not fits:
        raise ModelError(f"{path} is no checkpoint: it is a file neither of torch nor of safetensors; choose another.")


def _may_be_weights(start: bytes, size: int) -> bool:
    """Whether a file of `size` bytes begins as a pickle does, or as safetensors: a length, then JSON."""
    pickled = start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    return pickled or (start[8:] == b"{" and 8 + int.from_bytes(start[:8], "little") <= size)


def _holds_pickle(path: Path) -> bool:
    """Whether a zip file is one of torch's; what is cut off has lost its list of names."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except zipfile.BadZipFile as error:
        raise ModelError(f"{path} is cut off or damaged; download it again.") from error


def _load(path: Path) -> Any:
    torch = torch_module()
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(str(path))
        except SafetensorError as error:
            raise EOFError(str(error)) from error
    with warnings.catch_warnings():
        # torch warns of a pickle that it may not understand; it either does or says why not
        warnings.filterwarnings("ignore", message="Detected pickle protocol")
        return torch.load(str(path), map_location="cpu", weights_only=True, mmap=_is_zip(path))


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC


def _why_unreadable(path: Path, error: BaseException) -> str:
    text = str(error).lower()
    if isinstance(error, pickle.UnpicklingError) and (any(mark in text for mark in _CODE_MARKS) or _names_code(path)):
        return (
            f"{path} is refused because it holds Python objects that could run code, not only weights; "
            "save its state_dict alone and load that file."
        )
    if isinstance(error, PermissionError):
        return f"{path} cannot be read; check its permissions."
    if path.stat().st_size == 0:
        return f"{path} is empty; download it again."
    if _is_zip(path) or isinstance(error, EOFError) or "truncated" in text or "incomplete" in text:
        return f"{path} is cut off or damaged; download it again."
    if isinstance(error, pickle.UnpicklingError):
        # torch's own words advise to read the file without its safeguard
        return f"{path} is no checkpoint, or is damaged; give a file of torch or safetensors."
    return f"{path} is no checkpoint that can be read ({first_line(error)}); give a file of torch or safetensors."


def _names_code(path: Path) -> bool:
    """Return whether a file is a plain pickle that names functions or classes; it is read, not run."""
    try:
        with path.open("rb") as file:
            return any(code.name in ("GLOBAL", "STACK_GLOBAL", "INST") for code, _, _ in pickletools.genops(file))
    except (ValueError, EOFError, OSError):
        return False


def _named_tensors(path: Path, content: Any) -> dict[str, Any]:
    torch = torch_module()
    for key in ("model_state", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = {name.removeprefix("sam."): value for name, value in content[key].items()}
            break
    if not isinstance(content, Mapping) or not content:
        raise ModelError(f"{path} holds a {type(content).__name__}, not weights by name; save a state_dict.")
    odd = next((name for name, value in content.items() if not isinstance(value, torch.Tensor)), None)
    if odd is not None:
        raise ModelError(f"{path} holds more than weights (the entry {odd!r}); save its state_dict alone.")
    return dict(content)
