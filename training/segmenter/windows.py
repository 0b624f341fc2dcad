"""Training windows: 256 x 256 views of labelled pictures at many zooms, and the masks of some objects in them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage as ndi
from torch import Tensor

from napari_samdepth.models.builtin.segmenter_views import stretch
from training.segmenter.paint import Array, Rng
from training.segmenter.pictures import read_nuclei
from training.segmenter.stages import STAGES, Stage

SIDE = 256
BACKGROUND_CLICKS = frozenset({"fluo", "bright_gray", "fluorescence", "stained", "bright_field", "coins"})


@dataclass(frozen=True)
class Window:
    """``image`` (3, 256, 256) float in 0–255 and ``masks`` (P, 256, 256) float in 0–1, an empty one for background."""

    image: Tensor
    masks: Tensor
    source: str


class Pool:
    """Labelled pictures by source: nuclei held in memory, synthetic ones read from the cache as it grows."""

    def __init__(self, nuclei: Path | None, ids: Iterable[str], cache: Path, stage: Stage = STAGES["all"]) -> None:
        self.cache = cache
        self.stage = stage
        self.nuclei: dict[str, list[tuple[Array, Array]]] = {}
        if nuclei is not None:
            kinds = {r["id"]: r["kind"] for r in json.loads((nuclei / "index.json").read_text())}
            for name in ids:
                self.nuclei.setdefault(kinds[name], []).append(read_nuclei(nuclei, name))
        self.files: dict[str, list[Path]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Look again at what is in the cache."""
        for folder in sorted(p for p in self.cache.iterdir() if p.is_dir()):
            self.files[folder.name] = sorted(folder.glob("*.npz"))

    def draw(self, rng: Rng) -> tuple[Array, Array, str]:
        """A picture (RGB uint8), its labels and its source."""
        shares = self.stage.sources
        sources = [s for s in shares if self.nuclei.get(s) or self.files.get(s)]
        weights = np.array([shares[s] for s in sources])
        source = str(rng.choice(sources, p=weights / weights.sum()))
        if source in self.nuclei:
            rgb, labels = self.nuclei[source][rng.integers(len(self.nuclei[source]))]
            return rgb, labels, source
        with np.load(self.files[source][rng.integers(len(self.files[source]))]) as sample:
            return sample["rgb"], sample["labels"], source


def _choose_scale(rng: Rng, extent: float, shape: tuple[int, int]) -> float:
    """Window pixels per picture pixel, so that the object spans from some 12 to 240 of the window's 256 pixels."""
    often, any_size = rng.uniform(45, 140), float(np.exp(rng.uniform(np.log(12), np.log(240))))
    span = often if rng.random() < 0.6 else any_size
    return float(np.clip(span / extent, 0.9 * SIDE / max(shape), 8.0))


def _grid(rng: Rng, centre: Array, scale: float, shape: tuple[int, int], upright: bool) -> Array:
    """Picture coordinates (row, col) of every window pixel, (256, 256, 2)."""
    half = SIDE / 2 / scale
    room = np.maximum(np.array(shape) - half, half)
    middle = np.clip(centre + rng.uniform(-0.7, 0.7, 2) * half, half, room)
    linear = np.eye(2) / scale
    if not upright:
        a = rng.uniform(0, 6.28) if rng.random() < 0.4 else rng.integers(4) * np.pi / 2
        turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        linear = linear @ turn @ np.diag(np.exp(rng.normal(0, 0.08, 2)) * [1, rng.choice([-1, 1])])
    at = np.moveaxis(np.mgrid[:SIDE, :SIDE], 0, -1) + 0.5 - SIDE / 2
    return np.asarray(at @ linear.T + middle - 0.5)


def _sample(planes: Tensor, grid: Array, mode: str = "bilinear") -> Tensor:
    h, w = planes.shape[-2:]
    norm = torch.from_numpy(((grid + 0.5) / [h, w] * 2 - 1)[..., ::-1].astype(np.float32).copy())[None]
    return F.grid_sample(planes[None], norm, mode=mode, padding_mode="reflection", align_corners=False)[0]


def _jitter(rng: Rng, image: Tensor) -> Tensor:
    """Gamma, contrast, inversion, colours, blur and noise on a stretched (3, 256, 256) view."""
    x = image / 255
    if rng.random() < 0.6:
        x = x ** float(np.exp(rng.normal(0, 0.35)))
    if rng.random() < 0.5:
        x = (x - 0.5) * float(rng.uniform(0.5, 1.1)) + 0.5 + float(rng.uniform(-0.15, 0.15))
    if rng.random() < 0.08:
        x = 1 - x
    if rng.random() < 0.3:
        x = x * torch.from_numpy(rng.uniform(0.7, 1.15, (3, 1, 1)).astype(np.float32))
    if rng.random() < 0.08:
        x = x[torch.from_numpy(rng.permutation(3))]
    if rng.random() < 0.1:
        x = x.mean(0, keepdim=True).expand(3, -1, -1)
    if rng.random() < 0.12:
        x = torch.from_numpy(ndi.gaussian_filter(x.numpy(), (0, s := float(rng.uniform(0.4, 1.6)), s)))
    if rng.random() < 0.25:
        x = x + torch.from_numpy(rng.normal(0, rng.uniform(0.005, 0.06), (3, SIDE, SIDE)).astype(np.float32))
    return (x * 255).clamp(0, 255)


def draw_window(rng: Rng, pool: Pool, prompts: int) -> Window:
    """One window with ``prompts`` objects (some may repeat), the zoom chosen for one of them."""
    while True:
        rgb, labels, source = pool.draw(rng)
        boxes = ndi.find_objects(labels)
        area = np.bincount(labels.ravel(), minlength=len(boxes) + 1)
        ids = [i for i, box in enumerate(boxes, 1) if box is not None and area[i] >= 20]
        if not ids:
            continue
        box = boxes[int(rng.choice(ids)) - 1]
        extent = max(s.stop - s.start for s in box)
        shape = labels.shape
        whole = rng.random() < 0.12 and extent * SIDE / max(shape) > 8
        scale = SIDE / max(shape) if whole else _choose_scale(rng, extent, shape)
        centre = np.array([(s.start + s.stop) / 2 for s in box])
        grid = _grid(rng, np.zeros(2) if whole else centre, scale, shape, upright=whole)
        picture = torch.from_numpy(rgb).permute(2, 0, 1).float()
        if scale < 0.8:  # keep what is between the samples
            picture = torch.from_numpy(ndi.gaussian_filter(picture.numpy(), (0, 0.4 / scale, 0.4 / scale)))
        image = stretch(_sample(picture, grid))
        image = image if rng.random() < pool.stage.plain else _jitter(rng, image)
        inside = _sample(torch.from_numpy(labels.astype(np.float32))[None], grid, "nearest")[0].numpy().astype(int)
        if whole:  # what lies beyond the picture is padding, as SAM pads
            h, w = (round(n * scale) for n in shape)
            image[:, h:], image[:, :, w:], inside[h:], inside[:, w:] = 127.0, 127.0, 0, 0
        seen = np.bincount(inside.ravel())
        ids = [i for i in range(1, len(seen)) if seen[i] >= 24]
        if not ids:
            continue
        chosen = rng.choice(ids, prompts, replace=len(ids) < prompts)
        low = torch.from_numpy((labels[None] == chosen[:, None, None]).astype(np.float32))
        masks = _sample(low, grid)
        if whole:
            masks[:, h:], masks[:, :, w:] = 0.0, 0.0
        if source in BACKGROUND_CLICKS and rng.random() < 0.25 and (inside == 0).mean() > 0.1:
            masks[-1] = 0.0
            masks[-1][torch.from_numpy(inside == 0)] = -1.0  # where a background click may fall
        return Window(image, masks, source)
