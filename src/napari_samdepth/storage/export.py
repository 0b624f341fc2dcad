"""Labels and depth as TIFF, tables as CSV, and pictures read from files."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_samdepth.core.depthmap import DepthKind, DepthMap
from napari_samdepth.storage.atomic import atomic_path

PathLike = str | os.PathLike[str]
_TIFF = (".tif", ".tiff")


def write_labels(path: PathLike, labels: NDArray[Any]) -> Path:
    """Write labels as a TIFF in the smallest integer dtype that holds them, compressed without loss.

    Parameters
    ----------
    path
        Where to; the folder is made if need be. An existing file is replaced.
    labels
        (H, W) or (n, H, W), bool or integers.

    Raises
    ------
    ValueError
        If `labels` are not integers.
    OSError
        If the file cannot be written; an older file of that name is then still there, whole.
    """
    if labels.dtype.kind not in "biu":
        raise ValueError(f"Labels must be integers, got dtype {labels.dtype}.")
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    dtype = np.min_scalar_type(high if low >= 0 else min(low, -high - 1))
    return _write_tiff(path, labels.astype(dtype), {"axes": "ZYX"[-labels.ndim :], "content": "labels"})


def write_depth(path: PathLike, depth: DepthMap) -> Path:
    """Write a depth map as a float32 TIFF; its kind, unit, source and upsampling stand in ImageDescription as JSON.

    Pixels without depth are NaN. Raises OSError as `write_labels` does.
    """
    about = {"axes": "YX", "content": "depth", "kind": depth.kind, "unit": depth.unit, "source": depth.source}
    return _write_tiff(path, depth.values, {**about, "upsampling": depth.upsampling})


def write_table(path: PathLike, table: pd.DataFrame) -> Path:
    """Write a readout as CSV, the label first; numbers keep seven digits. Raises OSError as `write_labels` does."""
    with atomic_path(path) as beside:
        table.to_csv(beside, index=table.index.name is not None, float_format="%.7g", encoding="utf-8")
    return Path(path)


def read_image(path: PathLike) -> NDArray[Any]:
    """Return the array in an image file: TIFF, .npy, or anything that scikit-image reads (PNG, JPEG, ...).

    Raises
    ------
    ValueError
        If there is no such file, or it cannot be read as an image; the message says which.
    """
    file = Path(path)
    if file.is_dir():
        raise ValueError(f"{file} is a folder; give the name of an image in it.")
    if not file.is_file():
        raise ValueError(f"There is no file {file}; check the path.")
    try:
        if file.suffix.lower() == ".npy":
            return np.asarray(np.load(file, allow_pickle=False))
        if file.suffix.lower() in _TIFF:
            from tifffile import imread

            return np.asarray(imread(file))
        from skimage import io

        with file.open("rb") as stream:  # given a name, imageio leaves files open that no plugin could read
            return np.asarray(io.imread(BytesIO(stream.read())))
    except Exception as error:  # each library has its own for a broken file
        if "imagecodecs" in str(error):
            raise ValueError(
                f"{file} is compressed in a way that needs one more package; install it with `pip install imagecodecs`."
            ) from error
        raise ValueError(f"{file} cannot be read as an image; give a TIFF, PNG, JPEG or .npy file.") from error


def read_depth(path: PathLike, kind: DepthKind | None = None, unit: str | None = None) -> DepthMap:
    """Return a depth map from an image file.

    Parameters
    ----------
    path
        A file that `read_image` reads, (H, W).
    kind, unit
        What the values mean; None for what `write_depth` noted in the file.

    Raises
    ------
    ValueError
        If the file cannot be read, is not (H, W), or says nothing of its kind and none is given.
    """
    values = np.squeeze(read_image(path))
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
    upsampling = float(noted.get("upsampling", 1.0))
    return DepthMap(values, known, unit or noted.get("unit"), noted.get("source") or Path(path).name, upsampling)


def _description(path: Path) -> dict[str, Any]:
    if path.suffix.lower() not in _TIFF:
        return {}
    from tifffile import TiffFile

    with TiffFile(path) as tiff:
        return dict((tiff.shaped_metadata or ({},))[0])


def _write_tiff(path: PathLike, array: NDArray[Any], about: dict[str, Any]) -> Path:
    from tifffile import imwrite

    with atomic_path(path) as beside:
        imwrite(
            beside,
            np.ascontiguousarray(array),
            photometric="minisblack",
            compression="zlib",
            software="napari-samdepth",
            metadata=about,
        )
    return Path(path)
