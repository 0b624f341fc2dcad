"""Small holes and islands of a mask, as segment_anything's postprocess_small_regions removes them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from napari_samdepth.core.candidates import Patch


def without_small_regions(patch: Patch, min_area: int) -> tuple[Patch, bool]:
    """Return a mask with holes and islands of fewer than `min_area` pixels removed, and whether that changed it.

    If every island is small the largest stays. Regions touch at corners, too.
    """
    neighbours = np.ones((3, 3), dtype=bool)
    padded = np.pad(patch.mask, 1)
    holes, count = ndimage.label(~padded, neighbours)
    sizes = np.bincount(holes.ravel(), minlength=count + 1)
    small = sizes < min_area
    small[[0, holes[0, 0]]] = False
    filled = padded | small[holes]
    islands, count = ndimage.label(filled, neighbours)
    sizes = np.bincount(islands.ravel(), minlength=count + 1)
    keep = sizes >= min_area
    keep[0] = False
    if count and not keep.any():
        keep[1 + int(np.argmax(sizes[1:]))] = True
    clean = keep[islands]
    changed = bool((clean != padded).any())
    return Patch(clean[1:-1, 1:-1], patch.origin), changed
