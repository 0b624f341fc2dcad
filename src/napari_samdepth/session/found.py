"""What finding many masks at once shares: bringing them to the image's full size, and noting what is known of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from napari.components import Dims
from napari.layers import Labels
from numpy.typing import NDArray
from scipy import ndimage

from napari_samdepth.session.encoding import Encoded
from napari_samdepth.session.geometry import Shown, plane_affine
from napari_samdepth.session.layers import known_features, spatial_shape, write_features

NOTHING_ADDED = "These masks add nothing: their pixels belong to other labels already."


def full_plane(encoded: Encoded) -> Shown:
    """Return the encoded plane at the image's full resolution."""
    shown, size = encoded.shown, spatial_shape(encoded.image)
    return replace(shown, shape=(size[shown.rows_axis], size[shown.cols_axis]), step=(1.0, 1.0), level=0)


def at_full_size(labels: NDArray[np.int32], encoded: Encoded, dims: Dims) -> NDArray[np.int32]:
    """Return labels of the encoded plane at the image's full resolution (nearest neighbour)."""
    if encoded.shown.level == 0:
        return labels
    full = full_plane(encoded)
    matrix = plane_affine(encoded.image, full, encoded.image, encoded.shown, dims)
    moved = ndimage.affine_transform(labels, matrix[:, :2], offset=matrix[:, 2], output_shape=full.shape, order=0)
    return np.asarray(moved, dtype=np.int32)


def added(numbers: NDArray[np.int_]) -> str:
    """Return a sentence on how many masks were added, of the label that each got (0: none)."""
    count, left = int((numbers > 0).sum()), int((numbers == 0).sum())
    text = "1 mask was added as a label" if count == 1 else f"{count} masks were added as labels"
    return f"{text}; {left} left out, on labels that are there already." if left else f"{text}."


def add_features(layer: Labels, numbers: NDArray[np.int_], told: Mapping[str, Any]) -> None:
    """Note in the layer's features what is known of new labels; what is there of others stays.

    Parameters
    ----------
    layer
        Where the labels were written.
    numbers
        (n,) the labels.
    told
        Column to n values.
    """
    table = pd.DataFrame({"index": numbers, **told})
    old = known_features(layer)
    if len(old):
        table = pd.concat([old[~old["index"].isin(numbers)], table], ignore_index=True)
    write_features(layer, table)
