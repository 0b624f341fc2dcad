"""The network of the built-in depth estimator: an EfficientNet-Lite0 trunk and a light pyramid decoder.

The trunk is that of Tan and Le (EfficientNet, 2019) in its Lite form: no squeeze-and-excitation, ReLU6; its batch norms
are folded into the convolutions.  The decoder adds the trunk's maps from coarse to fine, in the manner of feature
pyramids (Lin et al., 2017), and gives one value for every second pixel.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class _Stage(NamedTuple):
    expand: int
    kernel: int
    stride: int
    inputs: int
    outputs: int


BLOCKS = (
    _Stage(1, 3, 1, 32, 16),
    _Stage(6, 3, 2, 16, 24), _Stage(6, 3, 1, 24, 24),
    _Stage(6, 5, 2, 24, 40), _Stage(6, 5, 1, 40, 40),
    _Stage(6, 3, 2, 40, 80), _Stage(6, 3, 1, 80, 80), _Stage(6, 3, 1, 80, 80),
    _Stage(6, 5, 1, 80, 112), _Stage(6, 5, 1, 112, 112), _Stage(6, 5, 1, 112, 112),
    _Stage(6, 5, 2, 112, 192), _Stage(6, 5, 1, 192, 192), _Stage(6, 5, 1, 192, 192), _Stage(6, 5, 1, 192, 192),
    _Stage(6, 3, 1, 192, 320),
)  # fmt: skip
TAPS = (0, 2, 4, 10, 15)
"""The blocks whose outputs, at strides 2, 4, 8, 16 and 32, feed the decoder."""


class Block(nn.Module):
    """An inverted residual: 1 × 1 expansion, depthwise convolution, 1 × 1 projection, without batch norm."""

    def __init__(self, stage: _Stage) -> None:
        super().__init__()
        middle = stage.inputs * stage.expand
        self.expand = nn.Conv2d(stage.inputs, middle, 1) if stage.expand > 1 else None
        self.depthwise = nn.Conv2d(middle, middle, stage.kernel, stage.stride, stage.kernel // 2, groups=middle)
        self.project = nn.Conv2d(middle, stage.outputs, 1)
        self.residual = stage.stride == 1 and stage.inputs == stage.outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) → (B, outputs, h / stride, w / stride)."""
        middle = x if self.expand is None else F.relu6(self.expand(x))
        y: Tensor = self.project(F.relu6(self.depthwise(middle)))
        return x + y if self.residual else y


class Trunk(nn.Module):
    """EfficientNet-Lite0 up to its last block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        self.blocks = nn.ModuleList(Block(stage) for stage in BLOCKS)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised RGB → five maps with 16, 24, 40, 112, 320 channels at strides 2, 4, 8, 16, 32."""
        maps = []
        x = F.relu6(self.stem(x))
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in TAPS:
                maps.append(x)
        return maps


class Refine(nn.Module):
    """Two 3 × 3 convolutions round a residual; brings a coarser map up to a finer one's size and adds that one."""

    def __init__(self, coarse: int, skip: int, width: int) -> None:
        super().__init__()
        self.skip = nn.Conv2d(skip, width, 1)
        self.carry = nn.Conv2d(coarse, width, 1)
        self.first = nn.Conv2d(width, width, 3, 1, 1)
        self.second = nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B, coarse, h, w), (B, skip, H, W) → (B, width, H, W)."""
        up = F.interpolate(self.carry(coarse), size=fine.shape[-2:], mode="bilinear", align_corners=False)
        x = F.relu(up + self.skip(fine))
        return F.relu(x + self.second(F.relu(self.first(x))))


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
        self.trunk = Trunk()
        self.top = nn.Conv2d(320 + 2, 128, 1)
        self.whole = nn.Conv2d(320, 128, 1)
        self.mix = nn.Conv2d(128, 128, 3, 1, 1)
        self.up16 = Refine(128, 112, 128)
        self.up8 = Refine(128, 40, 80)
        self.up4 = Refine(80, 24, 48)
        self.up2 = Refine(48, 16, 16)
        self.out = nn.Conv2d(16, 1, 3, 1, 1)

    def forward(self, rgb: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..1, H and W multiples of 32 → inverse depth up to scale and shift, (B, H / 2, W / 2)."""
        mean, std = rgb.new_tensor(MEAN).view(1, 3, 1, 1), rgb.new_tensor(STD).view(1, 3, 1, 1)
        m2, m4, m8, m16, m32 = self.trunk((rgb - mean) / std)
        x = self.top(torch.cat([m32, _place(m32)], 1)) + self.whole(m32.mean((-2, -1), keepdim=True))
        x = F.relu(x)
        x = F.relu(x + self.mix(x))
        x = self.up16(x, m16)
        x = self.up8(x, m8)
        x = self.up4(x, m4)
        x = self.up2(x, m2)
        out: Tensor = self.out(x)
        return out[:, 0]
