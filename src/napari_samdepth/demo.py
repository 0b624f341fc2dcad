"""The main job on two pictures that come with scikit-image: clicks, everything, depth, readout, files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.core.embedding import Embedding
from napari_samdepth.core.labelling import next_label, write_labels, write_mask
from napari_samdepth.core.plane import to_rgb
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.measure.readout import depth_readout
from napari_samdepth.models.auto_masks.everything import segment_everything
from napari_samdepth.models.protocols import DepthEstimator, Segmenter

Tell = Callable[[str], None]
Click = tuple[float, float, int]
"""(row, col, 1 for foreground or 0 for background), in pixels."""

GRID_SIDE = 14
# the built-in model's edges are softer than SAM's, and so its scores lower than those that SAM's masks are filtered by
MIN_SCORE = 0.7
MIN_STABILITY = 0.5
MIN_AREA = 30
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
    measured
        Measured depth to compare with, (H, W), larger is nearer, NaN where there is none; or None.
    """

    name: str
    rgb: NDArray[np.uint8]
    objects: tuple[tuple[Click, ...], ...]
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
        Scene("motorcycle", np.asarray(left), MOTORCYCLE_CLICKS, measured=measured),
        Scene("coins", to_rgb(data.coins()), COINS_CLICKS),
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


def files(out: Path) -> list[Path]:
    """Return the files that `run` writes into a folder."""
    return [file for scene in scenes() for file in _files(scene, out)]


def _files(scene: Scene, out: Path) -> tuple[Path, Path, Path, Path]:
    """Labels, depth, table and figure."""
    labels, depth, table, figure = (
        out / f"{scene.name}_{what}" for what in ("labels.tif", "depth.tif", "table.csv", "figure.png")
    )
    return labels, depth, table, figure


def run(
    segmenter: Segmenter, estimator: DepthEstimator, out: Path, tell: Tell, *, overwrite: bool = True
) -> list[Shown]:
    """Run the demo on every scene.

    Parameters
    ----------
    segmenter, estimator
        The models to use.
    out
        Folder for the files, made if need be.
    tell
        Given each line of the report.
    overwrite
        Whether files that are there already may be replaced.

    Raises
    ------
    ModelError, OSError
        If a model cannot run, or a file cannot be written.
    """
    tell(f"segmenter {segmenter.name} on {segmenter.device}, depth {estimator.name} on {estimator.device}")
    return [run_scene(scene, segmenter, estimator, out, tell, overwrite=overwrite) for scene in scenes()]


def run_scene(
    scene: Scene, segmenter: Segmenter, estimator: DepthEstimator, out: Path, tell: Tell, *, overwrite: bool = True
) -> Shown:
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
        found = everything(segmenter, embedding, labels > 0)
        rest = write_labels(labels, np.where(found > 0, found + clicked, 0))
        if rest is not None:
            rest.apply(labels)
    left = len(np.unique(labels[labels > clicked]))
    done("everything", f"{left} more from a grid of {GRID_SIDE} × {GRID_SIDE} clicks")
    with _timed(seconds, "depth"):
        depth = estimator.estimate(scene.rgb)
    done("depth", f"{depth.kind}, {depth.source}{_agreement(depth, scene.measured)}")
    with _timed(seconds, "readout"):
        table = depth_readout(labels, depth)
    done("readout", f"{len(table)} labels × {len(table.columns)} columns")
    with _timed(seconds, "files"):
        written = _write(scene, labels, depth, table, out, overwrite)
    done("files", str(out))
    for file in written:
        tell(f"{'':26}{file.name}")
    return Shown(scene, labels, depth, table, written, seconds)


def click(segmenter: Segmenter, embedding: Embedding, clicks: tuple[Click, ...]) -> Patch:
    """Return the best mask after clicks made one after another, each with the logits of the one before."""
    fed = None
    for count in range(1, len(clicks) + 1):
        points = [(row, col) for row, col, _ in clicks[:count]]
        answer = segmenter.decode(embedding, Prompts(points, [sign for *_, sign in clicks[:count]], mask=fed))
        fed = answer.feedback[answer.best]
    return answer.patch()


def everything(segmenter: Segmenter, embedding: Embedding, taken: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return masks found from a grid of clicks as labels (H, W), numbered from 1 without gaps: large below small.

    Parameters
    ----------
    segmenter, embedding
        The model and what it made of the image.
    taken
        (H, W), True where there is an object already: no clicks there, and no mask that lies there for the most part.
    """
    at = (np.arange(GRID_SIDE) + 0.5) / GRID_SIDE
    grid = np.stack(np.meshgrid(at, at, indexing="ij"), axis=-1).reshape(-1, 2)
    rows, cols = (grid * taken.shape).astype(int).T
    found = segment_everything(
        segmenter,
        embedding,
        points_per_side=None,
        point_grids=[grid[~taken[rows, cols]]],
        pred_iou_thresh=MIN_SCORE,
        stability_score_thresh=MIN_STABILITY,
        min_mask_region_area=MIN_AREA,
    )
    free = [mask for mask in found.masks if _is_new(mask.patch, taken)]
    labels = replace(found, masks=tuple(free)).labels()
    numbers, place = np.unique(labels, return_inverse=True)  # a large one may be hidden below small ones
    dense = np.cumsum(numbers > 0) * (numbers > 0)
    return dense[place].reshape(labels.shape).astype(np.int32)


def _is_new(patch: Patch, taken: NDArray[np.bool_]) -> bool:
    """Whether a mask lies for the most part where nothing is yet, and is not most of the picture."""
    known = int(np.count_nonzero(taken[patch.slices] & patch.mask))
    return bool(2 * known < patch.area <= LARGEST_SHARE * taken.size)


def _write(
    scene: Scene, labels: NDArray[np.int32], depth: DepthMap, table: pd.DataFrame, out: Path, overwrite: bool
) -> tuple[Path, ...]:
    from napari_samdepth.storage.export import write_depth, write_table
    from napari_samdepth.storage.export import write_labels as write_label_file
    from napari_samdepth.storage.figure import write_figure

    label_file, depth_file, table_file, figure_file = _files(scene, out)
    return (
        write_label_file(label_file, labels, overwrite=overwrite),
        write_depth(depth_file, depth, overwrite=overwrite),
        write_table(table_file, table, overwrite=overwrite),
        write_figure(figure_file, scene.rgb, labels, depth, table, title=scene.name, overwrite=overwrite),
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
