"""Segment Anything (Kirillov et al., ICCV 2023) behind the `Segmenter` protocol.

What `SamPredictor` computes is computed here, in the same order of operations, except that masks stay at low
resolution: `Candidates` upsamples the chosen one inside the box that it can touch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.candidates import Candidates, MaskInput, Patch
from napari_samdepth.core.coords import points_to_xy
from napari_samdepth.core.embedding import Embedding
from napari_samdepth.core.errors import ModelError
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.core.resample import Frame, mask_to_logits
from napari_samdepth.models.inputs import check_mask, checked_rgb, frozen, silent
from napari_samdepth.models.prompting import translated
from napari_samdepth.models.protocols import Report
from napari_samdepth.models.runtime.device import Device, Precision, choose_device, enough_memory, torch_module
from napari_samdepth.models.runtime.torch_model import ready
from napari_samdepth.models.sam.checkpoint import architecture_of, build_sam
from napari_samdepth.models.sam.prompted import PromptedNetwork, Sight
from napari_samdepth.models.weights.checkpoint import fingerprint, read_weights

Attention = Literal["chunked", "stock"]


def load_sam(
    path: Path,
    name: str = "",
    device: str | None = None,
    report: Report | None = None,
    *,
    architecture: str = "",
    attention: Attention = "chunked",
    precision: Precision = "float32",
) -> SamSegmenter:
    """Return a segmenter with the weights of a checkpoint.

    Parameters
    ----------
    path
        A file with weights of ViT-B, ViT-L or ViT-H; which one is read from the weights.
    name
        What the user calls it; the file's name if empty.
    device
        As in `choose_device`.
    report
        Told how far loading is.
    architecture
        What the weights must be, or "" for any.
    attention, precision
        As in `SamSegmenter`.

    Raises
    ------
    ModelError
        If the file cannot be read or does not fit.
    Cancelled
        If `report` raises it.
    """
    tell = report or silent
    chosen = choose_device(device)
    tell(0.0, f"reading {path.name}")
    weights = read_weights(path)
    found = architecture_of(weights, path)
    if architecture and found != architecture:
        raise ModelError(f"{path} holds {found}, not {architecture}; choose the checkpoint of {architecture}.")
    tell(0.3, f"building {found}")
    sam = build_sam(found, weights, path)
    del weights
    tell(0.7, f"checking {path.name}")
    identity = f"{found}:{fingerprint(path)}"
    segmenter = SamSegmenter(
        sam, name or path.name, identity, Device("cpu", chosen.reason), attention=attention, precision=precision
    )
    return ready(segmenter, chosen, tell)


class SamSegmenter(PromptedNetwork):
    """A `segment_anything` Sam behind the `Segmenter` protocol.

    Parameters
    ----------
    sam
        The network, in eval mode, on `device`.
    name
        What the user calls it.
    model
        Identity of network and weights; part of every embedding.
    device
        Where the network is.
    attention
        "chunked" computes the image encoder's attention in pieces (see `models.attention`), which is faster, needs far
        less memory and differs from "stock" only in rounding.
    precision
        "bfloat16" runs the image encoder in bfloat16; faster where `bfloat16_gains()`, and coarser. Clicks are decoded
        in float32 all the same: in bfloat16 one mask in fifty would change sides at a threshold.
    """

    def __init__(
        self,
        sam: Any,
        name: str,
        model: str,
        device: Device,
        *,
        attention: Attention = "chunked",
        precision: Precision = "float32",
    ) -> None:
        super().__init__(sam, name, model if precision == "float32" else f"{model}:{precision}", device)
        self._precision: Precision = precision
        self._attention: Attention = attention

    @enough_memory("encoding an image")
    def encode(self, rgb: NDArray[np.uint8], report: Report | None = None) -> Embedding:
        """Return the embedding of an image.

        Parameters
        ----------
        rgb
            uint8 (H, W, 3).
        report
            Told before each block of the encoder how far it is.

        Raises
        ------
        ModelError
            If the image has another form or is too elongated for the model's input, or the weights are damaged.
        Cancelled
            If `report` raises it.
        """
        image = checked_rgb(rgb)
        tell = report or silent
        features, input_size = self._with_fallback("encoding", lambda: self._encode(image, tell))
        found = frozen(features[0].float().cpu().numpy())
        self._check_finite(found)
        tell(1.0, "encoded")
        return Embedding(
            features={"image": found},
            image_shape=(image.shape[0], image.shape[1]),
            input_size=input_size,
            model=self._identity,
            local={"image": features},
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
        sight = self._sight(embedding)
        logits, scores = self._with_fallback("decoding", lambda: self._decode(sight, prompts, several))
        self._check_finite(logits, scores)
        return Candidates(
            logits=frozen(logits[0].cpu().numpy()),
            scores=scores[0].cpu().numpy().astype(np.float64),
            frame=sight.frame,
        )

    def mask_input(self, embedding: Embedding, mask: Patch) -> MaskInput:
        """Return the logits to feed for a mask at image resolution."""
        shape = tuple(self._network.prompt_encoder.mask_input_size)
        return MaskInput(mask_to_logits(mask.full(embedding.image_shape), self._sight(embedding).frame, shape))

    def _sight(self, embedding: Embedding) -> Sight:
        from segment_anything.utils.transforms import ResizeLongestSide

        side = int(self._network.image_encoder.img_size)
        resize = ResizeLongestSide(side)
        return Sight(
            Frame(embedding.image_shape, (side, side), embedding.input_size),
            lambda points: resize.apply_coords(points_to_xy(points), embedding.image_shape),
            lambda: self._features(embedding),
        )

    def _encode(self, image: NDArray[np.uint8], tell: Report) -> tuple[Any, tuple[int, int]]:
        torch = torch_module()
        pixels = self._resized(image)
        encoder = self._network.image_encoder
        with torch.inference_mode():
            x = torch.as_tensor(pixels, device=self._network.device).permute(2, 0, 1).contiguous()[None]
            x = self._network.preprocess(x)
            if hasattr(encoder, "blocks"):
                features = self._run_blocks(encoder, x, tell)
            else:
                tell(0.0, "encoding")
                features = encoder(x)
        return features, (pixels.shape[0], pixels.shape[1])

    def _run_blocks(self, encoder: Any, x: Any, tell: Report) -> Any:
        """Run the encoder as its own forward does, telling before each block how far it is."""
        torch = torch_module()
        from napari_samdepth.models.runtime.thread_pool import thread_pool
        from napari_samdepth.models.sam.image_encoder import run_block

        autocast = torch.autocast(x.device.type, torch.bfloat16, enabled=self._precision == "bfloat16")
        with autocast, thread_pool(x.device.type) as threads:
            x = encoder.patch_embed(x)
            if encoder.pos_embed is not None:
                x = x + encoder.pos_embed
            count = len(encoder.blocks)
            for index, block in enumerate(encoder.blocks):
                tell(index / count, f"encoding, block {index + 1} of {count}")
                x = run_block(block, x, threads) if self._attention == "chunked" else block(x)
            return encoder.neck(x.permute(0, 3, 1, 2)).float()

    def _resized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        from segment_anything.utils.transforms import ResizeLongestSide

        size = int(self._network.image_encoder.img_size)
        if min(ResizeLongestSide.get_preprocess_shape(image.shape[0], image.shape[1], size)) < 1:
            raise ModelError(f"The image ({image.shape[0]} x {image.shape[1]}) is too elongated; crop it first.")
        resized: NDArray[np.uint8] = ResizeLongestSide(size).apply_image(image)
        return resized

    def _decode(self, sight: Sight, prompts: Prompts, several: bool) -> tuple[Any, Any]:
        torch = torch_module()
        with torch.inference_mode():
            points, box = self._points_and_box(sight, prompts)
            mask = None
            if prompts.mask is not None:
                mask = torch.tensor(prompts.mask, dtype=torch.float, device=self._network.device)[None, None]
            return self._decoder.masks(sight.features(), points, box, mask, several)

    def _features(self, embedding: Embedding) -> Any:
        features = embedding.local.get("image")
        if features is None:
            features = torch_module().tensor(embedding.features["image"])[None]
        return features.to(self._network.device)
