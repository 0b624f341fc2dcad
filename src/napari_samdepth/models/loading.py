"""Names and paths to models that are ready to use."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.catalog import entries, find
from napari_samdepth.models.entry import ModelEntry, Task
from napari_samdepth.models.protocols import DepthEstimator, Report, Segmenter, TextDetector
from napari_samdepth.models.runtime.device import Precision, usable_precision
from napari_samdepth.models.weights.configuration import read_configuration
from napari_samdepth.models.weights.file_formats import unreadable
from napari_samdepth.models.weights.store import fetch_entry, local_path, missing

logger = logging.getLogger(__name__)

SAM2 = ("sam2", "sam2_video")
GROUNDING_DINO = ("grounding-dino", "mm-grounding-dino")
SAM3 = ("sam3", "sam3_video")
"""Values of ``model_type`` in the configurations of the families."""
_WEIGHT_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".ckpt")


def load_segmenter(
    name_or_path: str | os.PathLike[str],
    device: str | None = None,
    report: Report | None = None,
    *,
    download: bool = True,
    precision: Precision = "float32",
) -> Segmenter:
    """Return a segmenter, ready to use.

    Parameters
    ----------
    name_or_path
        A name from the catalog ("builtin", "vit_b", "vit_l", "vit_h", "vit_b_lm", "vit_l_lm", "vit_b_em_organelles",
        "vit_l_em_organelles", "sam2.1-tiny", ...), the path of a SAM checkpoint (its size is read from its keys), or a
        folder with SAM 2 in transformers' format.
    device
        "cuda", "mps", "cpu"; None for the first of them that there is.
    report
        Told how far it is.
    download
        Whether a model that is not on this machine may be downloaded.
    precision
        "bfloat16" for a faster and coarser image encoder; SAM's own checkpoints only, and only where the processor
        gains by it: elsewhere it stays float32, and the log says so.

    Raises
    ------
    ModelError
        If there is no such model, or it cannot be had or loaded; the message says what to do.
    Cancelled
        If `report` raises it.
    """
    entry, path = _resolve(name_or_path, "segment", report, download)
    if entry is not None and entry.ships:
        from napari_samdepth.models.builtin.segmenter import load_builtin

        return load_builtin(device, report)
    assert path is not None
    name = entry.name if entry else path.name
    if path.is_dir():
        from napari_samdepth.models.sam.sam2 import load_sam2

        return load_sam2(path, name, device, report)
    from napari_samdepth.models.sam.segmenter import load_sam

    architecture, precision = entry.architecture if entry else "", usable_precision(precision, device)
    return load_sam(path, name, device, report, architecture=architecture, precision=precision)


def load_depth_estimator(
    name_or_path: str | os.PathLike[str],
    device: str | None = None,
    report: Report | None = None,
    *,
    download: bool = True,
    precision: Precision = "float32",
) -> DepthEstimator:
    """Return a depth estimator, ready to use.

    Parameters
    ----------
    name_or_path
        A name from the catalog ("builtin", "dpt-large", "dpt-hybrid-midas", "dpt-swinv2-tiny-256",
        "depth-anything-v2-small", ...), or a folder with a depth model in transformers' format.
    device, report, download
        As in `load_segmenter`.
    precision
        "bfloat16" for a faster and coarser backbone, likewise; the built-in model stays float32.

    Raises
    ------
    ModelError
        If there is no such model, or it cannot be had or loaded; the message says what to do.
    Cancelled
        If `report` raises it.
    """
    entry, path = _resolve(name_or_path, "depth", report, download)
    if entry is not None and entry.ships:
        from napari_samdepth.models.builtin.depth_builtin import BuiltinDepth

        return BuiltinDepth(device)
    assert path is not None
    from napari_samdepth.models.depth.transformers_depth import load_depth

    name, precision = entry.name if entry else path.name, usable_precision(precision, device)
    return load_depth(path, name, device, report, entry=entry, precision=precision)


def load_text_detector(
    name_or_path: str | os.PathLike[str],
    device: str | None = None,
    report: Report | None = None,
    *,
    download: bool = True,
) -> TextDetector:
    """Return a detector that finds what words name, ready to use.

    Parameters
    ----------
    name_or_path
        A name from the catalog ("grounding-dino-tiny"), or a folder with Grounding DINO or SAM 3 in transformers'
        format.
    device, report, download
        As in `load_segmenter`.

    Raises
    ------
    ModelError
        If there is no such model, or it cannot be had or loaded; the message says what to do.
    Cancelled
        If `report` raises it.
    """
    entry, path = _resolve(name_or_path, "text", report, download)
    assert path is not None
    name = entry.name if entry else path.name
    if entry is None and _model_type(path) in SAM3:
        from napari_samdepth.models.sam.sam3 import load_sam3

        return load_sam3(path, name, device, report)
    from napari_samdepth.models.text.grounding_dino import load_grounding_dino

    return load_grounding_dino(path, name, device, report)


def _resolve(
    name_or_path: str | os.PathLike[str], task: Task, report: Report | None, download: bool
) -> tuple[ModelEntry | None, Path | None]:
    """Return the catalog's entry, if a name was given, and the path of the files, unless they ship with the package."""
    text = os.fspath(name_or_path)
    if isinstance(name_or_path, str) and not _is_path(text):
        entry = find(text, task)
        if entry.ships:
            return entry, None
        return entry, _files_of(entry, report, download)
    path = Path(text).expanduser()
    check_path(path, task)
    return None, path


def check_path(path: Path, task: Task) -> None:
    """Look briefly whether a file or folder may hold a model for the task; loading looks closer.

    Raises
    ------
    ModelError
        If it is not there or not readable, a file where a folder is wanted, or the folder of another kind of model.
    """
    try:
        folder = stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            raise ModelError(f"{path} is a link to what is not there; check where it leads.") from error
        raise ModelError(f"There is no file or folder {path}; check the path.") from error
    except (OSError, ValueError) as error:
        raise ModelError(unreadable(path, error)) from error
    if folder:
        _check_folder(path, task)
    elif task != "segment":
        what = "depth model" if task == "depth" else "model that finds words"
        raise ModelError(f"{path} is a file; a {what} is given as a folder with config.json and its weights.")


def _is_path(text: str) -> bool:
    """Whether the user means a file or folder: it looks like one, or lies there and no model is called that."""
    named = any(entry.name == text for entry in entries())
    return _looks_like_path(text) or (bool(text) and not named and os.path.exists(text))


def _looks_like_path(text: str) -> bool:
    separators = [mark for mark in (os.sep, os.altsep, "/") if mark]
    if any(mark in text for mark in separators) or text.lower().endswith(_WEIGHT_SUFFIXES):
        return True
    return text.startswith("~")


def _files_of(entry: ModelEntry, report: Report | None, download: bool) -> Path:
    path = local_path(entry)
    if path is not None:
        return path
    if not download:
        raise ModelError(missing(entry))
    logger.info("Downloading %s (%.0f MB)", entry.name, entry.size / 1e6)
    return fetch_entry(entry, report=report)


def _check_folder(path: Path, task: Task) -> None:
    """Refuse a folder that is not a model for the task in transformers' format, or that brings code of its own."""
    kind = _model_type(path)
    if task == "segment" and kind not in SAM2:
        raise ModelError(f"{path} holds a {kind} model; a segmenter's folder must hold SAM 2, other SAMs are files.")
    if task == "text" and kind not in (*GROUNDING_DINO, *SAM3):
        raise ModelError(f"{path} holds a {kind} model; words are found by Grounding DINO or SAM 3.")


def _model_type(path: Path) -> str:
    """Return what kind of model a folder's configuration describes."""
    return str(read_configuration(path)["model_type"])
