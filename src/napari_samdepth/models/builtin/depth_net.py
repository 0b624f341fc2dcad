"""The network of the built-in depth estimator: TCMonoDepth's small network and a branch that sees the whole image.

Encoder and decoder are those of TCMonoDepth-small (Li et al., Enforcing Temporal Consistency in Video Depth Estimation,
2021; MIT), whose units are ShuffleNet V2's (Ma et al., 2018), batch norms folded into the convolutions.  The context
branch looks at strides 32 and 64, at the mean over the image and at the place in it; it starts as zero, so that an
untrained network with the published weights is the published one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STAGES = ((24, 24, 4), (48, 48, 8), (96, 96, 4))
"""Of each stage: channels of a half at its start and inside its units, and how many units it has."""
DECODER = ((96, 48, 240, 96), (48, 24, 120, 48), (24, 12, 60, 24))
"""Of each step up, coarse to fine: channels of the finer map, of it once reduced, of both together, of the result."""
CONTEXT = 160
"""Channels of the context branch."""


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _depthwise(channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels)


class ShuffleUnit(nn.Module):
    """A unit of ShuffleNet V2: half of the channels pass by, or are reduced along with the others at a stride of 2."""

    def __init__(self, inputs: int, half: int, stride: int) -> None:
        super().__init__()
        self.beside = (
            nn.Sequential(_depthwise(inputs, 2), nn.Conv2d(inputs, half, 1), nn.ReLU()) if stride == 2 else None
        )
        self.main = nn.Sequential(
            nn.Conv2d(inputs, half, 1), nn.ReLU(), _depthwise(half, stride), nn.Conv2d(half, half, 1), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) → (B, 2 half, h / stride, w / stride)."""
        if self.beside is not None:
            return torch.cat([self.beside(x), self.main(x)], 1)
        return torch.cat([x[:, 0::2], self.main(x[:, 1::2])], 1)


class UpBlock(nn.Module):
    """Brings a coarser map to a finer one's size and mixes the two by a separable convolution."""

    def __init__(self, fine: int, reduced: int, both: int, outputs: int) -> None:
        super().__init__()
        self.skip = nn.Conv2d(fine, reduced, 1)
        self.depthwise = _depthwise(both)
        self.pointwise = nn.Conv2d(both, outputs, 1)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B, both - reduced, h, w), (B, fine, H, W) → (B, outputs, H, W)."""
        x = torch.cat([_resized(coarse, fine), F.relu(self.skip(fine))], 1)
        out: Tensor = F.relu(self.pointwise(F.relu(self.depthwise(x))))
        return out


class Context(nn.Module):
    """Adds to a map at stride 16 what strides 32 and 64, the mean over the image and the place in it say."""

    def __init__(self, channels: int, width: int = CONTEXT) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels + 2, width, 1)
        self.down32 = nn.Conv2d(width, width, 3, 2, 1)
        self.mix32 = nn.Conv2d(width, width, 3, 1, 1, groups=4)
        self.down64 = nn.Conv2d(width, width, 3, 2, 1)
        self.mean = nn.Conv2d(width, width, 1)
        self.mix64 = nn.Conv2d(width, width, 3, 1, 1, groups=4)
        self.leave = nn.Conv2d(width, channels, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) → the same shape."""
        at16 = F.relu(self.enter(torch.cat([x, _place(x)], 1)))
        at32 = F.relu(self.down32(at16))
        at32 = F.relu(at32 + self.mix32(at32))
        at64 = F.relu(self.down64(at32))
        at64 = at64 + self.mean(at64.mean((-2, -1), keepdim=True))
        at64 = F.relu(at64 + self.mix64(at64))
        together = F.relu(at16 + _resized(at32 + _resized(at64, at32), at16))
        out: Tensor = x + self.leave(together)
        return out


def _place(x: Tensor) -> Tensor:
    """Row and column of every cell as two channels in -1..1: (B, 2, h, w)."""
    rows = torch.linspace(-1, 1, x.shape[-2], device=x.device, dtype=x.dtype)
    cols = torch.linspace(-1, 1, x.shape[-1], device=x.device, dtype=x.dtype)
    grid = torch.stack(torch.meshgrid(rows, cols, indexing="ij"))
    return grid.expand(x.shape[0], -1, -1, -1)


class DepthNet(nn.Module):
    """RGB to relative inverse depth."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 24, 3, 2, 1)
        self.stages = nn.ModuleList()
        inputs = 24
        for channels, half, units in STAGES:
            reduce = ShuffleUnit(inputs, half, 2)
            self.stages.append(nn.Sequential(reduce, *(ShuffleUnit(channels, half, 1) for _ in range(units - 1))))
            inputs = 2 * half
        self.decoder = nn.ModuleList(UpBlock(*sizes) for sizes in DECODER)
        self.out = nn.Conv2d(24, 1, 3, 1, 1)
        self.context = Context(inputs)

    def features(self, rgb: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..1 → (B, 24, H / 2, W / 2), halves rounded up."""
        maps = [F.relu(self.first(rgb))]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        x: Tensor = self.context(maps.pop())
        for block, fine in zip(self.decoder, reversed(maps), strict=True):
            x = block(x, fine)
        return x

    def forward(self, rgb: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..1 → inverse depth up to scale and shift, (B, H / 2, W / 2), halves rounded up."""
        out: Tensor = self.out(self.features(rgb))
        return out[:, 0]
