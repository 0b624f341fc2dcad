"""The layer `SAM boxes`: one box as a prompt, or the boxes that words found, with their names."""

from __future__ import annotations

import numpy as np
import pandas as pd
from napari.components import Dims
from napari.layers import Image, Shapes
from numpy.typing import NDArray

from napari_samdepth.session.layers import spatial_shape, view_placement
from napari_samdepth.session.searches import DRAWN, FoundBox

COLOUR = "#f1c40f"
NO_NUMBER = -2
"""In the column `number`: a box that is a prompt. Others are as in `FoundBox.number`."""


class BoxLayer:
    """Reads and writes the boxes; what a box stands for is kept in the layer's features, so that it moves with it."""

    def __init__(self, image: Image, dims: Dims) -> None:
        """Make the layer on the grid of `image`, in the units of the view."""
        self.layer = Shapes(
            ndim=image.ndim,
            name="SAM boxes",
            face_color="transparent",
            edge_color=COLOUR,
            edge_width=max(max(spatial_shape(image)[-2:]) / 250, 1.0),
            features=_features([]),
            feature_defaults=_default(""),
            text={"string": "{text}", "color": COLOUR, "size": 9, "anchor": "upper_left"},
            **view_placement(image, dims),
        )
        self.layer.mode = "add_rectangle"  # whoever selects it wants to drag a box

    def read(self) -> tuple[tuple[NDArray[np.float64], ...], tuple[FoundBox, ...]]:
        """Return the boxes that are prompts (each (4, ndim) corners), and those that words found."""
        prompts, found = [], []
        rows = self.layer.features.itertuples(index=False)
        for corners, row in zip(self.layer.data, rows, strict=True):
            data = np.array(corners, dtype=np.float64)
            if row.number == NO_NUMBER:
                prompts.append(data)
            else:
                found.append(FoundBox(data, str(row.name), float(row.score), int(row.number)))
        return tuple(prompts), tuple(found)

    def write(self, prompts: tuple[NDArray[np.float64], ...], found: tuple[FoundBox, ...]) -> None:
        """Make the layer hold these and nothing else."""
        layer = self.layer
        if found and not (layer.features["number"] != NO_NUMBER).any():
            layer.mode = "select"  # what words found is there to be looked through, moved and deleted
        if layer.nshapes:
            layer.selected_data = set(range(layer.nshapes))
            layer.remove_selected()
        boxes = [*prompts, *(box.corners for box in found)]
        if boxes:
            # a polygon, path or lasso serves as the box around it
            layer.add(boxes, shape_type=["rectangle" if len(corners) in (2, 4) else "polygon" for corners in boxes])
            layer.selected_data = set()
        plain = [FoundBox(corners, "", np.nan, NO_NUMBER) for corners in prompts]
        layer.features = _features([*plain, *found])
        layer.refresh_text()

    def draw_as(self, name: str | None) -> None:
        """Say what a box drawn from now on is: a prompt, or (with a name) one more of those that words found."""
        self.layer.feature_defaults = _default(name or "", NO_NUMBER if name is None else DRAWN)

    def settle(self) -> None:
        """After the user drew a box: one prompt at a time, a new one replaces the one before."""
        layer = self.layer
        # napari 0.9 tells of a shape before it stops drawing it, and stumbles over a polygon if another one goes then;
        # of one too small to be kept it forgets the shape, but not its row of features
        layer._is_creating = False
        if len(layer.features) > layer.nshapes:
            layer.features = layer.features.iloc[: layer.nshapes]
        prompts = np.flatnonzero(layer.features["number"] == NO_NUMBER)
        if len(prompts) > 1:
            layer.selected_data = set(prompts[:-1].tolist())
            layer.remove_selected()


def _features(boxes: list[FoundBox]) -> pd.DataFrame:
    table = {
        "name": np.array([box.name for box in boxes], dtype=object),
        "score": np.array([box.score for box in boxes], dtype=np.float64),
        "number": np.array([box.number for box in boxes], dtype=np.int64),
        "text": np.array([_text(box) for box in boxes], dtype=object),
    }
    return pd.DataFrame(table)


def _default(name: str, number: int = NO_NUMBER) -> dict[str, object]:
    return {"name": name, "score": np.nan, "number": number, "text": name}


def _text(box: FoundBox) -> str:
    return box.name if np.isnan(box.score) else f"{box.name} {box.score:.2f}"
