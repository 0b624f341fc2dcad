"""One picture per image: the image, masks over it, its depth, and a table of the nearest labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.measure.depth_range import depth_range
from napari_samdepth.storage.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH_IN = 11.0
_DPI = 130
_INK, _QUIET, _RULE = "#1d1f24", "#6a6f7a", "#d7dae0"
_NEAREST = 5
_NUMBERED = 60
"""With more labels than this the numbers over the masks would hide them."""
_VALUES = {
    "inverse": "inverse depth (larger is nearer)",
    "distance": "distance",
    "height": "height",
    "index": "focus index (larger is farther)",
}


def write_figure(
    path: str | os.PathLike[str],
    rgb: NDArray[np.uint8],
    labels: NDArray[Any],
    depth: DepthMap,
    table: pd.DataFrame,
    title: str = "",
    *,
    overwrite: bool = True,
) -> Path:
    """Write a PNG: image, masks over the image, depth in inferno with a colour bar, table of the five nearest.

    Parameters
    ----------
    path
        Where to; the folder is made if need be.
    rgb
        (H, W, 3) uint8.
    labels
        (H, W) integers, 0 for background.
    depth
        Depth of the same image.
    table
        What `depth_readout` gave for them.
    title
        Above everything.
    overwrite
        Whether a file that is there already may be replaced.

    Raises
    ------
    OSError
        If the file cannot be written (FileExistsError if it is there and `overwrite` is False); an older file of that
        name is then still there, whole.
    """
    from matplotlib import rc_context

    with rc_context({"font.family": "sans-serif", "font.size": 9, "text.color": _INK, "text.parse_math": False}):
        figure = _blank(rgb.shape[0] / rgb.shape[1])
        (image, masks), (near, rows) = figure.subplots(2, 2)
        if title:
            figure.suptitle(title, fontsize=13, fontweight="bold", x=0.012, ha="left")
        _panel(image, "Image", rgb)
        _draw_masks(masks, rgb, labels, table)
        _draw_depth(figure, near, depth)
        _draw_table(rows, table)
        with atomic_path(path, overwrite=overwrite) as beside:
            figure.savefig(beside, dpi=_DPI, format="png", facecolor="white")
    return Path(path)


def label_colours(numbers: NDArray[Any]) -> NDArray[np.float64]:
    """Return a vivid RGB colour (0-1) per label number, (n, 3): neighbours in number are far apart in hue."""
    from matplotlib.colors import hsv_to_rgb

    golden = (np.abs(np.asarray(numbers, dtype=np.float64)) * 0.61803398875) % 1
    value = np.where(np.asarray(numbers) % 2, 1.0, 0.85)
    return np.asarray(hsv_to_rgb(np.stack([golden, np.full_like(golden, 0.75), value], axis=-1)))


def _blank(aspect: float) -> Figure:
    """Return an empty figure, high enough for two rows of two pictures whose height over width is `aspect`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    panel = (_WIDTH_IN - 1.6) / 2 * aspect
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(_WIDTH_IN, float(np.clip(2 * panel, 4.5, 18)) + 1.3), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _panel(axes: Axes, title: str, picture: NDArray[Any], **how: Any) -> Any:
    axes.set_title(title, loc="left", fontsize=10, color=_INK)
    axes.set_axis_off()
    axes.set_anchor("NW")
    return axes.imshow(picture, interpolation="nearest" if min(picture.shape[:2]) < 300 else "antialiased", **how)


def _draw_masks(axes: Axes, rgb: NDArray[np.uint8], labels: NDArray[Any], table: pd.DataFrame) -> None:
    from matplotlib import patheffects
    from skimage.segmentation import find_boundaries

    numbers = table.index.to_numpy()
    place = np.searchsorted(numbers, labels) if len(numbers) else np.zeros(labels.shape, dtype=int)
    grey = rgb.mean(axis=-1, keepdims=True).repeat(3, axis=-1) / 255
    blend = 0.55 * grey + 0.45 * rgb / 255
    mask = labels != 0
    if mask.any():
        colour = label_colours(numbers)[np.minimum(place, len(numbers) - 1)]
        blend[mask] = 0.45 * blend[mask] + 0.55 * colour[mask]
        edge = find_boundaries(labels, mode="inner")
        blend[edge] = colour[edge]
    _panel(axes, f"{len(numbers)} masks", np.clip(blend, 0, 1))
    if len(numbers) > _NUMBERED:
        return
    outline = [patheffects.withStroke(linewidth=2, foreground="black")]
    for number, row, col in zip(numbers.tolist(), table["centroid_row"], table["centroid_col"], strict=True):
        axes.text(
            col, row, str(number), color="white", fontsize=8, ha="center", va="center", path_effects=outline
        )  # fmt: skip


def _draw_depth(figure: Figure, axes: Axes, depth: DepthMap) -> None:
    extent = depth_range(depth)
    drawn = _panel(axes, "Depth", depth.values, cmap=_colours(depth), vmin=extent.low, vmax=extent.high)
    bar = figure.colorbar(drawn, cax=axes.inset_axes((1.02, 0, 0.03, 1)), extend="both")
    unit = depth.unit or ("relative" if depth.kind == "inverse" else "no unit")
    bar.set_label(f"{_VALUES[depth.kind]} [{unit}]", color=_INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(color=_QUIET, labelcolor=_INK, labelsize=8)
    if depth.source:
        axes.text(0, -0.02, depth.source, transform=axes.transAxes, fontsize=7, color=_QUIET, va="top", clip_on=False)


def _colours(depth: DepthMap) -> Any:
    """Return inferno with near things bright, and grey where there is no depth."""
    from matplotlib import colormaps

    return colormaps["inferno" if depth.near_sign > 0 else "inferno_r"].with_extremes(bad="#9a9da3")


def _draw_table(axes: Axes, table: pd.DataFrame) -> None:
    axes.set_axis_off()
    axes.set_title(f"The {_NEAREST} nearest", loc="left", fontsize=10, color=_INK)
    nearest = table.dropna(subset=["rank"]).nsmallest(_NEAREST, "rank", keep="first")
    heads = ["rank", "label", "area", "nearness", "spread", "contrast", "in front of"]
    places = [0.07, 0.19, 0.31, 0.48, 0.64, 0.81, 0.86]
    top, step = 0.93, 0.115
    for head, place in zip(heads, places, strict=True):
        left = head == "in front of"
        axes.text(place, top, head, ha="left" if left else "right", va="center", color=_QUIET, fontsize=9)
    axes.plot([0, 1], [top - 0.055] * 2, color=_INK, linewidth=0.8)
    for line, (label, row) in enumerate(nearest.iterrows(), start=1):
        height = top - step * line
        axes.add_patch(_swatch(label_colours(np.array([label]))[0], places[1] - 0.085, height))
        cells = [f"{row['rank']:.0f}", f"{label}", f"{row['area']:,}"]
        cells += [_number(row[name]) for name in ("nearness", "spread", "contrast")]
        for text, place in zip(cells, places, strict=False):
            axes.text(place, height, text, ha="right", va="center", fontsize=10)
        axes.text(places[-1], height, _shortened(row["in_front_of"]), ha="left", va="center", fontsize=10)
        axes.plot([0, 1], [height - 0.055] * 2, color=_RULE, linewidth=0.6)
    if nearest.empty:
        axes.text(0, top - step, "no labels", color=_QUIET, fontsize=10, va="center")
    axes.set(xlim=(0, 1), ylim=(0, 1))


def _swatch(colour: NDArray[Any], left: float, middle: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((left, middle - 0.025), 0.03, 0.05, color=colour, linewidth=0)


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{round(value, 2) + 0.0:.2f}"


def _shortened(text: str, longest: int = 12) -> str:
    return text if len(text) <= longest else text[: longest - 1].rsplit(",", 1)[0] + ", …"
