"""Reading the nuclei pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.segmenter.paint import Array


def read_nuclei(root: Path, name: str) -> tuple[Array, Array]:
    """Picture (H, W, 3) uint8 and labels (H, W) of one nuclei image."""
    from PIL import Image

    with Image.open(root / "images" / f"{name}.png") as handle:
        rgb = np.array(handle.convert("RGB"))
    with Image.open(root / "labels" / f"{name}.png") as handle:
        labels = np.asarray(handle).astype(np.int32)
    return rgb, labels
