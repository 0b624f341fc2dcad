"""The built-in depth estimator: the adapter between an image and `depth_net.DepthNet`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.depthmap import DepthMap, upsampling_between
from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.inputs import checked_rgb, silent
from napari_samdepth.models.protocols import Report
from napari_samdepth.models.runtime.device import choose_device, enough_memory, torch_module
from napari_samdepth.models.runtime.torch_model import TorchModel
from napari_samdepth.models.weights.checkpoint import fingerprint, read_weights

WEIGHTS = Path(__file__).with_name("depth.safetensors")
LONG_SIDES = (256, 640)
"""Longer sides of the network's inputs in pixels: the coarser sees the scene as a whole, the finer its edges."""
STRIDE = 16
SHORTEST, LONGEST = 64, 1280
"""Bounds of either side of the input: a very wide or tall image is squeezed rather than reduced to a line."""


def input_size(shape: tuple[int, int], long_side: int = LONG_SIDES[1]) -> tuple[int, int]:
    """Return the (rows, cols) of the network's input for an image of `shape` (H, W): multiples of 16, aspect kept.

    The longer side is about `long_side`; the shorter one is at least 64, and then the longer one may reach 1280.
    """
    scale = max(long_side / max(shape), SHORTEST / min(shape))
    rows, cols = (min(LONGEST, max(SHORTEST, STRIDE * round(n * scale / STRIDE))) for n in shape)
    return rows, cols


def _network(path: Path) -> Any:
    """The network with the weights of `path`, in float32, in eval mode."""
    from napari_samdepth.models.builtin.depth_net import DepthNet

    torch = torch_module()
    net = DepthNet()
    try:
        net.load_state_dict({name: value.float() for name, value in read_weights(path).items()})
    except RuntimeError as error:
        raise ModelError(
            f"{path} does not hold the built-in depth estimator's weights; install the package again."
        ) from error
    return net.eval().to(memory_format=torch.channels_last)  # 1.7 times as fast on a CPU


class BuiltinDepth(TorchModel):
    """Relative inverse depth of any image from the small network that ships with the package.

    It is called "builtin"; its identity is "builtin-depth" and the first half of its weights' xxh128.
    """

    def __init__(self, device: str | None = None, weights: Path = WEIGHTS) -> None:
        """Load the weights onto a device ("cpu", "cuda", "mps"; None for the best there is). Raises ModelError."""
        chosen = choose_device(device)
        network = _network(weights).to(chosen.name)
        super().__init__(network, "builtin", f"builtin-depth:{fingerprint(weights)[:16]}", chosen)

    @enough_memory("estimating depth")
    def estimate(self, rgb: NDArray[np.uint8], report: Report | None = None) -> DepthMap:
        """Return relative inverse depth of `rgb`, uint8 (H, W, 3), as a DepthMap of (H, W) without a unit, 0 to 1.

        The image is run at two sizes and the answers are averaged once fitted to each other; the result is brought to
        (H, W) bilinearly, which cannot overshoot. Raises ModelError for anything else than such an image, Cancelled if
        `report` does.
        """
        image = checked_rgb(rgb)
        tell = report or silent
        tell(0.0, "estimating depth")
        values, sampled = self._with_fallback("estimating depth", lambda: self._run(image))
        tell(1.0, "depth is ready")
        upsampling = upsampling_between(sampled, values.shape)
        return DepthMap(values, "inverse", None, self._identity, upsampling)

    def _run(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], tuple[int, int]]:
        """Depth at the image's size, and the (rows, cols) that the network gave at the finer of its two sizes."""
        torch = torch_module()
        resize = torch.nn.functional.interpolate
        with torch.inference_mode():
            pixels = torch.tensor(image).permute(2, 0, 1)[None]
            answers = [self._at(pixels, long_side) for long_side in LONG_SIDES]
            finest = answers[-1].shape[-2:]
            both = fused([resize(a, size=finest, mode="bilinear", align_corners=False) for a in answers])
            full = resize(_unit_range(both), size=image.shape[:2], mode="bilinear", align_corners=False)
            values: NDArray[np.float32] = full[0, 0].float().cpu().numpy()
        return values, (finest[0], finest[1])

    def _at(self, pixels: Any, long_side: int) -> Any:
        """The network's answer (1, 1, h, w) for uint8 (1, 3, H, W) brought to `long_side`."""
        torch = torch_module()
        size = input_size((pixels.shape[-2], pixels.shape[-1]), long_side)
        # reduced while still one byte a value: a large image never becomes float
        x = torch.nn.functional.interpolate(pixels, size=size, mode="bilinear", antialias=True, align_corners=False)
        x = x.to(self.device).float().contiguous(memory_format=torch.channels_last) / 255
        return self._network(x)[None]


def _unit_range(values: Any) -> Any:
    """The map from 0 (farthest) to 1 (nearest) of this picture; the network's own scale and zero point mean nothing.

    A map without differences becomes 0.
    """
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp_min(1e-12)


def fused(answers: list[Any]) -> Any:
    """The mean of maps (1, 1, h, w) of one shape, each fitted to the first by least squares in scale and shift.

    Inverse depth comes without a scale, so answers can be averaged only after such a fit; one that would have to be
    turned near to far is left out.
    """
    first = answers[0]
    centred = first - first.mean()
    total, count = first, 1
    for other in answers[1:]:
        o = other - other.mean()
        scale = float((o * centred).sum() / (o * o).sum().clamp_min(1e-12))
        if scale > 0:
            total, count = total + scale * o + first.mean(), count + 1
    return total / count
