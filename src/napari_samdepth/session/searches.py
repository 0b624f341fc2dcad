"""What searches of a plane found, as values: the masks of the whole image, and the boxes that words name."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.detections import Detections
from napari_samdepth.core.maskset import MaskSet
from napari_samdepth.session.encoding import Encoded
from napari_samdepth.session.geometry import Shown

DRAWN = -1
"""Number of a box that the user drew."""


@dataclass(frozen=True, eq=False)
class WholeImage:
    """All masks found in an encoded plane, whatever their scores."""

    found: MaskSet
    encoded: Encoded


@dataclass(frozen=True, eq=False)
class FoundBox:
    """A box that words found, or that was drawn beside such.

    Attributes
    ----------
    corners
        (4, ndim): the corners of a rectangle in data pixels of the Shapes layer.
    name
        The phrase that found it.
    score
        How sure the detector was, NaN for one drawn by hand.
    number
        Which of the detections it came from (see `Sought.first`), -1 for one drawn by hand.
    """

    corners: NDArray[np.float64]
    name: str
    score: float
    number: int

    def same(self, other: FoundBox) -> bool:
        """Whether both are the same box of the same object."""
        return (
            (self.number, self.name) == (other.number, other.name)
            and self.corners.shape == other.corners.shape
            and np.allclose(self.corners, other.corners, atol=1e-3)
        )


@dataclass(frozen=True, eq=False)
class Sought:
    """All that words found in a plane, whatever the scores.

    Attributes
    ----------
    detections
        The objects.
    shown
        The plane.
    first
        Number of the first detection's box; those that follow count on. No two searches share a number.
    """

    detections: Detections
    shown: Shown
    first: int

    def boxes(self, threshold: float, overlap: float, without: frozenset[int]) -> list[FoundBox]:
        """Return the boxes above a score, the surest first, of which no two overlap more (IoU), `without` some."""
        indices = self.detections.above(threshold, overlap)
        return [self.box(int(index)) for index in indices if int(index) + self.first not in without]

    def box(self, index: int) -> FoundBox:
        """Return the box of a detection, in data pixels of the image."""
        # detections count from the first pixel's edge, layers from its centre
        top, left, bottom, right = self.detections.boxes[index] - 0.5
        corners = self.shown.to_data(np.array([[top, left], [top, right], [bottom, right], [bottom, left]]))
        return FoundBox(corners, self.detections.names[index], float(self.detections.scores[index]), index + self.first)

    def unmoved(self, box: FoundBox) -> bool:
        """Whether a box is of these detections and still lies where the detector put it."""
        index = box.number - self.first
        return 0 <= index < len(self.detections) and box.same(replace(box, corners=self.box(index).corners))

    def mask(self, box: FoundBox) -> Patch | None:
        """Return the mask that the model gave with an unmoved box, None where there is none."""
        patches = self.detections.patches
        return patches[box.number - self.first] if patches is not None and self.unmoved(box) else None
