from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_samdepth.core import enlarge
from napari_samdepth.core.enlarge import mask_in_box
from napari_samdepth.core.resample import Frame, logits_in_box, positive_box


@pytest.mark.parametrize("smooth", [0, 3, 15])
@pytest.mark.parametrize(
    "frame",
    [
        Frame((700, 900), (256, 256), (199, 256)),
        Frame((1500, 311), (256, 256), (256, 53)),
        Frame((900, 901), (64, 64), (64, 64)),
        Frame((300, 300), (256, 256), (256, 256)),
    ],
)
def test_masks_are_those_of_the_interpolated_logits(
    smooth: float, frame: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    logits = gaussian_filter(rng.normal(size=(64, 64)), smooth, mode="wrap").astype(np.float32)
    logits[20, 20:30] = 0  # exactly on the threshold
    for threshold in (0.0, 0.01):
        for box in (
            positive_box(logits, frame, threshold),
            (31, 7, 280, 250),
            (5, 6, 7, 8),
            (0, 0, *frame.image_shape),
        ):
            assert box is not None
            expected = logits_in_box(logits, frame, box) > threshold
            assert np.array_equal(mask_in_box(logits, frame, box, threshold), expected)
            monkeypatch.setattr(enlarge, "_DENSE_SHARE", 1.0)
            monkeypatch.setattr(enlarge, "_SMALL", 0)
            assert np.array_equal(mask_in_box(logits, frame, box, threshold), expected)
            monkeypatch.undo()


def test_a_large_smooth_mask_is_mostly_decided_without_interpolating(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, cols = np.mgrid[:256, :256]
    logits = (80 - np.hypot(rows - 128, cols - 120)).astype(np.float32)
    frame = Frame((4096, 4096), (1024, 1024), (1024, 1024))
    computed: list[int] = []
    at = enlarge._at
    monkeypatch.setattr(enlarge, "_at", lambda *args: computed.append(args[3].size) or at(*args))
    mask = mask_in_box(logits, frame, (0, 0, 4096, 4096))
    assert 0 < computed[0] < 0.01 * mask.size
    assert abs(mask.sum() - np.pi * 1280**2) < 0.01 * mask.sum()
