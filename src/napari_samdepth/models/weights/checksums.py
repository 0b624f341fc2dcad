"""Checksums of files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal, get_args

from napari_samdepth.models.inputs import silent
from napari_samdepth.models.protocols import Report

Algorithm = Literal["sha256", "xxh128", "git-sha1"]
"""git-sha1: as git names a file, SHA-1 of "blob <size>", a zero byte and the content."""

_BLOCK = 1 << 22


def _new(algorithm: Algorithm, size: int) -> Any:
    if algorithm == "sha256":
        return hashlib.sha256()
    if algorithm == "git-sha1":
        return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    import xxhash

    return xxhash.xxh128()


def file_checksum(path: Path, algorithm: Algorithm, report: Report | None = None) -> str:
    """Return the checksum of a file's bytes in lower-case hexadecimal digits.

    Parameters
    ----------
    path
        The file.
    algorithm
        "sha256", "xxh128" (far faster, and not meant against deliberate forgery), or "git-sha1" (what the hub
        publishes of small files).
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
    size = path.stat().st_size
    digest = _new(algorithm, size)
    total = max(size, 1)
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
    if algorithm not in get_args(Algorithm) or not expected:
        raise ValueError(f"A checksum must be 'sha256:<hex>' or 'xxh128:<hex>', got {checksum!r}.")
    return file_checksum(path, algorithm, report) == expected.lower()  # type: ignore[arg-type]
