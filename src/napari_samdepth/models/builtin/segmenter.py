"""The built-in segmenter behind the `Segmenter` protocol: a small network that zooms in where the click is.

The embedding holds the image and the whole view. A click is decoded in a first view; the object's size there tells
at which zoom to decode it again, so that small objects in large images are seen as large as the network needs them
(coarse to fine). Views are encoded when a click needs them and kept.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.candidates import Candidates, MaskInput, Patch
from napari_samdepth.core.coords import points_to_xy
from napari_samdepth.core.embedding import Embedding
from napari_samdepth.core.errors import ModelError
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.core.resample import Frame
from napari_samdepth.models.builtin.segmenter_masks import ViewCandidates, ViewMasks, ZoomSettings
from napari_samdepth.models.inputs import checked_rgb, frozen, silent
from napari_samdepth.models.prompting import translated
from napari_samdepth.models.protocols import Report
from napari_samdepth.models.runtime.device import Device, choose_device, enough_memory, torch_module
from napari_samdepth.models.sam.prompted import PromptedNetwork, Sight
from napari_samdepth.models.weights.checkpoint import fingerprint, read_weights

if TYPE_CHECKING:
    from napari_samdepth.models.builtin.segmenter_views import View

WEIGHTS = Path(__file__).with_name("segmenter.safetensors")
KEPT_VIEWS = 48


def load_builtin(device: str | None = None, report: Report | None = None, weights: Path = WEIGHTS) -> BuiltinSegmenter:
    """Return the built-in segmenter.

    Parameters
    ----------
    device
        As in `choose_device`.
    report
        Told how far loading is.
    weights
        A safetensors file; the one that ships with the package unless said otherwise.

    Raises
    ------
    ModelError
        If the weights cannot be read or do not fit.
    """
    tell = report or silent
    chosen = choose_device(device)
    tell(0.0, "reading the built-in segmenter")
    state = {name: value.float() for name, value in read_weights(weights).items()}
    from napari_samdepth.models.builtin.segmenter_net import build

    sam = build()
    try:
        sam.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ModelError(f"{weights} does not fit the built-in segmenter; install the package again.") from error
    segmenter = BuiltinSegmenter(sam.requires_grad_(False), f"builtin:{fingerprint(weights)}", chosen)
    tell(1.0, "the built-in segmenter is ready")
    return segmenter


class BuiltinSegmenter(PromptedNetwork):
    """The small network behind the `Segmenter` protocol.

    Parameters
    ----------
    sam
        What `segmenter_net.build` gives, with weights, in eval mode.
    model
        Identity of the weights; part of every embedding.
    device
        Where to run.
    zoom
        How views are chosen.
    """

    def __init__(self, sam: Any, model: str, device: Device, zoom: ZoomSettings | None = None) -> None:
        super().__init__(sam.to(device.name), "builtin", model, device)
        self.zoom = zoom or ZoomSettings()
        self._views: weakref.WeakKeyDictionary[Embedding, OrderedDict[View, Any]] = weakref.WeakKeyDictionary()

    @enough_memory("encoding an image")
    def encode(self, rgb: NDArray[np.uint8], report: Report | None = None) -> Embedding:
        """Return the embedding of `rgb`, uint8 (H, W, 3): the image and its whole view.

        Raises
        ------
        ModelError
            If the image has another form.
        Cancelled
            If `report` raises it.
        """
        from napari_samdepth.models.builtin.segmenter_views import View

        tell = report or silent
        image = checked_rgb(rgb).copy()
        image.flags.writeable = False
        view = View.whole((image.shape[0], image.shape[1]))
        tell(0.0, "encoding")
        features = self._with_fallback("encoding", lambda: self._encoded(image, view))
        tell(1.0, "encoded")
        return Embedding(
            features={"image": frozen(features[0].cpu().numpy()), "rgb": image},
            image_shape=view.image_shape,
            input_size=view.valid,
            model=self._identity,
        )

    @enough_memory("decoding masks")
    def decode(self, embedding: Embedding, prompts: Prompts, multimask: bool | None = None) -> Candidates:
        """Return masks for the prompts, as `Segmenter.decode` says.

        `Prompts.mask` is one of an earlier decode's `Candidates.feedback`, or any logits (h, w) stretched over the
        whole image.

        Raises
        ------
        ModelError
            If the embedding is another model's, or the window of the prompts' mask is not square or not in the image.
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
        _check_window(prompts, embedding.image_shape)
        from napari_samdepth.models.builtin.segmenter_zoom import decode_zoomed

        found = self._with_fallback("decoding", lambda: decode_zoomed(self, embedding, prompts, several))
        return self._candidates(found)

    def mask_input(self, embedding: Embedding, mask: Patch) -> MaskInput:
        """Return the logits to feed for a mask at image resolution, in the window where it is refined."""
        from napari_samdepth.models.builtin.segmenter_zoom import around_mask

        view, logits = around_mask(self, mask, embedding.image_shape)
        return MaskInput(logits, view.window)

    def decode_zoomed(
        self, embedding: Embedding, point: tuple[float, float]
    ) -> tuple[NDArray[np.float32], float, Frame, tuple[int, int]]:
        """Return the best mask of a foreground click, decoded at the zoom that its object wants.

        Parameters
        ----------
        embedding
            Of this model.
        point
            (row, col) in image pixels.

        Returns
        -------
        Logits (128, 128) float32 of a window, predicted IoU, how the logits cover the window, and its first pixel
        (row, col).
        """
        from napari_samdepth.models.builtin.segmenter_zoom import decode_zoomed

        found = self._with_fallback("decoding", lambda: decode_zoomed(self, embedding, Prompts([point]), True))
        logits: NDArray[np.float32] = found.logits[found.best].cpu().numpy()
        return logits, found.score, found.view.frame, (found.view.top, found.view.left)

    def decode_view(self, embedding: Embedding, view: View, prompts: Prompts, mask: Any, several: bool) -> ViewMasks:
        """Decode the prompts in one view; `mask` is the view's earlier logits (128, 128) as a tensor, or None."""
        sight, network = self._sight_of(embedding, view), self._network
        with torch_module().inference_mode():
            points, box = self._points_and_box(sight, prompts)
            if mask is not None:
                mask = mask.to(self.device).clamp(-32, 32)[None, None]
            sparse, dense = network.prompt_encoder(points=points, boxes=box, masks=mask)
            features = sight.features()
            logits, scores = network.mask_decoder.predict_masks(features, self._decoder.positions, sparse, dense)
        return ViewMasks(view, logits[0], scores[0], several)

    def _sight(self, embedding: Embedding) -> Sight:
        from napari_samdepth.models.builtin.segmenter_views import View

        return self._sight_of(embedding, View.whole(embedding.image_shape))

    def _sight_of(self, embedding: Embedding, view: View) -> Sight:
        return Sight(
            view.frame,
            lambda points: points_to_xy(view.points(points)),
            lambda: self._features(embedding, view),
        )

    def _features(self, embedding: Embedding, view: View) -> Any:
        """Return the features (1, 256, 32, 32) of a view, from the embedding, the kept ones, or encoded now."""
        kept = self._views.setdefault(embedding, OrderedDict())
        if view not in kept:
            if view.side == max(view.image_shape):
                torch = torch_module()
                kept[view] = torch.tensor(embedding.features["image"], device=self.device)[None]
            else:
                kept[view] = self._encoded(embedding.features["rgb"], view)
        kept.move_to_end(view)
        while len(kept) > KEPT_VIEWS:
            kept.popitem(last=False)
        return kept[view]

    def _encoded(self, rgb: NDArray[np.uint8], view: View) -> Any:
        torch = torch_module()
        with torch.inference_mode():
            pixels = view.pixels(rgb).to(self.device)
            return self._network.image_encoder(((pixels - self._network.pixel_mean) / self._network.pixel_std)[None])

    def _candidates(self, found: ViewMasks) -> ViewCandidates:
        from napari_samdepth.models.builtin.segmenter_views import canvas_shape, to_canvas

        shape = found.view.image_shape
        canvas = canvas_shape(shape)
        fine = found.logits[found.offered].cpu()
        return ViewCandidates(
            logits=frozen(to_canvas(fine, found.view, canvas).numpy()),
            scores=found.scores[found.offered].cpu().numpy().astype(np.float64),
            frame=Frame.whole(shape, canvas),
            feedback=tuple(MaskInput(part, found.view.window) for part in fine.numpy()),
        )

    def _moved(self) -> None:
        super()._moved()
        self._views.clear()


def _check_window(prompts: Prompts, shape: tuple[int, int]) -> None:
    """Raise ModelError where a fed-back mask has not the form of this segmenter's."""
    if prompts.mask is None or prompts.mask_window is None:
        return
    from napari_samdepth.models.builtin.segmenter_views import LOW_RES

    top, left, bottom, right = prompts.mask_window
    inside = 0 <= top < shape[0] and 0 <= left < shape[1]
    if prompts.mask.shape != (LOW_RES, LOW_RES) or bottom - top != right - left or not inside:
        raise ModelError(
            f"A mask that is fed back must be one of this model's, of this image: got {prompts.mask.shape} in "
            f"{prompts.mask_window}; click anew."
        )
