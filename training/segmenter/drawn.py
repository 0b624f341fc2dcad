"""A user that draws: a stroke along an object, a lasso around it, and clicks on the same stroke to compare with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage as ndi
from skimage.measure import find_contours
from skimage.morphology import convex_hull_image

from napari_samdepth.core.prompts import Prompts
from napari_samdepth.models.protocols import Segmenter
from training.segmenter.judge import centre, judge, overlap
from training.segmenter.paint import Array

INNER = 0.35
"""A stroke stays this share of the object's greatest depth away from its edge."""
HAND = 0.3
"""Standard deviation of a hand that draws, in pixels."""
COLUMNS = (
    "1 click",
    "2 clicks, the second where it is most wrong",
    "2 clicks at ¼ and ¾",
    "2 clicks at the ends",
    "scribble",
    "lasso",
)


def stroke(truth: Array, rng: np.random.Generator) -> Array:
    """A path (n, 2) (row, col) along the long axis of the object ``truth`` (H, W) bool, through its deepest pixel."""
    middle = np.array(centre(truth), dtype=float)
    depth = ndi.distance_transform_edt(np.pad(truth, 1))[1:-1, 1:-1]
    pieces, _ = ndi.label(depth >= INNER * depth.max())
    inner = pieces == pieces[tuple(middle.astype(int))]
    places = np.argwhere(inner).astype(float)
    axis = np.linalg.svd(places - places.mean(0), full_matrices=False)[2][0] if len(places) > 2 else np.array([0.0, 1])

    def walk(step: Array) -> Iterator[Array]:
        at = middle + step
        while (at > -0.5).all() and (at < np.array(truth.shape) - 0.5).all() and inner[tuple(np.round(at).astype(int))]:
            yield at
            at = at + step

    path = np.array([*list(walk(-axis))[::-1], middle, *walk(axis)])
    return np.asarray(path + rng.normal(0, HAND, path.shape) if len(path) > 1 else path)


def lasso(truth: Array, away: int = 2, corners: int = 24) -> Array:
    """A polygon (n, 2) (row, col) ``away`` pixels off the convex hull of the object."""
    hull = ndi.binary_dilation(np.pad(convex_hull_image(truth), away + 1), iterations=away)
    outline = max(find_contours(hull.astype(float), 0.5), key=len) - (away + 1)
    return np.asarray(outline[:: max(1, len(outline) // corners)])


def drawn(segmenter: Segmenter, pictures: Iterator[tuple[str, Array, list[Array]]]) -> str:
    """Markdown: mean IoU of every way to point at the same objects."""
    rng = np.random.default_rng(0)
    rows = []
    for _, rgb, objects in pictures:
        embedding = segmenter.encode(rgb)
        for truth in objects:
            path = stroke(truth, rng)
            ends, quarters = path[[0, -1]], path[[len(path) // 4, 3 * (len(path) - 1) // 4]]
            asked = Prompts(quarters), Prompts(ends), Prompts(scribbles=[path]), Prompts(lasso=lasso(truth))
            masks = [segmenter.decode(embedding, prompts).patch().full(truth.shape) for prompts in asked]
            clicks = judge(segmenter, embedding, truth, clicks=2, box=False).clicks
            rows.append([*clicks, *(overlap(mask, truth) for mask in masks)])
    means = " | ".join(f"{value:.3f}" for value in np.mean(rows, axis=0))
    head = "| objects | " + " | ".join(COLUMNS) + " |"
    return "\n".join([head, "|" + "---|" * (head.count("|") - 1), f"| {len(rows)} | {means} |"])
