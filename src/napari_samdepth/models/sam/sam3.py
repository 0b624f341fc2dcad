"""SAM 3 (Carion et al., "SAM 3: Segment Anything with Concepts", 2025) through transformers: words straight to masks.

Boxes, scores and masks are those of transformers' own post-processing; the picture is looked at once for all phrases.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.candidates import patch_above
from napari_samdepth.core.coords import box_from_xyxy
from napari_samdepth.core.detections import Detections, detections
from napari_samdepth.core.errors import ModelError
from napari_samdepth.core.resample import Frame
from napari_samdepth.models.inputs import checked_rgb, silent
from napari_samdepth.models.protocols import Report
from napari_samdepth.models.runtime.device import enough_memory, torch_module
from napari_samdepth.models.text.grounding_dino import THRESHOLD, FolderDetector, asked, load_detector
from napari_samdepth.models.weights.pretrained import telling_blocks

MASK_PROBABILITY = 0.5
WORD_PIECES = 32
"""Most word pieces of one phrase, start and end included; the processor pads to as many."""


def load_sam3(path: Path, name: str = "", device: str | None = None, report: Report | None = None) -> Sam3Detector:
    """Return a detector from a folder with SAM 3 in transformers' format.

    Parameters and errors are those of `load_grounding_dino`.
    """
    return load_detector(path, name, device, report, "Sam3Model", "Sam3Processor", Sam3Detector)


class Sam3Detector(FolderDetector):
    """SAM 3 (``Sam3Model`` and ``Sam3Processor``) behind the `TextDetector` protocol; its detections have masks."""

    @enough_memory("finding words")
    def detect(
        self, rgb: NDArray[np.uint8], text: str, floor: float = THRESHOLD, report: Report | None = None
    ) -> Detections:
        """Return what `text` names in `rgb`, uint8 (H, W, 3), scored above `floor`, the surest first, with masks.

        Raises
        ------
        ModelError
            If the text names nothing or a phrase is too long, or the image has another form.
        Cancelled
            If `report`, which is told before each block of the encoder and before each phrase, raises it.
        """
        image, wanted = checked_rgb(rgb), asked(text)
        tell = report or silent
        found = self._with_fallback("finding words", lambda: self._run(image, wanted, floor, tell))
        shape = (image.shape[0], image.shape[1])
        names = [name for name, part in zip(wanted, found, strict=True) for _ in part[1]]
        patches = [
            patch_above(mask, Frame.whole(shape, (mask.shape[0], mask.shape[1])), MASK_PROBABILITY)
            for part in found
            for mask in part[2]
        ]
        tell(1.0, "found")
        boxes, scores = (np.concatenate([part[at] for part in found]) for at in (0, 1))
        return detections(boxes, scores, names, shape, patches)

    def _run(
        self, image: NDArray[np.uint8], wanted: tuple[str, ...], floor: float, tell: Report
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]]:
        """Return for each phrase boxes (n, 4) (row, col), scores (n,) and low-resolution mask probabilities."""
        from PIL import Image

        torch = torch_module()
        network = self._network
        pixels = self._processor(images=Image.fromarray(image), return_tensors="pt")["pixel_values"]
        found = []
        with torch.inference_mode():
            with telling_blocks(network.vision_encoder, lambda part, what: tell(0.8 * part, what), "finding words"):
                vision = network.get_vision_features(pixels.to(network.device))
            for at, phrase in enumerate(wanted):
                tell(0.8 + 0.2 * at / len(wanted), f"finding “{phrase}”")
                outputs = network(vision_embeds=vision, **self._words(phrase).to(network.device))
                found.append(self._objects(outputs, floor, (image.shape[0], image.shape[1])))
        return found

    def _words(self, phrase: str) -> Any:
        words = self._processor(text=phrase, return_tensors="pt")
        if words["input_ids"].shape[1] > WORD_PIECES:
            raise ModelError(f"“{phrase}” is too long ({WORD_PIECES} word pieces at most); ask for fewer words.")
        return words

    def _objects(
        self, outputs: Any, floor: float, shape: tuple[int, int]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
        scores = outputs.pred_logits[0].float().sigmoid()
        if outputs.presence_logits is not None:
            scores = scores * outputs.presence_logits[0].float().sigmoid()
        self._check_finite(scores)
        keep = scores > floor
        height, width = shape
        boxes = box_from_xyxy(outputs.pred_boxes[0][keep].double().cpu().numpy()).reshape(-1, 4)
        masks = outputs.pred_masks[0][keep].float().sigmoid().cpu().numpy()
        return boxes * [height, width, height, width], scores[keep].double().cpu().numpy(), masks
