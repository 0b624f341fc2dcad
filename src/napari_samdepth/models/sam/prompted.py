"""Networks of Segment Anything's form, whatever their image encoder: prompts in, masks out, many clicks at once.

SAM's own adapter and the built-in one differ in how they encode an image and in which part of it the network sees; how
its prompt encoder and mask decoder are asked is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.embedding import Embedding
from napari_samdepth.core.prompts import PromptKind, Prompts
from napari_samdepth.core.resample import Frame
from napari_samdepth.models.runtime.device import Device, enough_memory, torch_module
from napari_samdepth.models.runtime.torch_model import TorchModel
from napari_samdepth.models.sam.mask_decoder import MaskDecoder


@dataclass(frozen=True, eq=False)
class Sight:
    """An image, or a part of it, as the network sees it.

    Attributes
    ----------
    frame
        How low-resolution logits cover it.
    place
        Turns (n, 2) (row, col) in image pixels into (n, 2) (x, y) in the network's input, float64.
    features
        Gives what the image encoder made of it, (1, C, h, w).
    """

    frame: Frame
    place: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    features: Callable[[], Any]


class PromptedNetwork(TorchModel, ABC):
    """A network with `image_encoder`, `prompt_encoder` and `mask_decoder`, as segment_anything's Sam has them."""

    prompt_kinds: frozenset[PromptKind] = frozenset({"points", "box", "mask"})

    def __init__(self, sam: Any, name: str, identity: str, device: Device) -> None:
        """Take over `sam` as `TorchModel` does."""
        super().__init__(sam, name, identity, device)
        self._decoder = MaskDecoder(sam)

    @abstractmethod
    def _sight(self, embedding: Embedding) -> Sight:
        """Return how the network sees the whole image."""

    def _moved(self) -> None:
        self._decoder = MaskDecoder(self._network)

    @enough_memory("decoding masks")
    def point_masks(
        self, embedding: Embedding, points: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], Frame]:
        """Decode many single foreground clicks at once in the whole image, each by itself.

        Parameters
        ----------
        embedding
            Of this model.
        points
            (n, 2) (row, col) in image pixels.

        Returns
        -------
        Logits (n, 3, h, w) float32, predicted IoU (n, 3), and how the logits cover the image.
        """
        sight = self._sight(embedding)

        def run() -> tuple[Any, Any]:
            with torch_module().inference_mode():
                return self._decoder.masks(sight.features(), self._clicks(sight, points), None, None, True)

        logits, scores = self._with_fallback("decoding", run)
        self._check_finite(scores)
        return logits.cpu().numpy(), scores.cpu().numpy().astype(np.float64), sight.frame

    def masks_above(
        self, embedding: Embedding, points: NDArray[np.float64], threshold: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.intp], Frame]:
        """Decode many single foreground clicks as `point_masks` does, sooner, and keep the masks that promise enough.

        Logits differ from those of `point_masks` in rounding.

        Parameters
        ----------
        embedding
            Of this model.
        points
            (n, 2) (row, col) in image pixels.
        threshold
            Masks with a predicted IoU above this are kept.

        Returns
        -------
        Logits (k, h, w) float32, predicted IoU (k,), the index of each mask's click (k,), and how the logits cover the
        image.
        """
        sight = self._sight(embedding)

        def run() -> tuple[Any, Any, Any]:
            with torch_module().inference_mode():
                clicks = self._clicks(sight, points)
                return self._decoder.masks_above(embedding, sight.features, clicks, threshold)

        logits, scores, clicks = (part.cpu().numpy() for part in self._with_fallback("decoding", run))
        return logits, scores.astype(np.float64), clicks.astype(np.intp), sight.frame

    def _clicks(self, sight: Sight, points: NDArray[np.float64]) -> tuple[Any, Any]:
        """Return single foreground clicks as the prompt encoder wants them: (n, 1, 2) (x, y) and labels (n, 1)."""
        torch, device = torch_module(), self._network.device
        xy = torch.tensor(sight.place(points), dtype=torch.float, device=device)
        return xy[:, None], torch.ones((len(points), 1), dtype=torch.int, device=device)

    def _points_and_box(self, sight: Sight, prompts: Prompts) -> tuple[Any, Any]:
        """Return one object's prompts as the prompt encoder wants them: points with labels, and a box, None if none."""
        torch, device = torch_module(), self._network.device
        points = box = None
        if len(prompts.points):
            xy = torch.tensor(sight.place(prompts.points), dtype=torch.float, device=device)
            points = xy[None], torch.tensor(prompts.labels, dtype=torch.int, device=device)[None]
        if prompts.box is not None:
            corners = sight.place(prompts.box.reshape(2, 2)).reshape(1, 4)
            box = torch.tensor(corners, dtype=torch.float, device=device)
        return points, box
