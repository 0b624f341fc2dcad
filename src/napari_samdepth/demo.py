"""The main job on two pictures that come with scikit-image: clicks, a grid of clicks, depth, readout, files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_samdepth.core.candidates import Candidates, Patch
from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.core.labelling import next_label, write_labels, write_mask
from napari_samdepth.core.plane import to_rgb
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.core.readout import depth_readout
from napari_samdepth.models.protocols import DepthEstimator, Embedding, Segmenter

Tell = Callable[[str], None]
Click = tuple[float, float, int]
"""(row, col, 1 for foreground or 0 for background), in pixels."""

MIN_SCORE = 0.7
MIN_STABILITY = 0.65
STABILITY_STEP = 1.0
SAME_IOU = 0.6
LARGEST_SHARE = 0.4


@dataclass(frozen=True)
class Scene:
    """A sample picture and the clicks that a user would make on it.

    Attributes
    ----------
    name
        Of the files.
    rgb
        (H, W, 3) uint8.
    objects
        One tuple of clicks per object.
    spacing
        Pixels between the clicks of the grid.
    measured
        Measured depth to compare with, (H, W), larger is nearer, NaN where there is none; or None.
    """

    name: str
    rgb: NDArray[np.uint8]
    objects: tuple[tuple[Click, ...], ...]
    spacing: int
    measured: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Shown:
    """What came out for a scene: labels (H, W), depth, table, the files written, and seconds per step."""

    scene: Scene
    labels: NDArray[np.int32]
    depth: DepthMap
    table: pd.DataFrame
    files: tuple[Path, ...]
    seconds: dict[str, float] = field(default_factory=dict)


def scenes() -> list[Scene]:
    """Return the motorcycle (with its measured disparity) and the coins."""
    from skimage import data

    left, _, disparity = data.stereo_motorcycle()
    measured = np.where(np.isfinite(disparity), disparity, np.nan).astype(np.float32)
    return [
        Scene("motorcycle", np.asarray(left), MOTORCYCLE_CLICKS, spacing=60, measured=measured),
        Scene("coins", to_rgb(data.coins()), COINS_CLICKS, spacing=32),
    ]


MOTORCYCLE_CLICKS: tuple[tuple[Click, ...], ...] = (
    ((205, 431, 1), (232, 365, 1), (192, 285, 0), (305, 378, 0)),  # tank
    ((192, 245, 1), (179, 192, 1), (212, 318, 1), (225, 139, 0)),  # seat
    ((152, 541, 1),),  # headlight
    ((285, 577, 1), (292, 623, 1), (371, 650, 0)),  # front mudguard
    ((212, 590, 1), (190, 560, 1)),  # red box on the shelf
    ((64, 558, 1),),  # cardboard box
    ((331, 376, 1),),  # engine cover
)
COINS_CLICKS: tuple[tuple[Click, ...], ...] = (
    ((58, 44, 1),),
    ((43, 335, 1),),
    ((117, 270, 1),),
    ((187, 345, 1),),
    ((260, 46, 1), (225, 46, 0)),
)


def run(segmenter: Segmenter, estimator: DepthEstimator, out: Path, tell: Tell) -> list[Shown]:
    """Run the demo on every scene.

    Parameters
    ----------
    segmenter, estimator
        The models to use.
    out
        Folder for the files, made if need be.
    tell
        Given each line of the report.

    Raises
    ------
    ModelError, OSError
        If a model cannot run, or a file cannot be written.
    """
    tell(f"segmenter {segmenter.name} on {segmenter.device}, depth {estimator.name} on {estimator.device}")
    return [run_scene(scene, segmenter, estimator, out, tell) for scene in scenes()]


def run_scene(scene: Scene, segmenter: Segmenter, estimator: DepthEstimator, out: Path, tell: Tell) -> Shown:
    """Run one scene; parameters and errors as in `run`."""
    seconds: dict[str, float] = {}
    tell(f"\n{scene.name} · {scene.rgb.shape[0]} × {scene.rgb.shape[1]} px")

    def done(step: str, text: str) -> None:
        tell(f"  {step:<12}{seconds[step]:>8.2f} s   {text}")

    labels = np.zeros(scene.rgb.shape[:2], dtype=np.int32)
    with _timed(seconds, "encode"):
        embedding = segmenter.encode(scene.rgb)
    done("encode", "once per image")
    with _timed(seconds, "clicks"):
        for clicks in scene.objects:
            change = write_mask(labels, click(segmenter, embedding, clicks), next_label(labels))
            if change is not None:
                change.apply(labels)
    clicked, made = int(labels.max()), sum(map(len, scene.objects))
    done("clicks", f"{clicked} objects from {made} clicks, {1000 * seconds['clicks'] / made:.0f} ms a click")
    with _timed(seconds, "everything"):
        found = masks_from_grid(segmenter, embedding, scene.spacing, labels > 0)
        rest = write_labels(labels, painted(found, labels.shape, first=clicked + 1))
        if rest is not None:
            rest.apply(labels)
    left = len(np.unique(labels[labels > clicked]))
    done("everything", f"{left} more from a grid of clicks {scene.spacing} px apart")
    with _timed(seconds, "depth"):
        depth = estimator.estimate(scene.rgb)
    done("depth", f"{depth.kind}, {depth.source}{_agreement(depth, scene.measured)}")
    with _timed(seconds, "readout"):
        table = depth_readout(labels, depth)
    done("readout", f"{len(table)} labels × {len(table.columns)} columns")
    with _timed(seconds, "files"):
        files = _write(scene, labels, depth, table, out)
    done("files", str(out))
    for file in files:
        tell(f"{'':26}{file.name}")
    return Shown(scene, labels, depth, table, files, seconds)


def click(segmenter: Segmenter, embedding: Embedding, clicks: tuple[Click, ...]) -> Patch:
    """Return the best mask after clicks made one after another, each with the logits of the one before."""
    logits = None
    for count in range(1, len(clicks) + 1):
        points = [(row, col) for row, col, _ in clicks[:count]]
        answer = segmenter.decode(embedding, Prompts(points, [sign for *_, sign in clicks[:count]], mask=logits))
        logits = answer.logits[answer.best]
    return answer.patch()


@dataclass(frozen=True, eq=False)
class Found:
    """A mask from the grid, its predicted IoU and its stability score."""

    patch: Patch
    score: float
    stability: float


def masks_from_grid(segmenter: Segmenter, embedding: Embedding, spacing: int, taken: NDArray[np.bool_]) -> list[Found]:
    """Click on a grid and keep the masks that are sure, stable, and not found twice, the surest first.

    A point inside a mask that was kept is not clicked. The scores are those of `segment_anything`'s automatic masks:
    predicted IoU, and how little the area changes when the threshold moves by a logit either way.

    Parameters
    ----------
    segmenter, embedding
        The model and what it made of the image.
    spacing
        Pixels between the clicks.
    taken
        (H, W), True where there is an object already: no clicks there, and no mask that lies there for the most part.
    """
    height, width = embedding.image_shape
    covered = taken.copy()
    kept: list[Found] = []
    for row in np.arange(spacing / 2, height, spacing):
        for col in np.arange(spacing / 2, width, spacing):
            if covered[int(row), int(col)]:
                continue
            answer = segmenter.decode(embedding, Prompts([(row, col)]))
            for one in _sure(answer, LARGEST_SHARE * height * width):
                covered[one.patch.slices] |= one.patch.mask
                if 2 * np.count_nonzero(taken[one.patch.slices] & one.patch.mask) < one.patch.area:
                    kept.append(one)
    return _distinct(kept)


def _sure(answer: Candidates, largest: float) -> Iterator[Found]:
    """Yield the best mask if it is sure and stable, neither empty nor most of the picture."""
    best = answer.best
    stability = _stability(answer.logits[best])
    if answer.scores[best] >= MIN_SCORE and stability >= MIN_STABILITY:
        patch = answer.patch(best)
        if 0 < patch.area <= largest:
            yield Found(patch, float(answer.scores[best]), stability)


def _stability(logits: NDArray[np.float32]) -> float:
    wide = np.count_nonzero(logits > -STABILITY_STEP)
    return np.count_nonzero(logits > STABILITY_STEP) / wide if wide else 0.0


def _distinct(found: list[Found]) -> list[Found]:
    """Return the masks without those that a surer one is nearly the same as."""
    kept: list[Found] = []
    for one in sorted(found, key=lambda one: -one.score):
        if all(iou(one.patch, other.patch) < SAME_IOU for other in kept):
            kept.append(one)
    return kept


def iou(first: Patch, second: Patch) -> float:
    """Return intersection over union of two masks of the same image."""
    low = np.maximum(first.box[:2], second.box[:2])
    high = np.minimum(first.box[2:], second.box[2:])
    if (low >= high).any():
        return 0.0
    parts = []
    for patch in (first, second):
        begin, end = low - patch.origin, high - patch.origin
        parts.append(patch.mask[begin[0] : end[0], begin[1] : end[1]])
    both = np.count_nonzero(parts[0] & parts[1])
    return both / (first.area + second.area - both) if both else 0.0


def painted(found: list[Found], shape: tuple[int, ...], first: int = 1) -> NDArray[np.int32]:
    """Return the masks as labels of `shape`, numbered from `first`: large below small."""
    labels = np.zeros(shape, dtype=np.int32)
    for number, one in enumerate(sorted(found, key=lambda one: -one.patch.area), start=first):
        labels[one.patch.slices][one.patch.mask] = number
    numbers, place = np.unique(labels, return_inverse=True)  # a large one may be hidden below small ones
    dense = np.where(numbers > 0, np.cumsum(numbers > 0) + first - 1, 0)
    return dense[place].reshape(shape).astype(np.int32)


def _write(
    scene: Scene, labels: NDArray[np.int32], depth: DepthMap, table: pd.DataFrame, out: Path
) -> tuple[Path, ...]:
    from napari_samdepth.storage.export import write_depth, write_table
    from napari_samdepth.storage.export import write_labels as write_label_file
    from napari_samdepth.storage.figure import write_figure

    return (
        write_label_file(out / f"{scene.name}_labels.tif", labels),
        write_depth(out / f"{scene.name}_depth.tif", depth),
        write_table(out / f"{scene.name}_table.csv", table),
        write_figure(out / f"{scene.name}_figure.png", scene.rgb, labels, depth, table, title=scene.name),
    )


def _agreement(depth: DepthMap, measured: NDArray[np.float32] | None) -> str:
    """Say how well the order of depths agrees with measured ones, where there are any."""
    if measured is None:
        return ""
    from scipy.stats import spearmanr

    both = np.isfinite(measured) & np.isfinite(depth.values)
    rank = spearmanr(depth.near_sign * depth.values[both][::7], measured[both][::7]).statistic
    return f"; Spearman with the measured disparity {rank:.2f}"


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - start
