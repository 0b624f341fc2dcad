"""Segment Anything (Kirillov et al., ICCV 2023) behind the `Segmenter` protocol.

What `SamPredictor` computes is computed here, in the same order of operations, except that masks stay at low
resolution: `Candidates` upsamples the chosen one inside the box that it can touch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.candidates import Candidates
from napari_samdepth.core.coords import box_to_xyxy, points_to_xy
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.core.resample import Frame
from napari_samdepth.models.checkpoint import fingerprint, read_weights
from napari_samdepth.models.device import Device, choose_device, torch_module
from napari_samdepth.models.inputs import checked_rgb, frozen, silent
from napari_samdepth.models.ondevice import OnDevice, ready
from napari_samdepth.models.protocols import Embedding, ModelError, Report
from napari_samdepth.models.sam_checkpoint import architecture_of, build_sam

if TYPE_CHECKING:
    from napari_samdepth.models.clicks import ManyClicks

Attention = Literal["chunked", "stock"]
Precision = Literal["float32", "bfloat16"]


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


class SamSegmenter(OnDevice):
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
        "bfloat16" runs the image encoder and the search of whole images in bfloat16; faster where `bfloat16_gains()`,
        and coarser. A click is decoded in float32 all the same.
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
        self._attention: Attention = attention
        self._precision: Precision = precision
        self._positions: Any = None
        self._many: ManyClicks | None = None

    def _moved(self) -> None:
        self._positions = self._many = None

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
            If the image has another form or is too elongated for the model's input.
        Cancelled
            If `report` raises it.
        """
        image = checked_rgb(rgb)
        tell = report or silent
        features, input_size = self._with_fallback("encoding", lambda: self._encode(image, tell))
        tell(1.0, "encoded")
        return Embedding(
            features={"image": frozen(features[0].float().cpu().numpy())},
            image_shape=(image.shape[0], image.shape[1]),
            input_size=input_size,
            model=self._identity,
            local={"image": features},
        )

    def decode(self, embedding: Embedding, prompts: Prompts, multimask: bool | None = None) -> Candidates:
        """Return masks for the prompts, as `Segmenter.decode` says.

        Raises
        ------
        ModelError
            If the embedding is another model's, or the prompts' mask has not the shape of this model's logits.
        """
        several = prompts.ambiguous if multimask is None else multimask
        self._check(embedding, prompts)
        logits, scores = self._with_fallback("decoding", lambda: self._decode(embedding, prompts, several))
        return Candidates(
            logits=frozen(logits[0].cpu().numpy()),
            scores=scores[0].cpu().numpy().astype(np.float64),
            frame=self._frame(embedding),
        )

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
        Logits (n, 3, 256, 256) float32, predicted IoU (n, 3), and how the logits cover the image.
        """

        def run() -> tuple[Any, Any]:
            with torch_module().inference_mode():
                return self._masks(embedding, self._single(embedding, points), None, None, True)

        logits, scores = self._with_fallback("decoding", run)
        return logits.cpu().numpy(), scores.cpu().numpy().astype(np.float64), self._frame(embedding)

    def masks_above(
        self, embedding: Embedding, points: NDArray[np.float64], threshold: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.intp], Frame]:
        """Decode many single foreground clicks as `point_masks` does, sooner, and keep the masks that promise enough.

        Logits differ from those of `point_masks` in rounding, with ``precision="bfloat16"`` in that of bfloat16.

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
        Logits (k, 256, 256) float32, predicted IoU (k,), the index of each mask's click (k,), and how the logits cover
        the image.
        """
        from napari_samdepth.models.clicks import can_decode

        if not can_decode(self._network.mask_decoder):
            logits, scores, frame = self.point_masks(embedding, points)
            clicks, masks = np.nonzero(scores > threshold)
            return logits[clicks, masks], scores[clicks, masks], clicks, frame
        found, promised, of = self._with_fallback("decoding", lambda: self._promising(embedding, points, threshold))
        return (
            found.cpu().numpy(),
            promised.cpu().numpy().astype(np.float64),
            of.cpu().numpy().astype(np.intp),
            self._frame(embedding),
        )

    def _promising(self, embedding: Embedding, points: NDArray[np.float64], threshold: float) -> tuple[Any, Any, Any]:
        from napari_samdepth.models.clicks import ManyClicks

        if self._many is None:
            self._many = ManyClicks(self._network, getattr(torch_module(), self._precision))
        clicks = self._single(embedding, points)
        return self._many.above(embedding, lambda: self._image_features(embedding), clicks, threshold)

    def _single(self, embedding: Embedding, points: NDArray[np.float64]) -> tuple[Any, Any]:
        """Return single foreground clicks as the prompt encoder wants them: (n, 1, 2) (x, y) and labels (n, 1)."""
        torch = torch_module()
        xy = self._transform.apply_coords(points_to_xy(points), embedding.image_shape)
        clicks = torch.as_tensor(xy, dtype=torch.float, device=self._network.device)[:, None]
        return clicks, torch.ones((len(points), 1), dtype=torch.int, device=self._network.device)

    @property
    def _transform(self) -> Any:
        from segment_anything.utils.transforms import ResizeLongestSide

        return ResizeLongestSide(int(self._network.image_encoder.img_size))

    def _frame(self, embedding: Embedding) -> Frame:
        size = int(self._network.image_encoder.img_size)
        return Frame(embedding.image_shape, (size, size), embedding.input_size)

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
        from napari_samdepth.models.attention import run_block

        autocast = torch.autocast(x.device.type, torch.bfloat16, enabled=self._precision == "bfloat16")
        with autocast:
            x = encoder.patch_embed(x)
            if encoder.pos_embed is not None:
                x = x + encoder.pos_embed
            count = len(encoder.blocks)
            for index, block in enumerate(encoder.blocks):
                tell(index / count, f"encoding, block {index + 1} of {count}")
                x = run_block(block, x) if self._attention == "chunked" else block(x)
            return encoder.neck(x.permute(0, 3, 1, 2)).float()

    def _resized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        from segment_anything.utils.transforms import ResizeLongestSide

        size = int(self._network.image_encoder.img_size)
        if min(ResizeLongestSide.get_preprocess_shape(image.shape[0], image.shape[1], size)) < 1:
            raise ModelError(f"The image ({image.shape[0]} x {image.shape[1]}) is too elongated; crop it first.")
        resized: NDArray[np.uint8] = ResizeLongestSide(size).apply_image(image)
        return resized

    def _check(self, embedding: Embedding, prompts: Prompts) -> None:
        self._check_own(embedding)
        shape = tuple(self._network.prompt_encoder.mask_input_size)
        if prompts.mask is not None and prompts.mask.shape != shape:
            raise ModelError(f"A mask prompt must be logits of shape {shape}, got {prompts.mask.shape}.")

    def _decode(self, embedding: Embedding, prompts: Prompts, several: bool) -> tuple[Any, Any]:
        with torch_module().inference_mode():
            return self._masks(embedding, *self._tensors(embedding, prompts), several)

    def _masks(self, embedding: Embedding, points: Any, box: Any, mask: Any, several: bool) -> tuple[Any, Any]:
        sparse, dense = self._network.prompt_encoder(points=points, boxes=box, masks=mask)
        if self._positions is None:
            self._positions = self._network.prompt_encoder.get_dense_pe()
        result: tuple[Any, Any] = self._network.mask_decoder(
            image_embeddings=self._image_features(embedding),
            image_pe=self._positions,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=several,
        )
        return result

    def _image_features(self, embedding: Embedding) -> Any:
        torch = torch_module()
        features = embedding.local.get("image")
        if features is None:
            features = torch.tensor(embedding.features["image"])[None]
        return features.to(self._network.device)

    def _tensors(self, embedding: Embedding, prompts: Prompts) -> tuple[Any, Any, Any]:
        """Return the prompts as the prompt encoder wants them: (points, labels) or None, boxes, masks."""
        torch = torch_module()
        device, transform = self._network.device, self._transform
        points = box = mask = None
        if len(prompts.points):
            xy = transform.apply_coords(points_to_xy(prompts.points), embedding.image_shape)
            labels = torch.tensor(prompts.labels, dtype=torch.int, device=device)
            points = torch.as_tensor(xy, dtype=torch.float, device=device)[None], labels[None]
        if prompts.box is not None:
            corners = transform.apply_boxes(box_to_xyxy(prompts.box), embedding.image_shape)
            box = torch.as_tensor(corners, dtype=torch.float, device=device)
        if prompts.mask is not None:
            mask = torch.tensor(prompts.mask, dtype=torch.float, device=device)[None, None]
        return points, box, mask
