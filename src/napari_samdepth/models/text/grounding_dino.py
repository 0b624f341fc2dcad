"""Words to boxes: Grounding DINO (Liu et al., "Grounding DINO", 2023) through transformers.

Boxes and scores are those of transformers' own post-processing. The name of a box is the whole phrase whose words it
fits best, where transformers strings single word pieces together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.coords import box_from_xyxy
from napari_samdepth.core.detections import Detections, detections, phrases
from napari_samdepth.core.embedding import Embedding
from napari_samdepth.core.errors import ModelError
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.models.inputs import checked_rgb, silent
from napari_samdepth.models.protocols import Report, Segmenter, TextDetector
from napari_samdepth.models.runtime.device import Device, enough_memory, torch_module
from napari_samdepth.models.runtime.torch_model import TorchModel
from napari_samdepth.models.weights.pretrained import load_folder, load_processor, telling_blocks

D = TypeVar("D", bound="FolderDetector")
THRESHOLD = 0.25
"""Score above which transformers keeps a box unless told otherwise."""


def find_text(
    detector: TextDetector,
    rgb: NDArray[np.uint8],
    text: str,
    threshold: float = THRESHOLD,
    report: Report | None = None,
) -> Detections:
    """Return what words name in an image.

    Parameters
    ----------
    detector
        From `load_text_detector`.
    rgb
        uint8 (H, W, 3).
    text
        One or more phrases with a full stop after each: "nucleus. coin."
    threshold
        Score above which an object is kept, 0 to 1. `Detections.above` applies a higher one later, without the model.
    report
        Told how far it is.

    Raises
    ------
    ModelError
        If the text names nothing or is too long, or the image has another form.
    Cancelled
        If `report` raises it.
    """
    return detector.detect(rgb, text, threshold, report)


def segment_boxes(
    segmenter: Segmenter,
    embedding: Embedding,
    boxes: Sequence[Sequence[float]] | NDArray[np.float64],
    report: Report | None = None,
) -> list[tuple[Patch, float]]:
    """Return a mask of each box, kept inside the box that it can touch, and its predicted IoU.

    Parameters
    ----------
    segmenter, embedding
        Who makes the masks, of which image.
    boxes
        n times (row_min, col_min, row_max, col_max) in pixels, the first pixel's centre at 0. Those of `Detections`
        count from its edge: take 0.5 off.
    report
        Told before each box how far it is.

    Raises
    ------
    ModelError
        If the embedding is another model's.
    Cancelled
        If `report` raises it.
    """
    tell, masks = report or silent, []
    for at, box in enumerate(boxes):
        tell(at / len(boxes), f"making mask {at + 1} of {len(boxes)}")
        candidates = segmenter.decode(embedding, Prompts(box=box))
        masks.append((candidates.patch(), float(candidates.scores[candidates.best])))
    return masks


def asked(text: str) -> tuple[str, ...]:
    """Return the phrases of a text. Raises ModelError where there are none."""
    try:
        return phrases(text)
    except ValueError as error:
        raise ModelError(str(error)) from error


def load_grounding_dino(
    path: Path, name: str = "", device: str | None = None, report: Report | None = None
) -> GroundingDino:
    """Return a detector from a folder with Grounding DINO in transformers' format.

    Parameters
    ----------
    path
        The folder: configuration, weights, image processor and tokenizer.
    name
        What the user calls it; the folder's name if empty.
    device
        As in `choose_device`.
    report
        Told how far loading is.

    Raises
    ------
    ModelError
        If the folder cannot be loaded.
    Cancelled
        If `report` raises it.
    """
    return load_detector(
        path, name, device, report, "AutoModelForZeroShotObjectDetection", "GroundingDinoProcessor", GroundingDino
    )


def load_detector(
    path: Path,
    name: str,
    device: str | None,
    report: Report | None,
    network: str,
    processor: str,
    adapter: Callable[[Any, Any, str, str, Device], D],
) -> D:
    """Return a detector: the network and the processor of a folder, by their class names, in their adapter."""

    def adapted(model: Any, called: str, weights: str, cpu: Device) -> D:
        return adapter(model, load_processor(path, processor), called, f"text:{weights}", cpu)

    return load_folder(path, name, device, report, network, adapted)


class FolderDetector(TorchModel):
    """A network that finds words, with its processor.

    Parameters
    ----------
    model, processor
        Network (in eval mode, on the CPU) and processor of transformers.
    name
        What the user calls it.
    identity
        Of the weights.
    device
        Where to run.
    """

    def __init__(self, model: Any, processor: Any, name: str, identity: str, device: Device) -> None:
        super().__init__(model, name, identity, device)
        self._processor = processor


class GroundingDino(FolderDetector):
    """Grounding DINO behind the `TextDetector` protocol."""

    @enough_memory("finding words")
    def detect(
        self, rgb: NDArray[np.uint8], text: str, floor: float = THRESHOLD, report: Report | None = None
    ) -> Detections:
        """Return what `text` names in `rgb`, uint8 (H, W, 3), scored above `floor`, the surest first.

        Raises
        ------
        ModelError
            If the text names nothing or is too long, or the image has another form.
        Cancelled
            If `report`, which is told before each block of the network how far it is, raises it.
        """
        image, wanted = checked_rgb(rgb), asked(text)
        tell = report or silent
        boxes, scores, tokens = self._with_fallback("finding words", lambda: self._run(image, wanted, floor, tell))
        names = [wanted[index] for index in tokens.argmax(1)] if len(tokens) else []
        tell(1.0, "found")
        return detections(boxes, scores, names, (image.shape[0], image.shape[1]))

    def _run(
        self, image: NDArray[np.uint8], wanted: tuple[str, ...], floor: float, tell: Report
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
        """Return boxes (n, 4) (row, col), scores (n,), and how well each box fits each phrase (n, phrases)."""
        from PIL import Image

        torch = torch_module()
        # a full stop ends each phrase: by these the network keeps the phrases apart
        inputs = self._processor(images=Image.fromarray(image), text=". ".join(wanted) + ".", return_tensors="pt")
        self._check_length(inputs["input_ids"].shape[1])
        inputs = inputs.to(self._network.device)
        with torch.inference_mode(), telling_blocks(self._network, tell, "finding words"):
            outputs = self._network(**inputs)
            (found,) = self._processor.post_process_grounded_object_detection(
                outputs, inputs["input_ids"], floor, floor, [image.shape[:2]]
            )
            fits = outputs.logits[0].sigmoid()
            self._check_finite(fits, outputs.pred_boxes)
            fits = fits[fits.max(-1).values > floor]
        shares = self._by_phrase(fits.float().cpu().numpy(), inputs["input_ids"][0].tolist(), len(wanted))
        boxes = box_from_xyxy(found["boxes"].cpu().numpy()).reshape(-1, 4)
        return boxes, found["scores"].cpu().numpy().astype(np.float64), shares

    def _by_phrase(self, fits: NDArray[np.float32], tokens: list[int], count: int) -> NDArray[np.float32]:
        """Return the best fit among each phrase's tokens; phrases end at full stops."""
        tokenizer = self._processor.tokenizer
        stop = tokenizer.convert_tokens_to_ids(".")
        best = np.zeros((len(fits), count), dtype=np.float32)
        phrase = 0
        for at, token in enumerate(tokens):
            if token == stop:
                phrase += 1
            elif token not in tokenizer.all_special_ids and phrase < count:
                best[:, phrase] = np.maximum(best[:, phrase], fits[:, at])
        return best

    def _check_length(self, tokens: int) -> None:
        longest = int(self._network.config.max_text_len)
        if tokens > longest:
            raise ModelError(f"The text is too long ({tokens} word pieces, at most {longest}); ask for fewer names.")
