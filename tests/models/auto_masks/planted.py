"""A real Sam whose decoder answers from a drawn scene: random weights would give masks that pass no filter.

Everything around the decoder stays what it is: the generator of segment_anything, its post-processing, and ours.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

SIDE, GRID, LOW_RES = 256, 16, 64


def small_sam() -> Sam:
    """Return a small Sam, so that the tests are quick."""
    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        depth=1, embed_dim=16, img_size=SIDE, mlp_ratio=1, norm_layer=partial(nn.LayerNorm, eps=1e-6), num_heads=1,
        patch_size=16, qkv_bias=True, use_rel_pos=True, global_attn_indexes=(), window_size=8, out_chans=256,
    )  # fmt: skip
    sam = Sam(
        encoder,
        PromptEncoder(256, (GRID, GRID), (SIDE, SIDE), 16),
        MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=64, num_heads=8),
            transformer_dim=256,
        ),
    )
    return sam.eval()


class PlantedPrompts(nn.Module):
    """Hands the clicks through: the sparse embedding of a click is its (x, y) in model pixels."""

    mask_input_size = (LOW_RES, LOW_RES)

    def forward(self, points: tuple[Tensor, Tensor], boxes: None = None, masks: None = None) -> tuple[Tensor, Tensor]:
        return points[0][:, :1], torch.zeros(1)

    def get_dense_pe(self) -> Tensor:
        return torch.zeros(1)


class PlantedDecoder(nn.Module):
    """Answers a click with three masks of the object below it: itself, grown, shrunk; soft or hard at the edge."""

    def __init__(self, scene: NDArray[np.int32]) -> None:
        super().__init__()
        self.scene = scene
        rng = np.random.default_rng(1)
        count = int(scene.max())
        self.softness = rng.uniform(0.2, 3.0, count + 1)
        self.score = rng.uniform(0.7, 1.0, (count + 1, 3))

    def forward(self, sparse_prompt_embeddings: Tensor, **_others: Any) -> tuple[Tensor, Tensor]:
        logits, scores = [], []
        for x, y in sparse_prompt_embeddings[:, 0].tolist():
            row, col = (min(int(at * LOW_RES / SIDE), LOW_RES - 1) for at in (y, x))
            number = int(self.scene[row, col])
            inside = self.scene == number if number else np.zeros_like(self.scene, dtype=bool)
            away = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
            steepness = 25.0 / self.softness[number]
            logits.append(np.stack([(away + grown) * steepness for grown in (0.0, 0.8, -0.6)]))
            scores.append(self.score[number])
        return torch.tensor(np.array(logits), dtype=torch.float32), torch.tensor(np.array(scores), dtype=torch.float32)


def scene(seed: int = 0, objects: int = 60) -> NDArray[np.int32]:
    """Return ellipses of all sizes as labels (64, 64), the later above the earlier."""
    rng = np.random.default_rng(seed)
    out = np.zeros((LOW_RES, LOW_RES), dtype=np.int32)
    rows, cols = np.mgrid[:LOW_RES, :LOW_RES]
    for number in range(1, objects + 1):
        centre, radii = rng.uniform(0, LOW_RES, 2), rng.uniform(1.5, 7, 2)
        out[((rows - centre[0]) / radii[0]) ** 2 + ((cols - centre[1]) / radii[1]) ** 2 < 1] = number
    return out


class PlantedDiscs(nn.Module):
    """Answers a click with discs whose edges run through many low-resolution samples, and soft enough to matter."""

    def __init__(self, seed: int, count: int = 40) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.centres = rng.integers(4, LOW_RES - 4, (count, 2))
        self.radii = rng.choice([5.0, 50**0.5, 65**0.5], count)  # 12 and 16 points of a grid lie at these distances
        self.steepness = rng.uniform(15, 40, count)
        self.score = rng.uniform(0.7, 1.0, (count, 3))

    def forward(self, sparse_prompt_embeddings: Tensor, **_others: Any) -> tuple[Tensor, Tensor]:
        rows, cols = np.mgrid[:LOW_RES, :LOW_RES]
        logits, scores = [], []
        for x, y in sparse_prompt_embeddings[:, 0].tolist():
            away = np.hypot(*(self.centres - np.array([y, x]) * (LOW_RES / SIDE)).T)
            disc = int(np.argmin(away - self.radii))
            distance = np.hypot(rows - self.centres[disc, 0], cols - self.centres[disc, 1])
            radii = self.radii[disc] + np.array([0.0, 1.0, -2.0])
            logits.append((radii[:, None, None] - distance) * self.steepness[disc])
            scores.append(self.score[disc])
        return torch.tensor(np.array(logits), dtype=torch.float32), torch.tensor(np.array(scores), dtype=torch.float32)


def discs_sam(seed: int) -> Sam:
    """Return a small Sam that answers with discs."""
    sam = small_sam()
    sam.prompt_encoder = PlantedPrompts()
    sam.mask_decoder = PlantedDiscs(seed)
    return sam


def planted_sam(seed: int = 0) -> Sam:
    """Return a small Sam with planted answers."""
    sam = small_sam()
    sam.prompt_encoder = PlantedPrompts()
    sam.mask_decoder = PlantedDecoder(scene(seed))
    return sam
