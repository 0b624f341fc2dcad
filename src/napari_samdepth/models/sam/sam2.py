"""SAM 2 and 2.1 (Ravi et al., "SAM 2", 2024) through transformers, behind the `Segmenter` protocol.

The picture is stretched over the square input, without padding, and masks are stretched back, as the processor of
transformers does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.candidates import Candidates, MaskInput, Patch
from napari_samdepth.core.coords import points_to_xy
from napari_samdepth.core.embedding import Embedding
from napari_samdepth.core.prompts import PromptKind, Prompts
from napari_samdepth.core.resample import Frame, mask_to_logits
from napari_samdepth.models.inputs import check_mask, checked_rgb, frozen, silent
from napari_samdepth.models.prompting import translated
from napari_samdepth.models.protocols import Report
from napari_samdepth.models.runtime.device import Device, enough_memory, torch_module
from napari_samdepth.models.runtime.torch_model import TorchModel
from napari_samdepth.models.weights.pretrained import load_folder, load_processor, telling_blocks

LEVELS = ("fine", "middle", "image")
"""Names of an embedding's features, from the finest (a quarter of the input) to the coarsest (a sixteenth)."""


def load_sam2(path: Path, name: str = "", device: str | None = None, report: Report | None = None) -> Sam2Segmenter:
    """Return a segmenter from a folder with SAM 2 in transformers' format.

    Parameters
    ----------
    path
        The folder.
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

    def adapted(model: Any, called: str, weights: str, cpu: Device) -> Sam2Segmenter:
        return Sam2Segmenter(model, _processor(path, model), called, f"sam2:{weights}", cpu)

    return load_folder(path, name, device, report, "Sam2Model", adapted)


def _processor(path: Path, model: Any) -> Any:
    """Return the folder's image processor, or the standard one for the network's input if the folder has none."""
    if (path / "preprocessor_config.json").is_file() or (path / "processor_config.json").is_file():
        return load_processor(path, "Sam2Processor").image_processor
    from transformers import Sam2ImageProcessor

    side = int(model.config.prompt_encoder_config.image_size)
    return Sam2ImageProcessor(size={"height": side, "width": side})


class Sam2Segmenter(TorchModel):
    """SAM 2 behind the `Segmenter` protocol.

    Parameters
    ----------
    model, processor
        ``Sam2Model`` (in eval mode, on the CPU) and ``Sam2ImageProcessor`` of transformers.
    name
        What the user calls it.
    identity
        Identity of the weights; part of every embedding.
    device
        Where to run.
    """

    prompt_kinds: frozenset[PromptKind] = frozenset({"points", "box", "mask"})

    def __init__(self, model: Any, processor: Any, name: str, identity: str, device: Device) -> None:
        super().__init__(model, name, identity, device)
        self._processor = processor
        self._side = int(model.config.prompt_encoder_config.image_size)

    @enough_memory("encoding an image")
    def encode(self, rgb: NDArray[np.uint8], report: Report | None = None) -> Embedding:
        """Return the embedding of `rgb`, uint8 (H, W, 3): three feature maps (channels, h, w) float32, see `LEVELS`.

        Raises
        ------
        ModelError
            If the image has another form.
        Cancelled
            If `report`, which is told before each block how far encoding is, raises it.
        """
        image = checked_rgb(rgb)
        tell = report or silent
        maps = self._with_fallback("encoding", lambda: self._encode(image, tell))
        self._check_finite(*maps)
        tell(1.0, "encoded")
        return Embedding(
            features={name: frozen(part[0].cpu().numpy()) for name, part in zip(LEVELS, maps, strict=True)},
            image_shape=(image.shape[0], image.shape[1]),
            input_size=(self._side, self._side),
            model=self._identity,
            local=dict(zip(LEVELS, maps, strict=True)),
        )

    @enough_memory("decoding masks")
    def decode(self, embedding: Embedding, prompts: Prompts, multimask: bool | None = None) -> Candidates:
        """Return masks for the prompts, as `Segmenter.decode` says.

        Raises
        ------
        ModelError
            If the embedding is another model's, or the prompts' mask has not the shape of this model's logits.
        """
        self._check_own(embedding)
        prompts = translated(
            prompts,
            self.prompt_kinds,
            embedding.image_shape,
            lambda region: self.mask_input(embedding, region),
            lambda first, several: self.decode(embedding, first, several),
        )
        several = prompts.ambiguous if multimask is None else multimask
        check_mask(prompts, tuple(self._network.prompt_encoder.mask_input_size))
        logits, scores = self._with_fallback("decoding", lambda: self._decode(embedding, prompts, several))
        self._check_finite(logits, scores)
        low: NDArray[np.float32] = frozen(logits[0, 0].float().cpu().numpy())
        return Candidates(
            logits=low,
            scores=scores[0, 0].cpu().numpy().astype(np.float64),
            frame=Frame.whole(embedding.image_shape, (low.shape[1], low.shape[2])),
        )

    def mask_input(self, embedding: Embedding, mask: Patch) -> MaskInput:
        """Return the logits to feed for a mask at image resolution."""
        height, width = self._network.prompt_encoder.mask_input_size
        frame = Frame.whole(embedding.image_shape, (height, width))
        return MaskInput(mask_to_logits(mask.full(embedding.image_shape), frame, (height, width)))

    @enough_memory("decoding masks")
    def point_masks(
        self, embedding: Embedding, points: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], Frame]:
        """Decode many single foreground clicks at once, each by itself.

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
        torch = torch_module()
        xy = self._placed(points, embedding.image_shape)[None, :, None]
        prompts = {"input_points": xy, "input_labels": torch.ones(xy.shape[:3], dtype=torch.int64)}
        logits, scores = self._with_fallback("decoding", lambda: self._run_decoder(embedding, prompts, True))
        self._check_finite(scores)
        low: NDArray[np.float32] = logits[0].float().cpu().numpy()
        return low, scores[0].cpu().numpy().astype(np.float64), Frame.whole(embedding.image_shape, low.shape[2:])

    def _encode(self, image: NDArray[np.uint8], tell: Report) -> list[Any]:
        from PIL import Image

        torch = torch_module()
        pixels = self._processor(images=Image.fromarray(image), return_tensors="pt")["pixel_values"]
        with torch.inference_mode(), telling_blocks(self._network.vision_encoder, tell, "encoding"):
            maps = self._network.get_image_embeddings(pixels.to(self._network.device))
        return list(maps)

    def _decode(self, embedding: Embedding, prompts: Prompts, several: bool) -> tuple[Any, Any]:
        return self._run_decoder(embedding, self._tensors(embedding, prompts), several)

    def _run_decoder(self, embedding: Embedding, prompts: dict[str, Any], several: bool) -> tuple[Any, Any]:
        torch = torch_module()
        device = self._network.device
        with torch.inference_mode():
            outputs = self._network(
                image_embeddings=[self._level(embedding, name).to(device) for name in LEVELS],
                multimask_output=several,
                **{name: value.to(device) for name, value in prompts.items()},
            )
        return outputs.pred_masks, outputs.iou_scores

    def _level(self, embedding: Embedding, name: str) -> Any:
        there = embedding.local.get(name)
        return there if there is not None else torch_module().tensor(embedding.features[name])[None]

    def _tensors(self, embedding: Embedding, prompts: Prompts) -> dict[str, Any]:
        """Return the prompts as the network's arguments: one image, one object."""
        torch, shape = torch_module(), embedding.image_shape
        found: dict[str, Any] = {}
        if len(prompts.points):
            found["input_points"] = self._placed(prompts.points, shape)[None, None]
            found["input_labels"] = torch.tensor(prompts.labels)[None, None]
        if prompts.box is not None:
            found["input_boxes"] = self._placed(prompts.box.reshape(2, 2), shape).reshape(1, 1, 4)
        if prompts.mask is not None:
            found["input_masks"] = torch.tensor(prompts.mask)[None, None]
        return found

    def _placed(self, points: NDArray[np.float64], image_shape: tuple[int, int]) -> Any:
        """Return (n, 2) (row, col) in image pixels as (x, y) in the network's input, a float32 tensor."""
        torch = torch_module()
        height, width = image_shape
        scale = torch.tensor([self._side / width, self._side / height])
        return torch.tensor(points_to_xy(points), dtype=torch.float32) * scale
