"""What finding many masks at once shares: bringing them to the image's full size, and saying what became of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.components import Dims
from numpy.typing import NDArray
from scipy import ndimage

from napari_samdepth.core.errors import LayerError
from napari_samdepth.session.encoding import Encoded
from napari_samdepth.session.geometry import Shown, plane_affine, shown_plane
from napari_samdepth.session.layers import spatial_shape

NOTHING_ADDED = "These masks add nothing: their pixels belong to other labels already."


ELSEWHERE = "in the slice that it was started in; go back to it to use them."


def shown_elsewhere(encoded: Encoded, dims: Dims) -> bool:
    """Whether another slice is shown than the one encoded, or none."""
    try:
        return shown_plane(encoded.image, dims).slice_key != encoded.shown.slice_key
    except LayerError:
        return True


def full_plane(encoded: Encoded) -> Shown:
    """Return the encoded plane at the image's full resolution."""
    return encoded.shown.at_full_resolution(spatial_shape(encoded.image))


def at_full_size(labels: NDArray[np.int32], encoded: Encoded, dims: Dims) -> NDArray[np.int32]:
    """Return labels of the encoded plane at the image's full resolution (nearest neighbour)."""
    if encoded.shown.level == 0:
        return labels
    full = full_plane(encoded)
    matrix = plane_affine(encoded.image, full, encoded.image, encoded.shown, dims)
    moved = ndimage.affine_transform(labels, matrix[:, :2], offset=matrix[:, 2], output_shape=full.shape, order=0)
    return np.asarray(moved, dtype=np.int32)


def added(numbers: NDArray[np.integer[Any]]) -> str:
    """Return a sentence on how many masks were added, of the label that each got (0: none)."""
    count, left = int((numbers > 0).sum()), int((numbers == 0).sum())
    text = "1 mask was added as a label" if count == 1 else f"{count} masks were added as labels"
    return f"{text}; {left} left out, on labels that are there already." if left else f"{text}."
