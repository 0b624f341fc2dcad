"""What the rest of the package knows of neural networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.candidates import Candidates
from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.core.detections import Detections
from napari_samdepth.core.embedding import Embedding
from napari_samdepth.core.prompts import Prompts

Report = Callable[[float, str], None]
"""Called with the fraction done (0-1) and what is being done; it may raise `Cancelled` to stop the work."""


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
class Closable(Protocol):
    """A model whose memory can be let go of; all of ours are, other packages' may be."""

    @property
    def nbytes(self) -> int:
        """Bytes of its weights in memory, 0 once it is closed."""

    def close(self) -> None:
        """Let go of its memory; whoever uses it afterwards gets a ModelError."""


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
        """Return the depth of `rgb`, uint8 (H, W, 3), at its size, and its upsampling. Raises ModelError, Cancelled."""


@runtime_checkable
class TextDetector(LoadedModel, Protocol):
    """Finds what words name."""

    def detect(self, rgb: NDArray[np.uint8], text: str, floor: float, report: Report | None = None) -> Detections:
        """Return what `text` names in `rgb`, uint8 (H, W, 3), scored above `floor`. Raises ModelError, Cancelled."""
