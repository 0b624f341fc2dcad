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
