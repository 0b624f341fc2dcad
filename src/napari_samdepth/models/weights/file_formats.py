"""What a file claims to be, looked at without reading the weights in it: JSON, safetensors, torch, or a web page."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from pathlib import Path
from typing import Any, Literal

from napari_samdepth.core.errors import ModelError

Format = Literal["zip", "pickle", "safetensors", ""]
"""How weights are kept: torch's zip file, torch's older pickle, safetensors, or none of these."""

LARGEST_JSON = 1 << 26
"""Bytes; configurations and tokenizers are smaller."""
LARGEST_HEADER = 100_000_000
"""Bytes of a safetensors header, as the format has it."""
WEIGHT_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")

_ZIP_MAGIC = b"PK\x03\x04"
_PICKLE_PROTOCOLS = (b"\x02", b"\x03", b"\x04", b"\x05")


def check_regular(path: Path) -> None:
    """Refuse what is no file to read from: nothing, a folder, a pipe, a device, a link to nowhere.

    Raises
    ------
    ModelError
        If `path` is no regular file, or may not be looked at.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        if os.path.islink(path):
            raise ModelError(f"{path} is a link to a file that is not there; check where it leads.") from error
        raise ModelError(f"There is no file {path}; check the path.") from error
    except (OSError, ValueError) as error:
        raise ModelError(unreadable(path, error)) from error
    if stat.S_ISDIR(mode):
        raise ModelError(f"{path} is a folder, not a checkpoint; give the path of a .pth, .pt or .safetensors file.")
    if not stat.S_ISREG(mode):
        raise ModelError(f"{path} is no regular file but a pipe or a device; give a file.")


def unreadable(path: Path, error: Exception) -> str:
    """Return the sentence for a file or folder that the system does not let us read."""
    if isinstance(error, PermissionError):
        return f"{path} cannot be read ({error.strerror}); check its permissions."
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    shown = str(path).replace("\0", "\\0")
    return f"{shown if len(shown) < 300 else f'{shown[:100]}…'} cannot be read ({reason}); check the path."


def weights_format(path: Path) -> Format:
    """Return how the weights in a file are kept, judged by its first bytes and not by its name.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(9)
    if start[:4] == _ZIP_MAGIC:
        return "zip"
    # before the pickles, of whose first byte a header's length may consist
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") <= LARGEST_HEADER:
        return "safetensors"
    return "pickle" if start[:1] == b"\x80" and start[1:2] in _PICKLE_PROTOCOLS else ""


def check_zip(path: Path) -> None:
    """Refuse a zip file that is none of torch's; torch compresses nothing, so that sizes in it are true.

    Raises
    ------
    ModelError
        If it is cut off, holds no weights or is compressed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:  # its list of names is at the end
        raise ModelError(f"{path} is cut off or damaged; download it again.") from error
    names = [member.filename for member in members]
    if not any(name.endswith("data.pkl") for name in names):
        raise ModelError(
            f"{path} is no checkpoint but a zip file of something else; give a file of torch or safetensors."
        )
    if any(name.endswith("constants.pkl") for name in names):
        raise ModelError(f"{path} holds a program (TorchScript), not only weights; save its state_dict alone.")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ModelError(f"{path} is compressed, as no file of torch's is; download it again.")


def safetensors_header(path: Path) -> dict[str, Any]:
    """Return the header of a safetensors file: by name of the tensor its dtype, shape and data_offsets.

    Source: the description of the format in the documentation of safetensors.

    Raises
    ------
    ModelError
        If it is not one, or describes other data than the file holds.
    OSError
        If it cannot be read.
    """
    damaged = f"{path} is cut off or damaged; download it again."
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, LARGEST_HEADER):
            raise ModelError(damaged)
        text = file.read(length)
    try:
        header = json.loads(text)
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        ends = [entry["data_offsets"][1] for entry in tensors.values()]
        end = max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ModelError(damaged) from error
    if end != size - 8 - length:
        raise ModelError(damaged)
    return tensors


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises
    ------
    ModelError
        If it cannot be read, or holds anything else.
    """
    check_regular(path)
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ModelError(f"{path} is too large for a JSON file; download it again.")
        text = path.read_bytes()
        content = json.loads(text.decode("utf-8-sig"))
    except OSError as error:
        raise ModelError(unreadable(path, error)) from error
    except (ValueError, RecursionError) as error:
        what = "is a web page" if is_web_page(text) else "is empty" if not text.strip() else "is no JSON, or cut off"
        raise ModelError(f"{path} {what}; download it again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object; download it again.")
    return content


def is_web_page(start: bytes) -> bool:
    """Return whether what a file begins with is HTML, as pages that ask to sign in send it in a file's place."""
    text = start[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return text.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<meta", b"<!--", b"<?xml"))


def check_content(path: Path, name: str) -> None:
    """Refuse a file that is not what its name says; weights are not read.

    Parameters
    ----------
    path
        The file, whatever it is called at the moment.
    name
        What it is to be called.

    Raises
    ------
    ModelError
        If it cannot be read, or is something else.
    """
    check_regular(path)
    suffix = Path(name).suffix.lower()
    try:
        if suffix == ".json":
            read_json(path)
        elif suffix in WEIGHT_SUFFIXES:
            _check_weights(path, suffix)
        elif suffix == ".txt":
            _check_text(path)
    except OSError as error:
        raise ModelError(unreadable(path, error)) from error


def _check_weights(path: Path, suffix: str) -> None:
    found = weights_format(path)
    if not found or (suffix == ".safetensors") != (found == "safetensors"):
        if path.stat().st_size == 0:
            raise ModelError(f"{path} is empty; download it again.")
        with path.open("rb") as file:
            what = "is a web page" if is_web_page(file.read(1024)) else "is no checkpoint"
        wanted = "safetensors" if suffix == ".safetensors" else "torch"
        raise ModelError(f"{path} {what}, not a file of {wanted}; download it again.")
    if found == "safetensors":
        safetensors_header(path)
    elif found == "zip":
        check_zip(path)


def _check_text(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if not start.strip() or b"\0" in start or is_web_page(start):
        what = "is a web page" if is_web_page(start) else "is no text" if start.strip() else "is empty"
        raise ModelError(f"{path} {what}; download it again.")
