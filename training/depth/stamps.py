"""Cut-outs with exact outlines from Debian's package tuxpaint-stamps-default: photographs of animals, fruit, tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]
PACKAGE = "tuxpaint-stamps-default"
KINDS = (
    "animals",
    "food",
    "hobbies",
    "household",
    "medical",
    "military",
    "people",
    "plants",
    "space",
    "sports",
    "town",
    "vehicles",
    "clothes",
)
SIDE = 160
"""Cut-outs are kept at so many pixels a side."""
LEAST = 200
"""Smaller ones in pixels are drawings for children's pictures, as are those of few colours."""
COLOURS = 2500


def find(folder: Path) -> list[Path]:
    """The photographs among the stamps below `folder`: large enough, of many colours, not cartoons or signs."""
    found = []
    for path in sorted(folder.rglob("*.png")):
        parts = path.parts[path.parts.index("stamps") + 1 :] if "stamps" in path.parts else ()
        if not parts or parts[0] not in KINDS or {"cartoon", "roadsigns", "flags", "planets", "moon"} & set(parts):
            continue
        with Image.open(path) as image:
            if min(image.size) < LEAST // 2 or max(image.size) < LEAST:
                continue
            pixels = np.asarray(image.convert("RGBA").resize((96, 96)))
        opaque = pixels[pixels[..., 3] > 200][:, :3]
        if len(opaque) > 900 and len(np.unique(opaque, axis=0)) > 0.45 * len(opaque):
            found.append(path)
    return found


def load(paths: list[Path], side: int = SIDE) -> tuple[Array, Array]:
    """Cut-outs (n, side, side, 4) uint8, each cropped to what is opaque and stretched, and height / width (n,)."""
    pixels, ratio = [], []
    for path in paths:
        with Image.open(path) as image:
            whole = image.convert("RGBA")
        box = whole.getchannel("A").point(lambda value: 255 * (value > 128)).getbbox()
        cut = whole.crop(box)
        ratio.append(cut.size[1] / cut.size[0])
        pixels.append(np.asarray(cut.resize((side, side), Image.Resampling.BOX)))
    if not pixels:
        return np.zeros((0, side, side, 4), np.uint8), np.zeros(0)
    return np.stack(pixels), np.array(ratio)
