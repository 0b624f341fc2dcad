"""Checksums of files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from napari_samdepth.models.inputs import silent
from napari_samdepth.models.protocols import Report

Algorithm = Literal["sha256", "xxh128"]

_BLOCK = 1 << 22


def _new(algorithm: Algorithm) -> Any:
    if algorithm == "sha256":
        return hashlib.sha256()
    import xxhash

    return xxhash.xxh128()


def file_checksum(path: Path, algorithm: Algorithm, report: Report | None = None) -> str:
    """Return the checksum of a file's bytes in lower-case hexadecimal digits.

    Parameters
    ----------
    path
        The file.
    algorithm
        "sha256", or "xxh128" (far faster, and not meant against deliberate forgery).
    report
        Told how far it is.

    Raises
    ------
    OSError
        If the file cannot be read.
    Cancelled
        If `report` raises it.
    """
    tell = report or silent
    digest = _new(algorithm)
    total = max(path.stat().st_size, 1)
    done = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            done += len(block)
            tell(done / total, f"checking {path.name}")
    return str(digest.hexdigest())


def matches(path: Path, checksum: str, report: Report | None = None) -> bool:
    """Return whether a file has the checksum "sha256:<hex>" or "xxh128:<hex>".

    Raises
    ------
    ValueError
        If the checksum has another form.
    """
    algorithm, _, expected = checksum.partition(":")
    if algorithm not in ("sha256", "xxh128") or not expected:
        raise ValueError(f"A checksum must be 'sha256:<hex>' or 'xxh128:<hex>', got {checksum!r}.")
    return file_checksum(path, algorithm, report) == expected.lower()  # type: ignore[arg-type]
