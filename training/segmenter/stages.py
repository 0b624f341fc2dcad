"""The stages of training: what is drawn how often, and how far training looks ahead of the first click."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes
    ----------
    sources
        How often a window comes from each source; the three kinds of nuclei picture are far from equally many.
    rounds
        How often a step has one, two or three rounds of clicks.
    boxes
        How often the first prompt is a box.
    plain
        How often a window keeps its brightness and colours.
    """

    sources: Mapping[str, float]
    rounds: tuple[float, float, float] = (0.5, 0.3, 0.2)
    boxes: float = 0.2
    plain: float = 0.0


_ALL = {
    "fluo": 0.16, "colour": 0.14, "bright_gray": 0.09, "fluorescence": 0.05, "stained": 0.05, "bright_field": 0.06,
    "coins": 0.08, "composed": 0.14, "photo_regions": 0.04, "raycast": 0.19,
}  # fmt: skip
_NUCLEI = {
    "fluo": 0.40, "colour": 0.24, "bright_gray": 0.10, "fluorescence": 0.03, "stained": 0.02, "bright_field": 0.02,
    "coins": 0.03, "composed": 0.06, "photo_regions": 0.02, "raycast": 0.08,
}  # fmt: skip
_MOSTLY_NUCLEI = {
    "fluo": 0.48, "colour": 0.23, "bright_gray": 0.08, "fluorescence": 0.02, "stained": 0.02, "bright_field": 0.02,
    "coins": 0.03, "composed": 0.04, "photo_regions": 0.02, "raycast": 0.06,
}  # fmt: skip

STAGES = {
    "all": Stage(_ALL),
    "nuclei": Stage(_NUCLEI),
    "click": Stage(_NUCLEI, rounds=(0.76, 0.14, 0.1)),
    "plain": Stage(_MOSTLY_NUCLEI, rounds=(0.74, 0.15, 0.11), boxes=0.12, plain=0.4),
}
"""In the order in which they follow each other: from everything to real nuclei, as a user sees them, by one click."""
