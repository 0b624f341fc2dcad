"""Names and paths to models that are ready to use."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from napari_samdepth.core.errors import Cancelled, ModelError, UserError
from napari_samdepth.models.formats import spec_of
from napari_samdepth.models.prompting import with_translation
from napari_samdepth.models.protocols import DepthEstimator, Report, Segmenter, TextDetector
from napari_samdepth.models.registry import find, is_path
from napari_samdepth.models.runtime.device import Precision, first_line, usable_precision
from napari_samdepth.models.spec import OURS, LoadRequest, ModelSpec, Task
from napari_samdepth.models.weights.store import fetch_spec, local_path, missing

logger = logging.getLogger(__name__)


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
    spec, model = _load(name_or_path, "segment", device, report, download, precision)
    segmenter: Segmenter = _checked(model, Segmenter, spec)
    return with_translation(segmenter, spec.prompt_kinds)


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
    spec, model = _load(name_or_path, "depth", device, report, download, precision)
    estimator: DepthEstimator = _checked(model, DepthEstimator, spec)
    return estimator


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
    spec, model = _load(name_or_path, "text", device, report, download, "float32")
    detector: TextDetector = _checked(model, TextDetector, spec)
    return detector


def _load(
    name_or_path: str | os.PathLike[str],
    task: Task,
    device: str | None,
    report: Report | None,
    download: bool,
    precision: Precision,
) -> tuple[ModelSpec, Any]:
    """Return what is known of the model, and the model."""
    text = os.fspath(name_or_path)
    path: Path | None
    if isinstance(name_or_path, str) and not is_path(text):
        spec = find(text, task)
        path = None if spec.ships else _files_of(spec, report, download)
    else:
        path = Path(text).expanduser()
        spec = spec_of(path, task)
    usable: Precision = usable_precision(precision, device) if precision in spec.precisions else "float32"
    request = LoadRequest(spec, path, device, report, usable)
    if spec.package == OURS:
        return spec, spec.load(request)
    try:
        return spec, spec.load(request)
    except (UserError, Cancelled):
        raise
    except Exception as error:
        logger.exception("%s of %s cannot be loaded", spec.name, spec.package)
        raise ModelError(
            f"{spec.name} of {spec.package} cannot be loaded ({first_line(error)}); ask those who made it."
        ) from error


def _checked(model: Any, protocol: Any, spec: ModelSpec) -> Any:
    """Return a model that keeps the protocol of its task. Raises ModelError where another package's does not."""
    if spec.package != OURS and not isinstance(model, protocol):
        raise ModelError(
            f"{spec.name} of {spec.package} gave a {type(model).__name__}, which is no {protocol.__name__}; "
            "ask those who made it."
        )
    return model


def _files_of(spec: ModelSpec, report: Report | None, download: bool) -> Path:
    path = local_path(spec)
    if path is not None:
        return path
    if not download:
        raise ModelError(missing(spec))
    logger.info("Downloading %s (%.0f MB)", spec.name, spec.size / 1e6)
    return fetch_spec(spec, report=report)
