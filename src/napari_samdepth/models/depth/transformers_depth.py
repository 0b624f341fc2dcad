"""Depth networks of transformers behind the `DepthEstimator` protocol: DPT, Depth Anything, ZoeDepth, Depth Pro, GLPN.

The result is what ``pipeline("depth-estimation")`` calls ``predicted_depth``: same processor, network and bicubic
enlargement to the image's size. What its numbers mean belongs to the checkpoint, not to the network, and comes from the
catalog or, for a folder of the user's, from its configuration.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.depthmap import DepthKind, DepthMap, upsampling_between
from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.depth.mean_subtraction import subtract_means
from napari_samdepth.models.inputs import checked_rgb, silent
from napari_samdepth.models.protocols import Report
from napari_samdepth.models.runtime.device import Device, Precision, enough_memory, torch_module
from napari_samdepth.models.runtime.torch_model import TorchModel
from napari_samdepth.models.spec import ModelSpec
from napari_samdepth.models.weights.pretrained import load_folder, load_processor, telling_blocks

METRES: dict[str, tuple[DepthKind, str]] = {
    "depth_pro": ("distance", "m"),
    "zoedepth": ("distance", "m"),
    "glpn": ("distance", "m"),
    "tipsv2_dpt": ("distance", "m"),
    "chmv2": ("height", "m"),
}
"""What networks give that were made for one kind of depth, by their ``model_type``."""


def kind_of(config: Any) -> tuple[DepthKind, str | None, str]:
    """Return kind, unit and the reason for them, read from a configuration of transformers.

    Raises
    ------
    ModelError
        If the configuration is not of a depth network that is known here.
    """
    model_type = str(config.model_type)
    if model_type in METRES:
        kind, unit = METRES[model_type]
        return kind, unit, f"kind from its architecture {model_type}"
    if model_type in ("depth_anything", "prompt_depth_anything"):
        estimation = str(config.depth_estimation_type)
        reason = f"kind from its configuration, depth_estimation_type={estimation}"
        return ("distance", "m", reason) if estimation == "metric" else ("inverse", None, reason)
    if model_type == "dpt":
        return "inverse", None, "kind from its architecture dpt"
    raise ModelError(
        f"A {model_type} network gives no depth that is known here; choose DPT, Depth Anything or ZoeDepth."
    )


def load_depth(
    path: Path,
    name: str = "",
    device: str | None = None,
    report: Report | None = None,
    *,
    spec: ModelSpec | None = None,
    precision: Precision = "float32",
) -> TransformersDepth:
    """Return a depth estimator from a folder in transformers' format.

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
    spec
        The model's spec; where it names a kind, it then says what the values mean; the configuration does if None.
    precision
        As in `TransformersDepth`.

    Raises
    ------
    ModelError
        If the folder cannot be loaded.
    Cancelled
        If `report` raises it.
    """

    def adapted(model: Any, name: str, weights: str, where: Device) -> TransformersDepth:
        processor = load_processor(path, "AutoImageProcessor")
        kind, unit, reason = kind_of(model.config)
        if spec is not None and spec.kind is not None:
            kind, unit, reason = spec.kind, spec.unit, f"{spec.hub_id}, {spec.revision}"
        source = f"{name} ({type(model).__name__}, {reason}, weights {weights[:12]})"
        return TransformersDepth(model, processor, name, source, kind, unit, where, precision)

    return load_folder(path, name, device, report, "AutoModelForDepthEstimation", adapted)


class TransformersDepth(TorchModel):
    """A depth network and its image processor behind the `DepthEstimator` protocol.

    Parameters
    ----------
    model, processor
        Network (in eval mode, on the CPU) and image processor of transformers.
    name
        What the user calls it.
    source
        Name, checkpoint and where the kind comes from, for `DepthMap.source`.
    kind, unit
        What the values mean.
    device
        Where to run.
    precision
        "bfloat16" runs its large layers in bfloat16 (`subtract_means`); faster where `bfloat16_gains()`, and coarser.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        name: str,
        source: str,
        kind: DepthKind,
        unit: str | None,
        device: Device,
        precision: Precision = "float32",
    ) -> None:
        super().__init__(model, name, source if precision == "float32" else f"{source}, {precision}", device)
        self._processor = processor
        self._kind: DepthKind = kind
        self._unit = unit
        # what convolutions are fastest in, on the CPU by 3 % of a DPT-large
        self._network.to(memory_format=torch_module().channels_last)
        if precision == "bfloat16":
            subtract_means(self._network)

    @enough_memory("estimating depth")
    def estimate(self, rgb: NDArray[np.uint8], report: Report | None = None) -> DepthMap:
        """Return the depth of an image.

        Parameters
        ----------
        rgb
            uint8 (H, W, 3).
        report
            Told before each block of the network how far it is.

        Returns
        -------
        DepthMap with values (H, W) float32. Distances and heights keep within the network's own range, which the
        bicubic enlargement would leave by a little; relative values are left as they come.

        Raises
        ------
        ModelError
            If the image has another form.
        Cancelled
            If `report` raises it.
        """
        image = checked_rgb(rgb)
        tell = report or silent
        values, sampled = self._with_fallback("estimating depth", lambda: self._estimate(image, tell))
        self._check_finite(values)
        tell(1.0, "depth is ready")
        upsampling = upsampling_between(sampled, values.shape)
        return DepthMap(values, self._kind, self._unit, self._identity, upsampling)

    def _estimate(self, image: NDArray[np.uint8], tell: Report) -> tuple[NDArray[np.float32], tuple[int, int]]:
        """Return depth at the image's size, and the (rows, cols) that the network gave."""
        from PIL import Image

        torch = torch_module()
        size = image.shape[:2]
        inputs = self._processor(images=Image.fromarray(image), return_tensors="pt")
        inputs = inputs.to(self._network.device)
        with torch.inference_mode(), telling_blocks(self._network, tell, "estimating depth"):
            outputs = self._network(**inputs)
        # the second argument is called target_sizes, or source_sizes by ZoeDepth, which enlarges to it as well
        (result,) = self._processor.post_process_depth_estimation(outputs, [size])
        depth = result["predicted_depth"].reshape(size)
        if self._kind != "inverse":
            depth = depth.clamp(outputs.predicted_depth.min(), outputs.predicted_depth.max())
        values: NDArray[np.float32] = depth.float().cpu().numpy()
        rows, cols = outputs.predicted_depth.shape[-2:]
        return values, (rows, cols)
