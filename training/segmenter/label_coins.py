"""The 24 coins of scikit-image's picture, labelled once by watershed on the edges and checked by eye.

``python -m training.segmenter.label_coins tests/data/coins-labels.png`` writes them as 8-bit PNG, 0 for the ground.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage as ndi

from training.segmenter.paint import Array


def coin_labels() -> Array:
    """Labels uint8 (303, 384), 1 to 24."""
    from skimage import data, filters, measure, morphology, segmentation

    picture = data.coins()
    edges = filters.sobel(filters.gaussian(picture, 1))
    seeds = np.where(picture < 30, 1, np.where(picture > 150, 2, 0))
    inside = ndi.binary_fill_holes(segmentation.watershed(edges, seeds) == 2)
    return np.asarray(measure.label(morphology.opening(inside, morphology.disk(4)))).astype(np.uint8)


if __name__ == "__main__":
    Image.fromarray(coin_labels()).save(Path(sys.argv[1]), optimize=True)
