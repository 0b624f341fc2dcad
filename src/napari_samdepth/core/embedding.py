"""What a segmenter remembers of an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray


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
