"""Batches: a growing pool of cached views, cropped, turned, mirrored, recoloured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.depth import cache

Array = np.ndarray[Any, Any]
SIZES = ((192, 256), (192, 256), (224, 288), (256, 192), (224, 224), (256, 320), (320, 416))
CROP = 52_000
"""Pixels of a usual crop: larger ones come in smaller batches."""


class Pool:
    """The cached views of some folders, read once; `refresh` takes in those written since."""

    def __init__(self, *folders: Path) -> None:
        self.folders = folders
        self.views: dict[Path, tuple[Array, Array]] = {}
        self.refresh()

    def refresh(self) -> int:
        """Read new views; returns how many there are now."""
        for folder in self.folders:
            for path in sorted(folder.glob("[!.]*.npz")):
                if path not in self.views:
                    rgb, inverse, _ = cache.load(path)
                    self.views[path] = (rgb, inverse.astype(np.float16))
        self.paths = sorted(self.views)
        return len(self.paths)

    def draw(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """One view at random."""
        return self.views[self.paths[int(rng.integers(len(self.paths)))]]


def window(rng: np.random.Generator, view: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Affine map (2, 3) from the crop's -1..1 square to the view's: a turned, perhaps mirrored window inside it."""
    (height, width), (rows, cols) = view, size
    angle = rng.normal(0, 0.08) if rng.random() < 0.4 else 0.0
    aspect = cols / rows * np.exp(rng.normal(0, 0.08))
    c, s = abs(np.cos(angle)), abs(np.sin(angle))
    # the largest window of this aspect and angle that lies inside the view
    limit = min(width / (aspect * c + s), height / (aspect * s + c))
    tall = limit * (rng.uniform(0.6, 1.0) if rng.random() < 0.7 else 1.0)
    wide = tall * aspect
    room_x, room_y = width - (wide * c + tall * s), height - (wide * s + tall * c)
    x, y = rng.uniform(-0.5, 0.5) * max(room_x, 0), rng.uniform(-0.5, 0.5) * max(room_y, 0)
    flip = -1.0 if rng.random() < 0.5 else 1.0
    ca, sa = np.cos(angle), np.sin(angle)
    across = [flip * ca * wide / width, -sa * tall / width, 2 * x / width]
    down = [flip * sa * wide / height, ca * tall / height, 2 * y / height]
    return torch.tensor([across, down], dtype=torch.float32)


def _recolour(rng: np.random.Generator, x: Tensor) -> Tensor:
    """Exposure, gamma, contrast, white balance, saturation, grey, blur and noise on (3, H, W) in 0..1."""
    x = x.clamp(1e-4, 1) ** float(np.exp(rng.normal(0, 0.25)))
    gain = torch.tensor(np.exp(rng.normal(0, 0.15) + rng.normal(0, 0.06, 3)), dtype=x.dtype).view(3, 1, 1)
    x = x * gain
    grey = x.mean(0, keepdim=True)
    keep = 0.0 if rng.random() < 0.08 else rng.uniform(0.4, 1.4)
    x = grey + (x - grey) * keep
    middle = x.mean()
    x = middle + (x - middle) * float(np.exp(rng.normal(0, 0.2)))
    if rng.random() < 0.25:
        small = F.interpolate(x[None], scale_factor=rng.uniform(0.4, 0.9), mode="bilinear", antialias=True)
        x = F.interpolate(small, size=x.shape[1:], mode="bilinear")[0]
    if rng.random() < 0.5:
        x = x + torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32)) * rng.uniform(0.005, 0.05)
    return x.clamp(0, 1)


def batch(rng: np.random.Generator, pools: list[Pool], shares: list[float], count: int) -> tuple[Tensor, Tensor]:
    """About `count` crops, fewer of the larger sizes.

    Pictures (B, 3, H, W) in 0..1 and inverse depth (B, H / 2, W / 2), as the network gives it.
    """
    size = SIZES[int(rng.integers(len(SIZES)))]
    count = max(1, round(count * min(1.0, CROP / (size[0] * size[1]))))
    rgb: list[Tensor] = []
    inverse: list[Tensor] = []
    while len(rgb) < count:
        picture, depth = pools[int(rng.choice(len(pools), p=shares))].draw(rng)
        theta = window(rng, depth.shape, size)[None]
        x = torch.from_numpy(picture.astype(np.float32).transpose(2, 0, 1) / 255)[None]
        y = torch.from_numpy(depth.astype(np.float32))[None, None]
        fine = F.affine_grid(theta, [1, 3, *size], align_corners=False)
        half = F.affine_grid(theta, [1, 1, size[0] // 2, size[1] // 2], align_corners=False)
        rgb.append(_recolour(rng, F.grid_sample(x, fine, padding_mode="border", align_corners=False)[0]))
        inverse.append(F.grid_sample(y, half, padding_mode="border", align_corners=False)[0, 0])
    return torch.stack(rgb), torch.stack(inverse)
