"""Labels and depth as TIFF, tables as CSV, and depth read from files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_samdepth.core.depthmap import DepthKind, DepthMap
from napari_samdepth.core.no_reading import NoReading, leave_out, missing_text
from napari_samdepth.storage.atomic import atomic_path
from napari_samdepth.storage.images import is_tiff, read_values
from napari_samdepth.storage.tables import to_csv

PathLike = str | os.PathLike[str]


def write_labels(path: PathLike, labels: NDArray[Any], *, overwrite: bool = True) -> Path:
    """Write labels as a TIFF in the smallest integer dtype that holds them, compressed without loss.

    Parameters
    ----------
    path
        Where to; the folder is made if need be.
    labels
        (H, W) or (n, H, W), bool or integers.
    overwrite
        Whether a file that is there already may be replaced.

    Raises
    ------
    ValueError
        If `labels` are not integers.
    OSError
        If the file cannot be written (FileExistsError if it is there and `overwrite` is False); an older file of that
        name is then still there, whole.
    """
    if labels.dtype.kind not in "biu":
        raise ValueError(f"Labels must be integers, got dtype {labels.dtype}.")
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    dtype = np.min_scalar_type(high if low >= 0 else min(low, -high - 1))
    return _write_tiff(path, labels.astype(dtype), {"axes": "ZYX"[-labels.ndim :], "content": "labels"}, overwrite)


def write_depth(path: PathLike, depth: DepthMap, *, overwrite: bool = True) -> Path:
    """Write a depth map as a float32 TIFF; its kind, unit, source and upsampling stand in ImageDescription as JSON.

    Pixels without depth are NaN. `overwrite` and OSError as in `write_labels`.
    """
    about = {"axes": "YX", "content": "depth", "kind": depth.kind, "unit": depth.unit, "source": depth.source}
    return _write_tiff(path, depth.values, {**about, "upsampling": depth.upsampling}, overwrite)


def write_table(path: PathLike, table: pd.DataFrame, *, overwrite: bool = True) -> Path:
    """Write a readout as CSV, see `tables.to_csv`; in UTF-8, with the mark by which Excel knows it where need be.

    `overwrite` and OSError as in `write_labels`.
    """
    text = to_csv(table)
    with atomic_path(path, overwrite=overwrite) as beside:
        beside.write_bytes(text.encode("utf-8" if text.isascii() else "utf-8-sig"))
    return Path(path)


def read_depth(
    path: PathLike,
    kind: DepthKind | None = None,
    unit: str | None = None,
    no_reading: NoReading | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> DepthMap:
    """Return a depth map from an image file.

    Parameters
    ----------
    path
        A file that `images.read_values` reads, (H, W).
    kind, unit
        What the values mean; None for what `write_depth` noted in the file.
    no_reading
        The value that stands where nothing was measured, "auto" to find it (see `find_no_reading`), "none" if there is
        no such value. None takes "none" for a file of `write_depth` and "auto" for others.
    tell
        Told in one sentence how many pixels hold no reading, where there are such.

    Raises
    ------
    ValueError
        If the file cannot be read, is not (H, W), or says nothing of its kind and none is given.
    """
    values = read_values(path)
    noted = _description(Path(path))
    known: DepthKind | None = next((one for one in get_args(DepthKind) if one == (kind or noted.get("kind"))), None)
    if known is None:
        kinds = ", ".join(get_args(DepthKind))
        raise ValueError(
            f"{path} does not say what its values mean; give their kind (--kind on the command line): {kinds}."
        )
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{path} cannot be used as depth: that is real numbers, got {values.dtype}.")
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"{path} cannot be used as depth: that is one number per pixel, got shape {values.shape}.")
    unit = unit or noted.get("unit")
    left_out = no_reading if no_reading is not None else "none" if noted.get("content") == "depth" else "auto"
    measured, fills = leave_out(values, known, unit, left_out)
    if not np.isfinite(measured).all():
        tell(f"{path}: {missing_text(values, measured, fills)} and are left out.")
    upsampling = float(noted.get("upsampling", 1.0))
    return DepthMap(measured, known, unit, noted.get("source") or Path(path).name, upsampling)


def _description(path: Path) -> dict[str, Any]:
    if not is_tiff(path):
        return {}
    from tifffile import TiffFile

    with TiffFile(path) as tiff:
        return dict((tiff.shaped_metadata or ({},))[0])


def _write_tiff(path: PathLike, array: NDArray[Any], about: dict[str, Any], overwrite: bool) -> Path:
    from tifffile import imwrite

    with atomic_path(path, overwrite=overwrite) as beside:
        imwrite(
            beside,
            np.ascontiguousarray(array),
            photometric="minisblack",
            compression="zlib",
            software="napari-samdepth",
            metadata=about,
        )
    return Path(path)
