"""Non-maximum suppression is torchvision's."""

from __future__ import annotations

import numpy as np
import pytest

from napari_samdepth.core.suppression import non_maximum


def test_of_duplicates_the_best_stays() -> None:
    torchvision = pytest.importorskip("torchvision")
    import torch

    rng = np.random.default_rng(2)
    corners = rng.uniform(0, 100, (400, 2))
    boxes = np.hstack([corners, corners + rng.uniform(1, 60, (400, 2))])
    scores = rng.random(400)
    for threshold in (0.0, 0.3, 0.7, 1.0):
        ours = non_maximum(boxes, scores, threshold)
        theirs = torchvision.ops.nms(torch.tensor(boxes), torch.tensor(scores), threshold).numpy()
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.6, 0.7, 0.9])
def test_boxes_at_the_very_threshold_fall_to_torchvisions_side(threshold: float) -> None:
    """0.7 * 90 is less than 63 in double precision, but torchvision divides in single."""
    torchvision = pytest.importorskip("torchvision")
    import torch

    for length in range(10, 400, 10):
        boxes = np.array([[0, 0, 1, length], [0, 0, 1, round(threshold * length)], [3, 3, 3, 9], [3, 3, 3, 9]], float)
        scores = np.array([0.9, 0.8, 0.7, 0.6])
        theirs = torchvision.ops.nms(torch.tensor(boxes).float(), torch.tensor(scores).float(), threshold).numpy()
        assert np.array_equal(non_maximum(boxes, scores, threshold), theirs), length
