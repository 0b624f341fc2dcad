"""What needs no training: Otsu's threshold with watershed, and random walker, given the same clicks."""

from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi

from training.segmenter.judge import centre, corrective, overlap
from training.segmenter.paint import Array

REACH = 48


def _grey(rgb: Array) -> Array:
    return np.asarray(ndi.gaussian_filter(rgb.astype(np.float32).mean(2), 1))


def otsu_watershed(rgb: Array) -> Array:
    """Labels of a picture: Otsu's threshold (the rarer side is the objects), split at the distance map's maxima."""
    from skimage.feature import peak_local_max
    from skimage.filters import threshold_otsu
    from skimage.segmentation import watershed

    grey = _grey(rgb)
    inside = grey > threshold_otsu(grey)
    if inside.mean() > 0.5:
        inside = ~inside
    inside = ndi.binary_fill_holes(inside)
    depth = ndi.gaussian_filter(ndi.distance_transform_edt(inside), 1)
    peaks = peak_local_max(depth, min_distance=5, labels=inside.astype(int))
    markers = np.zeros(grey.shape, int)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-depth, markers, mask=inside))


def region_under(labels: Array, truth: Array) -> float:
    """IoU of the region under the click at the object's centre."""
    number = labels[centre(truth)]
    return overlap(labels == number, truth) if number else 0.0


def _walk(rgb: Array, clicks: list[tuple[tuple[int, int], int]]) -> Array:
    """Random walker (Grady 2006) in a window round the first click; the window's border is background."""
    from skimage.segmentation import random_walker

    (row, col), _ = clicks[0]
    top, left = max(0, row - REACH), max(0, col - REACH)
    part = _grey(rgb)[top : row + REACH, left : col + REACH]
    seeds = np.zeros(part.shape, int)
    seeds[[0, -1]] = seeds[:, [0, -1]] = 2
    for at, label in clicks:
        r, c = at[0] - top, at[1] - left
        if 0 <= r < part.shape[0] and 0 <= c < part.shape[1]:
            seeds[max(0, r - 1) : r + 2, max(0, c - 1) : c + 2] = 1 if label else 2
    mask = np.zeros(rgb.shape[:2], bool)
    scaled = (part - part.min()) / (np.ptp(part) + 1e-6)
    walked = random_walker(scaled, seeds, beta=300, mode="bf")
    mask[top : top + part.shape[0], left : left + part.shape[1]] = walked == 1
    return mask


def random_walker_clicks(rgb: Array, truth: Array, clicks: int) -> list[float]:
    """IoU after each of ``clicks`` clicks."""
    made = [(centre(truth), 1)]
    ious = []
    for _ in range(clicks):
        mask = _walk(rgb, made)
        ious.append(overlap(mask, truth))
        following = corrective(mask, truth)
        if following is None:
            break
        made.append(following)
    return ious + [ious[-1]] * (clicks - len(ious))
