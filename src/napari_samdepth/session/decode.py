"""One request to the model: what was drawn, in pixels of the encoded plane, and the masks that answer it."""

from __future__ import annotations

import numpy as np

from napari_samdepth.annotation.document import DecodeRequest, DrawnPrompts, PlaneView, box_in_plane
from napari_samdepth.core.candidates import Candidates, MaskInput, Patch
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.core.refinement import refined_mask
from napari_samdepth.core.resample import Box
from napari_samdepth.session.encoding import Encoded


def prompts_in_plane(drawn: DrawnPrompts, plane: PlaneView, mask: MaskInput | Patch | None = None) -> Prompts:
    """Return what was drawn in a slice as prompts in its pixels (row, col). Raises ValueError if that is nothing."""
    kinds = {kind: [shape for shape in drawn.shapes if shape.kind == kind] for kind in ("box", "scribble", "lasso")}
    boxes = [box for shape in kinds["box"] if (box := box_in_plane(shape.vertices, plane)) is not None]
    lassos = [plane.from_data(shape.vertices) for shape in kinds["lasso"]]
    return Prompts(
        plane.from_data(drawn.points),
        drawn.labels,
        boxes[-1] if boxes else None,
        mask,
        scribbles=[plane.from_data(shape.vertices) for shape in kinds["scribble"]],
        scribble_labels=[shape.label for shape in kinds["scribble"]],
        lasso=lassos[-1] if lassos else None,
    )


def decode(encoded: Encoded, request: DecodeRequest) -> Candidates:
    """Return the masks for a request; of a label that is refined, its own pixels as the prompts change them.

    Raises ModelError.
    """
    plane, base = encoded.shown, request.base
    prompts = prompts_in_plane(request.prompts, plane, request.mask_input or base)
    candidates = encoded.segmenter.decode(encoded.embedding, prompts)
    if base is None:
        return candidates
    best = candidates.best
    points = np.concatenate([prompts.points, *prompts.scribbles])
    labels = [prompts.labels]
    labels += [np.full(len(path), kind) for path, kind in zip(prompts.scribbles, prompts.scribble_labels, strict=True)]
    inside = ((points >= -0.5) & (points < np.array(plane.shape) - 0.5)).all(axis=1)
    around = [] if prompts.box is None else [prompts.box.reshape(2, 2)]
    around += [] if prompts.lasso is None else [prompts.lasso]
    mask = refined_mask(
        base,
        candidates.patch(best),
        points[inside],
        np.concatenate(labels)[inside],
        [_region(corners) for corners in around],
        _grain(candidates),
    )
    fed_back = candidates.feedback[best : best + 1]
    return Candidates.of_masks([mask], [float(candidates.scores[best])], plane.shape, fed_back)


def _region(corners: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Box:
    """Return the pixels around corners (k, 2) as a box, half open."""
    low, high = np.round(corners.min(axis=0)).astype(int), np.round(corners.max(axis=0)).astype(int)
    return int(low[0]), int(low[1]), int(high[0]) + 1, int(high[1]) + 1


def _grain(candidates: Candidates) -> float:
    """Return how many pixels of the image one sample of the logits covers."""
    frame = candidates.frame
    return max(frame.image_shape[0] / frame.valid_size[0], frame.image_shape[1] / frame.valid_size[1])
