"""Which views the built-in segmenter decodes a prompt in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.embedding import Embedding
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.core.resample import mask_to_logits
from napari_samdepth.models.builtin.segmenter_views import LOW_RES, View, canvas_shape, from_canvas, to_canvas

if TYPE_CHECKING:
    from napari_samdepth.models.builtin.segmenter import BuiltinSegmenter
    from napari_samdepth.models.builtin.segmenter_masks import ViewMasks, ZoomSettings

MARGIN = 0.06


def decode_zoomed(segmenter: BuiltinSegmenter, embedding: Embedding, prompts: Prompts, several: bool) -> ViewMasks:
    """Decode prompts in the view that suits them: from a fed-back mask, a box, or by zooming in."""
    if prompts.mask is not None:
        return _again(segmenter, embedding, prompts, prompts.mask, several)
    if prompts.box is not None:
        view = _for_box(prompts.box, prompts.points, segmenter.zoom, embedding.image_shape)
        return segmenter.decode_view(embedding, view, prompts, None, several)
    return _search(segmenter, embedding, prompts, several)


def _for_box(box: NDArray[np.float64], points: NDArray[np.float64], how: ZoomSettings, shape: tuple[int, int]) -> View:
    return _around(np.concatenate([box.reshape(2, 2), points]), how.span, how, shape)


def _around(positions: NDArray[np.float64], span: float, how: ZoomSettings, shape: tuple[int, int]) -> View:
    """Return the window in whose middle the positions (n, 2) lie, ``span`` times as large as they spread."""
    low, high = positions.min(0), positions.max(0)
    side = max(how.least, span * float((high - low).max()))
    return View.around(((low[0] + high[0]) / 2, (low[1] + high[1]) / 2), side, shape)


def _search(segmenter: BuiltinSegmenter, embedding: Embedding, prompts: Prompts, several: bool) -> ViewMasks:
    """Close in from a view around the prompts, and from the whole image where that finds nothing sure."""
    how, shape = segmenter.zoom, embedding.image_shape
    spread = float(np.ptp(prompts.points, axis=0).max())
    centre = prompts.points.mean(0)
    view = View.around((centre[0], centre[1]), max(how.start, 1.5 * spread), shape)
    near = _close_in(segmenter, embedding, prompts, several, view)
    if near.score >= how.wide or max(shape) < 4 * view.side:
        return near
    far = _close_in(segmenter, embedding, prompts, several, View.whole(shape))
    return far if far.score > near.score + how.trust else near


def _close_in(
    segmenter: BuiltinSegmenter, embedding: Embedding, prompts: Prompts, several: bool, view: View
) -> ViewMasks:
    """Decode in a view, then where the mask found there says that the object is; return the masks to trust."""
    how = segmenter.zoom
    tried: list[ViewMasks] = []
    for _ in range(how.most_views):
        found = segmenter.decode_view(embedding, view, prompts, None, several)
        tried.append(found)
        wanted = _wanted(found, prompts, how)
        if wanted is None or any(_alike(wanted, other.view) for other in tried):
            break
        view = wanted
    whole = [found for found in tried if not found.view.cut(found.mask) and found.mask.any()] or tried
    surest = max(whole, key=lambda found: found.score)
    return whole[-1] if whole[-1].score >= surest.score - how.trust else surest


def _alike(a: View, b: View) -> bool:
    return 0.7 < a.side / b.side < 1.4


def _wanted(found: ViewMasks, prompts: Prompts, how: ZoomSettings) -> View | None:
    """Return the view that the mask asks for, or None where the present one will do."""
    view, mask = found.view, found.mask
    shape = view.image_shape
    extent = view.extent(mask)
    if extent is None or (found.score < how.sure and view.side > 4 * how.least):
        # nothing that it could make out: likely the object is too small in this view
        centre = prompts.points[-1]
        return View.around((centre[0], centre[1]), max(how.least, view.side / 4), shape)
    corners = np.concatenate([extent.reshape(2, 2), prompts.points])
    if view.cut(mask):
        return View.around(tuple(corners.mean(0)), 2.5 * view.side, shape) if view.side < max(shape) else None
    wanted = _around(corners, how.span, how, shape)
    return wanted if wanted.side < how.enough * view.side else None


def _again(
    segmenter: BuiltinSegmenter, embedding: Embedding, prompts: Prompts, fed: NDArray[np.float32], several: bool
) -> ViewMasks:
    """Refine a fed-back mask, in the window that it came from where that still holds the prompts."""
    how, shape = segmenter.zoom, embedding.image_shape
    corners = prompts.points if prompts.box is None else np.concatenate([prompts.points, prompts.box.reshape(2, 2)])
    logits = torch.tensor(fed)
    if prompts.mask_window is not None:
        view, mask = View.of_window(prompts.mask_window, shape), logits
        canvas = to_canvas(logits[None], view, canvas_shape(shape))[0]
    else:
        canvas = logits
        view = _of_canvas(fed, corners, how, shape)
        mask = from_canvas(canvas, view)
    if not view.holds(corners, MARGIN):
        last = view.side - 1
        spread = np.concatenate([corners, [[view.top, view.left], [view.top + last, view.left + last]]])
        view = _around(spread, 1.3, how, shape)
        mask = from_canvas(canvas, view)
    found = segmenter.decode_view(embedding, view, prompts, mask, several)
    if found.view.cut(found.mask) and view.side < max(shape):
        view = View.around((view.top + view.side / 2, view.left + view.side / 2), 2 * view.side, shape)
        wider = segmenter.decode_view(embedding, view, prompts, from_canvas(canvas, view), several)
        found = found if wider.scores[wider.best] < 0.7 * found.scores[found.best] else wider
    return found


def _of_canvas(
    canvas: NDArray[np.float32], corners: NDArray[np.float64], how: ZoomSettings, shape: tuple[int, int]
) -> View:
    """Return a view for logits of unknown origin: about what is positive in them, and the prompts."""
    rows, cols = np.nonzero(canvas > 0)
    if len(rows) == 0:
        return View.whole(shape)
    low, high = np.array([rows.min(), cols.min()]), np.array([rows.max() + 1, cols.max() + 1])
    ratio = np.array(shape) / canvas.shape
    return _around(np.concatenate([np.stack([low, high]) * ratio - 0.5, corners]), how.span, how, shape)


def around_mask(segmenter: BuiltinSegmenter, mask: Patch, shape: tuple[int, int]) -> tuple[View, NDArray[np.float32]]:
    """Return the view that a mask at image resolution is refined in, and the mask as logits (128, 128) there."""
    row, col = mask.origin
    rows, cols = np.nonzero(mask.mask)
    corners = np.array([[row + rows.min(), col + cols.min()], [row + rows.max(), col + cols.max()]], dtype=np.float64)
    view = _around(corners, segmenter.zoom.span, segmenter.zoom, shape)
    shown = np.zeros(view.shape, dtype=bool)
    top, left = max(row - view.top, 0), max(col - view.left, 0)
    part = mask.mask[max(view.top - row, 0) :, max(view.left - col, 0) :]
    part = part[: view.shape[0] - top, : view.shape[1] - left]
    shown[top : top + part.shape[0], left : left + part.shape[1]] = part
    return view, mask_to_logits(shown, view.frame, (LOW_RES, LOW_RES))
