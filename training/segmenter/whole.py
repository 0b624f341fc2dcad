"""Whole-image masks of nuclei, judged by the matched F1 score, beside Otsu with watershed."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_samdepth.core.maskset import MaskSet
from napari_samdepth.models.auto_masks.everything import propose, usual_search
from napari_samdepth.models.auto_masks.point_grid import Search
from napari_samdepth.models.builtin.segmenter import BuiltinSegmenter
from training.segmenter import baselines
from training.segmenter.paint import Array
from training.segmenter.pictures import read_nuclei
from training.segmenter.split import read_split

MATCH = 0.5
USUAL = usual_search("builtin")


@dataclass(frozen=True)
class Setting:
    """What `segment_everything` is given: grid, crop layers and thresholds."""

    points_per_side: int | None = USUAL.points_per_side
    crop_n_layers: int = USUAL.crop_n_layers
    crop_n_points_downscale_factor: int = USUAL.crop_n_points_downscale_factor
    pred_iou_thresh: float = USUAL.pred_iou_thresh
    stability_score_thresh: float = USUAL.stability_score_thresh
    box_nms_thresh: float = 0.7
    crop_nms_thresh: float = 0.7

    def search(self, floor: float | None = None) -> Search:
        """The search; `floor` stands for both thresholds where masks are filtered afterwards."""
        return Search(
            points_per_side=self.points_per_side,
            crop_n_layers=self.crop_n_layers,
            crop_n_points_downscale_factor=self.crop_n_points_downscale_factor,
            pred_iou_thresh=self.pred_iou_thresh if floor is None else floor,
            stability_score_thresh=self.stability_score_thresh if floor is None else floor,
        )

    def labels(self, found: MaskSet) -> Array:
        """Labels (H, W) of what passes."""
        kept = found.filtered(
            self.pred_iou_thresh, self.stability_score_thresh, self.box_nms_thresh, self.crop_nms_thresh
        )
        return np.asarray(kept.labels())


def matched_f1(labels: Array, truth: Array) -> float:
    """2 TP / (2 TP + FP + FN), where a label and an object match at an IoU above 0.5; 1 where both are empty."""
    table = np.zeros((int(labels.max()) + 1, int(truth.max()) + 1), dtype=np.int64)
    np.add.at(table, (labels.ravel(), truth.ravel()), 1)
    rows, cols = table.sum(1), table.sum(0)
    union = rows[1:, None] + cols[None, 1:] - table[1:, 1:]
    matched = int((table[1:, 1:] > MATCH * np.maximum(union, 1)).sum())
    count = int((rows[1:] > 0).sum() + (cols[1:] > 0).sum())
    return 2 * matched / count if count else 1.0


def pictures(root: Path, part: str, but: Container[str] = ()) -> Iterator[tuple[str, str, Array, Array]]:
    """Name, kind, picture and labels of each image in a part of the split, `but` for some names."""
    kinds = {record["id"]: record["kind"] for record in json.loads((root / "index.json").read_text())}
    for name in read_split()[part]:
        if name not in but:
            yield name, kinds[name], *read_nuclei(root, name)


def everything_table(
    segmenter: BuiltinSegmenter, root: Path, part: str, setting: Setting, keep: Path | None = None
) -> str:
    """Markdown: mean matched F1 over the images, all and by kind, of ours and of Otsu with watershed.

    `keep` is a file to which each image's scores are added at once, a line of JSON each; images in it are not measured
    again, so that a run that was cut goes on where it stopped.
    """
    lines = keep.read_text("utf-8").splitlines() if keep is not None and keep.exists() else []
    scores: dict[str, tuple[str, float, float]] = {name: (kind, *pair) for name, kind, *pair in map(json.loads, lines)}
    for name, kind, rgb, truth in pictures(root, part, but=scores):
        masks = propose(segmenter, segmenter.encode(rgb), setting.search())
        scores[name] = (
            kind, matched_f1(setting.labels(masks), truth), matched_f1(baselines.otsu_watershed(rgb), truth)
        )  # fmt: skip
        if keep is not None:
            with keep.open("a", encoding="utf-8") as file:
                file.write(json.dumps([name, *scores[name]]) + "\n")
    found: dict[str, list[tuple[float, float]]] = {}
    for kind, ours, theirs in scores.values():
        found.setdefault(kind, []).append((ours, theirs))
    found = {"all": [pair for pairs in found.values() for pair in pairs], **dict(sorted(found.items()))}
    lines = ["| | images | built-in, everything | Otsu + watershed |", "|---|---|---|---|"]
    for name, pairs in found.items():
        ours, theirs = np.mean(pairs, axis=0)
        lines.append(f"| {name} | {len(pairs)} | {ours:.3f} | {theirs:.3f} |")
    return "\n".join(lines)
