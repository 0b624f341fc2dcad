"""What the rest of the package knows of neural networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.candidates import Candidates
from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.core.detections import Detections
from napari_samdepth.core.prompts import Prompts

Report = Callable[[float, str], None]
"""Called with the fraction done (0-1) and what is being done; it may raise `Cancelled` to stop the work."""


class Cancelled(Exception):
    """Raised by a `Report` when the user no longer wants the result."""


class ModelError(Exception):
    """A model cannot be loaded or run; the message is one sentence that says what is wrong and what to do."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """What a segmenter remembers of an image: encode once, decode many times.

    Attributes
    ----------
    features
        Named arrays, as the segmenter that made them defines them; for SAM ``{"image": (256, 64, 64)}`` float32.
    image_shape
        (H, W) of the encoded image.
    input_size
        (rows, cols) of the resized image in the model's input, without padding.
    model
        Identity of the model and its weights; a segmenter refuses embeddings of another.
    local
        Handles that live only in this process (tensors on a device); never stored, may be empty.
    """

    features: Mapping[str, NDArray[Any]]
    image_shape: tuple[int, int]
    input_size: tuple[int, int]
    model: str
    local: Mapping[str, Any] = field(default_factory=dict, repr=False)


@runtime_checkable
class LoadedModel(Protocol):
    """A network that is ready to run: what it is called, and where it runs."""

    @property
    def name(self) -> str:
        """Catalog name, or name of the file or folder."""

    @property
    def device(self) -> str:
        """Torch device in use: "cpu", "cuda", "mps"."""

    @property
    def device_reason(self) -> str:
        """One sentence: why this device."""


@runtime_checkable
class Segmenter(LoadedModel, Protocol):
    """A promptable segmenter."""

    @property
    def model(self) -> str:
        """Identity of the model and its weights, as in `Embedding.model`."""

    def encode(self, rgb: NDArray[np.uint8], report: Report | None = None) -> Embedding:
        """Return the embedding of `rgb`, uint8 (H, W, 3). Raises ModelError, Cancelled."""

    def decode(self, embedding: Embedding, prompts: Prompts, multimask: bool | None = None) -> Candidates:
        """Return masks for the prompts; three for one ambiguous point unless `multimask` says otherwise, else one."""


@runtime_checkable
class DepthEstimator(LoadedModel, Protocol):
    """A monocular depth estimator."""

    def estimate(self, rgb: NDArray[np.uint8], report: Report | None = None) -> DepthMap:
        """Return the depth of `rgb`, uint8 (H, W, 3), at its size. Raises ModelError, Cancelled."""


@runtime_checkable
class TextDetector(LoadedModel, Protocol):
    """Finds what words name."""

    def detect(self, rgb: NDArray[np.uint8], text: str, floor: float, report: Report | None = None) -> Detections:
        """Return what `text` names in `rgb`, uint8 (H, W, 3), scored above `floor`. Raises ModelError, Cancelled."""
