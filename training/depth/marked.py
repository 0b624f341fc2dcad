"""The check set: pairs of touching things in photographs, marked by hand with which of the two is in front.

Of each pair a point on the thing in front and one on the thing behind are kept, about as far from the edge between them
on either side.  Two half discs round the edge's middle stand for the two things.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.measure.ordering import order_touching
from napari_samdepth.measure.regions import Regions
from training.depth import pictures

Array = np.ndarray[Any, Any]
FILE = Path(__file__).parents[2] / "tests/data/depth_order.json"
FRONT, BEHIND = 1, 2
LONGEST = 800
"""Photographs from Debian's packages are reduced to so many pixels; points are given in that size."""


class Verdict(NamedTuple):
    """How many pairs the order of touching labels got right, wrong, and was unsure of; and which went wrong."""

    right: int
    wrong: int
    unsure: int
    mistakes: list[str]

    @property
    def sure_right(self) -> float:
        """Share of the sure answers that are right."""
        return self.right / max(self.right + self.wrong, 1)

    def __str__(self) -> str:
        share = f"{self.right} right, {self.wrong} wrong, {self.unsure} unsure; {self.sure_right:.1%} of the sure ones"
        return f"{share}{'; wrong: ' + ', '.join(self.mistakes) if self.mistakes else ''}"


def half_discs(shape: tuple[int, int], front: Array, behind: Array) -> Array:
    """Labels (H, W) int32: `FRONT` and `BEHIND` on either side of the middle between two points (row, col)."""
    middle, towards = (front + behind) / 2, front - behind
    rows, cols = np.indices(shape)
    radius = 0.75 * float(np.hypot(*towards))
    inside = np.hypot(rows - middle[0], cols - middle[1]) <= radius
    side = (rows - middle[0]) * towards[0] + (cols - middle[1]) * towards[1]
    return np.where(inside, np.where(side > 0, FRONT, BEHIND), 0).astype(np.int32)


def at_hand(folder: Path | None) -> list[dict[str, Any]]:
    """The marked pictures that need no package, and with `folder` those of the Debian packages unpacked there."""
    marked: list[dict[str, Any]] = json.loads(FILE.read_text())
    return [
        picture
        for picture in marked
        if picture["key"].split("/")[0] in pictures.INSTALLED
        or (folder is not None and (folder / picture["key"].split("/")[0]).exists())
    ]


def judge(estimate: Callable[[Array], DepthMap], folder: Path | None = None) -> Verdict:
    """Compare what an estimator's depth says of the order of touching labels with the marks."""
    right, wrong, unsure = 0, 0, 0
    mistakes = []
    for picture in at_hand(folder):
        rgb = pictures.photograph(folder or Path(), picture["key"], LONGEST)
        if list(rgb.shape[:2]) != picture["size"]:
            raise ValueError(f"{picture['key']} is of {rgb.shape[:2]}, marked at {picture['size']}.")
        depth = estimate(rgb)
        for pair in picture["pairs"]:
            labels = half_discs(depth.values.shape[:2], np.array(pair["front"]), np.array(pair["behind"]))
            found = order_touching(Regions.of(labels), depth)
            relation = found[0].relation if found else "unsure"
            right += relation == "front"
            wrong += relation == "behind"
            unsure += relation == "unsure"
            if relation == "behind":
                mistakes.append(f"{picture['key'].split('/')[-1]} ({pair['what']})")
    return Verdict(right, wrong, unsure, mistakes)
