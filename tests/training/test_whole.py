"""The matched F1 score of label images, and the table of it."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_samdepth.models.builtin.segmenter import load_builtin
from training.segmenter import whole
from training.segmenter.whole import Setting, matched_f1


def _squares(*corners: tuple[int, int], side: int = 10) -> np.ndarray:
    labels = np.zeros((60, 60), dtype=np.int32)
    for number, (row, col) in enumerate(corners, start=1):
        labels[row : row + side, col : col + side] = number
    return labels


@pytest.mark.parametrize(
    ("found", "score"),
    [
        (_squares((0, 0), (20, 20), (40, 40)), 1.0),
        (_squares((40, 40), (0, 0), (20, 20)), 1.0),  # numbers do not matter
        (_squares((0, 0), (20, 20)), 2 * 2 / 5),
        (_squares((0, 0), (20, 20), (40, 40), (0, 40)), 2 * 3 / 7),
        (_squares((3, 0), (20, 20), (40, 40)), 1.0),  # IoU 70 / 130
        (_squares((4, 0), (20, 20), (40, 40)), 2 * 2 / 6),  # IoU 60 / 140
        (np.zeros((60, 60), dtype=np.int32), 0.0),
    ],
)
def test_matched_f1_counts_objects_that_match_by_half(found: np.ndarray, score: float) -> None:
    assert matched_f1(found, _squares((0, 0), (20, 20), (40, 40))) == pytest.approx(score)


def test_two_empty_pictures_agree() -> None:
    assert matched_f1(np.zeros((4, 4), int), np.zeros((4, 4), int)) == 1.0


def test_a_search_for_sliders_has_low_thresholds_and_the_same_grid() -> None:
    setting = Setting(points_per_side=12, crop_n_layers=2, crop_n_points_downscale_factor=2)
    assert setting.search(0.3).pred_iou_thresh == setting.search(0.3).stability_score_thresh == 0.3
    assert len(setting.search().grid(1)) == 36


def test_a_run_that_was_cut_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = [
        ("a", "fluo", np.zeros((60, 60, 3), np.uint8), _squares((0, 0))),
        ("b", "colour", np.full((60, 60, 3), 90, np.uint8), _squares((20, 20))),
    ]

    def pictures(_root: Path, _part: str, but: Container[str] = ()) -> Iterator[object]:
        cut = not but
        yield from (entry for entry in pair if entry[0] not in but)
        if cut:
            raise KeyboardInterrupt

    monkeypatch.setattr(whole, "pictures", pictures)
    monkeypatch.setattr(whole.baselines, "otsu_watershed", lambda _rgb: _squares((0, 0)))
    segmenter, keep = load_builtin("cpu"), tmp_path / "scores.jsonl"
    setting = Setting(points_per_side=2, crop_n_layers=0)
    with pytest.raises(KeyboardInterrupt):
        whole.everything_table(segmenter, tmp_path, "test", setting, keep)
    assert len(keep.read_text().splitlines()) == 2
    monkeypatch.setattr(whole, "propose", lambda *_args: pytest.fail("measured again"))
    table = whole.everything_table(segmenter, tmp_path, "test", setting, keep)
    assert "| all | 2 | 0.000 | 0.500 |" in table
    assert "| fluo | 1 | 0.000 | 1.000 |" in table
