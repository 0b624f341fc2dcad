"""Sample pictures for napari's menu File > Open Sample; all come with scikit-image, nothing is downloaded."""

from __future__ import annotations

from typing import Any

import numpy as np
from skimage import data

from napari_samdepth.session.layers import METADATA_KEY

LayerData = tuple[Any, dict[str, Any], str]
"""What napari makes a layer of: its data, the keyword arguments of the layer, its type."""


def motorcycle() -> list[LayerData]:
    """Return a photograph of a workshop, (500, 741, 3) uint8, over its measured disparity.

    The disparity, (500, 741) float32 in pixels, is larger where things are nearer; NaN where nothing was measured.
    Source: Middlebury Stereo 2014, scene Motorcycle, left view, reduced by 4 (D. Scharstein et al., "High-resolution
    stereo datasets with subpixel-accurate ground truth", GCPR 2014).
    """
    left, _, disparity = data.stereo_motorcycle()
    measured = np.where(np.isfinite(disparity), disparity, np.nan).astype(np.float32)
    noted = {"kind": "inverse", "unit": "px", "source": "measured disparity (Middlebury 2014, Motorcycle)"}
    # the photograph comes last, so that it lies on top and is the selected layer
    return [
        (measured, {"name": "motorcycle disparity", "colormap": "inferno", "metadata": {METADATA_KEY: noted}}, "image"),
        (left, {"name": "motorcycle", "rgb": True}, "image"),
    ]


def coins() -> list[LayerData]:
    """Return 24 coins on a dark ground, (303, 384) uint8."""
    return [(data.coins(), {"name": "coins"}, "image")]


def astronaut() -> list[LayerData]:
    """Return a portrait, (512, 512, 3) uint8."""
    return [(data.astronaut(), {"name": "astronaut", "rgb": True}, "image")]
