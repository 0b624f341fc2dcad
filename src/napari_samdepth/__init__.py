"""Click to segment, one button for depth, and a depth readout for every label, in napari.

The public names are loaded on first use: importing this package loads neither torch nor Qt nor napari.
Points are (row, col), boxes (row_min, col_min, row_max, col_max), arrays (H, W) or (H, W, 3).
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # typing takes a moment to import, in which Ctrl+C on the command line could not be answered
if TYPE_CHECKING:
    from typing import Any

    from napari_samdepth.core.candidates import Candidates, MaskInput
    from napari_samdepth.core.depthmap import DepthMap
    from napari_samdepth.core.detections import Detections
    from napari_samdepth.core.embedding import Embedding
    from napari_samdepth.core.errors import Cancelled, LayerError, ModelError, UserError
    from napari_samdepth.core.maskset import MaskSet
    from napari_samdepth.core.prompts import Prompts
    from napari_samdepth.measure.calibration import calibrate
    from napari_samdepth.measure.readout import depth_readout
    from napari_samdepth.models.auto_masks.everything import segment_everything
    from napari_samdepth.models.loading import load_depth_estimator, load_segmenter, load_text_detector
    from napari_samdepth.models.protocols import DepthEstimator, Segmenter, TextDetector
    from napari_samdepth.models.registry import register_model
    from napari_samdepth.models.spec import ModelSpec
    from napari_samdepth.models.text.grounding_dino import find_text, segment_boxes
    from napari_samdepth.session.session import AnnotationSession, session_of
    from napari_samdepth.storage.journal import recoverable

    __version__: str

_HOMES = {
    "AnnotationSession": "session.session",
    "Cancelled": "core.errors",
    "Candidates": "core.candidates",
    "DepthEstimator": "models.protocols",
    "DepthMap": "core.depthmap",
    "Detections": "core.detections",
    "Embedding": "core.embedding",
    "LayerError": "core.errors",
    "MaskInput": "core.candidates",
    "MaskSet": "core.maskset",
    "ModelError": "core.errors",
    "ModelSpec": "models.spec",
    "Prompts": "core.prompts",
    "Segmenter": "models.protocols",
    "TextDetector": "models.protocols",
    "UserError": "core.errors",
    "calibrate": "measure.calibration",
    "depth_readout": "measure.readout",
    "find_text": "models.text.grounding_dino",
    "load_depth_estimator": "models.loading",
    "load_segmenter": "models.loading",
    "load_text_detector": "models.loading",
    "recoverable": "storage.journal",
    "register_model": "models.registry",
    "segment_boxes": "models.text.grounding_dino",
    "segment_everything": "models.auto_masks.everything",
    "session_of": "session.session",
}

__all__ = [
    "AnnotationSession",
    "Cancelled",
    "Candidates",
    "DepthEstimator",
    "DepthMap",
    "Detections",
    "Embedding",
    "LayerError",
    "MaskInput",
    "MaskSet",
    "ModelError",
    "ModelSpec",
    "Prompts",
    "Segmenter",
    "TextDetector",
    "UserError",
    "__version__",
    "calibrate",
    "depth_readout",
    "find_text",
    "load_depth_estimator",
    "load_segmenter",
    "load_text_detector",
    "recoverable",
    "register_model",
    "segment_boxes",
    "segment_everything",
    "session_of",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home and keep it."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("napari-samdepth")
    elif name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__})
