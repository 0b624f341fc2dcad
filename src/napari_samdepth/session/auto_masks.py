"""Automatic masks: a search of the whole slice on the lane, filtered in an instant, written as one step."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from napari.components import Dims, ViewerModel
from napari.layers import Image, Labels
from numpy.typing import NDArray
from scipy import ndimage

from napari_samdepth.annotation.document import AutoMasks
from napari_samdepth.annotation.transitions import SetAutoMasks
from napari_samdepth.core.errors import LayerError
from napari_samdepth.core.maskset import MaskSet
from napari_samdepth.models.auto_masks.everything import propose, usual_search
from napari_samdepth.models.auto_masks.point_grid import Search
from napari_samdepth.session.annotator import Annotator
from napari_samdepth.session.geometry import Shown, plane_affine, shown_plane
from napari_samdepth.session.jobs import Lane
from napari_samdepth.session.labels import add_features, as_shown, layer_id
from napari_samdepth.session.layers import placement, spatial_shape
from napari_samdepth.session.state import SessionState

FLOOR = 0.3
"""Predicted IoU and stability from which on a mask is kept for the sliders."""

NOTHING_ADDED = "These masks add nothing: their pixels belong to other labels already."
ELSEWHERE = "in the slice that it was started in; go back to it to use them."


class Everything:
    """Finds all masks of the encoded plane and shows those that pass in a layer of its own until they are added."""

    def __init__(self, viewer: ViewerModel, lane: Lane, state: SessionState, annotator: Annotator) -> None:
        """The session's parts."""
        self._viewer = viewer
        self._lane = lane
        self._state = state
        self._annotator = annotator
        self._enough = threading.Event()
        self._thresholds = (0.88, 0.95, 0.7, 0)
        self._shown: AutoMasks | None = None
        self.kept: MaskSet | None = None
        self.layer: Labels | None = None
        state.events.revision.connect(self.show)

    @property
    def usual(self) -> Search:
        """What a search with the session's model starts from."""
        return usual_search(self._state.model)

    def search(self, points_per_side: int, crop_n_layers: int) -> None:
        """Search the encoded plane on the lane.

        Parameters
        ----------
        points_per_side
            Clicks along a side of the grid.
        crop_n_layers
            Layers of smaller and smaller crops that are searched as well.

        Raises
        ------
        LayerError
            If nothing is encoded yet.
        """
        encoded = self._annotator.need_encoded("everything is searched for")
        self._enough.clear()
        wanted = replace(
            usual_search(encoded.variant.model),
            points_per_side=points_per_side,
            crop_n_layers=crop_n_layers,
            pred_iou_thresh=FLOOR,
            stability_score_thresh=FLOOR,
        )
        picture = encoded.rgb if crop_n_layers else None

        def work(report: Any) -> MaskSet:
            return propose(
                encoded.segmenter, encoded.embedding, wanted, rgb=picture, report=report, enough=self._enough.is_set
            )

        def done(found: MaskSet) -> None:
            if not len(found):
                self.discard()
                self._state.say("No mask was found; try more points a side, or another model.")
                return
            self._annotator.dispatch(SetAutoMasks(AutoMasks(found, layer_id(encoded.image), encoded.shown)))
            if shown_elsewhere(encoded.image, encoded.shown, self._viewer.dims):
                self._state.say(f"The search found {len(found)} masks {ELSEWHERE}")

        self._state.say("")
        self._state.task, self._state.progress = "searching", 0.0
        self._lane.submit("everything", work, done, self._annotator.fail)

    def keep_found(self) -> None:
        """End the search early and go on with what it has found so far."""
        self._enough.set()

    def filter(
        self,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        box_nms_thresh: float = 0.7,
        min_area: int = 0,
    ) -> None:
        """Show the masks that pass, now and after the next search; neither encoder nor decoder runs."""
        self._thresholds = (pred_iou_thresh, stability_score_thresh, box_nms_thresh, min_area)
        self._show()

    def show(self, _revision: object = None) -> None:
        """Show what the document holds: other masks after undo and redo, or none."""
        if self._annotator.document.auto_masks is not self._shown:
            self._show()

    def accept(self) -> int:
        """Write the masks shown as labels, never over labels that are there; one step to undo. Returns how many.

        Masks that lie on such labels nearly wholly are left out.

        Raises
        ------
        LayerError
            If another slice is shown than the one searched, or the Labels layer cannot be written.
        """
        found, kept, annotator = self._shown, self.kept, self._annotator
        image = annotator.image
        if found is None or kept is None or not len(kept) or image is None:
            return 0
        shown = as_shown(found.plane)
        if shown_elsewhere(image, shown, self._viewer.dims):
            raise LayerError("These masks were found in another slice; go back to it to add them, or discard them.")
        full = shown.at_full_resolution(spatial_shape(image))
        labels = at_full_size(kept.labels(), image, shown, self._viewer.dims)
        layer = annotator.target_layer(image)
        edit, numbers = annotator.labels.write_many(labels, len(kept), image, full, layer)
        if edit is None:
            self._state.say(NOTHING_ADDED, problem=True)
            return 0
        annotator.dispatch(SetAutoMasks(None), (edit,))
        scores, new = kept.scores[kept.by_area], numbers > 0
        told = {
            "index": numbers[new],
            "parent": np.concatenate([np.zeros(1, numbers.dtype), numbers])[kept.parents()][new],
            "predicted_iou": scores[new, 0],
            "stability_score": scores[new, 1],
        }
        add_features(layer, pd.DataFrame(told))
        self._state.say(added(numbers))
        return int(new.sum())

    def discard(self) -> None:
        """Take the found masks and their layer away; undo brings them back."""
        if self._annotator.document.auto_masks is not None:
            self._annotator.dispatch(SetAutoMasks(None))

    def forget(self, layer: object) -> None:
        """A layer was removed: if it was ours, what was found goes with it."""
        if self.layer is not None and layer is self.layer:
            self.layer = None
            self.discard()

    def _show(self) -> None:
        """Let the layer and the docks show which of the masks found pass the thresholds."""
        found, image = self._annotator.document.auto_masks, self._annotator.image
        if found is not None and image is not None:
            iou, stability, overlap, area = self._thresholds
            self.kept = found.found.filtered(iou, stability, overlap, min_area=area)
            self._state.found, self._state.kept = len(found.found), len(self.kept)
            self._draw(found, image, self.kept.labels())
            return
        layer, self.layer, self.kept, self._shown = self.layer, None, None, None
        self._state.found = self._state.kept = 0
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _draw(self, found: AutoMasks, image: Image, labels: NDArray[np.int32]) -> None:
        before, shown = self._shown, as_shown(found.plane)
        if self.layer is None or self.layer.data.shape != spatial_shape(image):
            layer = Labels(
                np.zeros(spatial_shape(image), dtype=np.int32), name="SAM everything", opacity=0.5, **placement(image)
            )
            # what is written are the masks found; drawing in this picture of them would change nothing
            layer.editable = False
            selected = self._viewer.layers.selection.active
            # known as ours before it is there: docks must not offer it as the layer that labels go to
            self.layer = layer
            self._viewer.add_layer(layer)
            if selected is not None:
                self._viewer.layers.selection.active = selected
        elif before is not None and before is not found:
            as_shown(before.plane).at_full_resolution(spatial_shape(image)).take(self.layer.data)[...] = 0
        shown.at_full_resolution(spatial_shape(image)).take(self.layer.data)[...] = at_full_size(
            labels, image, shown, self._viewer.dims
        )
        self._shown = found
        self.layer.refresh()


def shown_elsewhere(image: Image, shown: Shown, dims: Dims) -> bool:
    """Whether another slice is shown than this one, or none."""
    try:
        return shown_plane(image, dims).slice_key != shown.slice_key
    except LayerError:
        return True


def at_full_size(labels: NDArray[np.int32], image: Image, shown: Shown, dims: Dims) -> NDArray[np.int32]:
    """Return labels of a plane at the image's full resolution (nearest neighbour)."""
    full = shown.at_full_resolution(spatial_shape(image))
    if full == shown:
        return labels
    matrix = plane_affine(image, full, image, shown, dims)
    moved = ndimage.affine_transform(labels, matrix[:, :2], offset=matrix[:, 2], output_shape=full.shape, order=0)
    return np.asarray(moved, dtype=np.int32)


def added(numbers: NDArray[np.integer[Any]]) -> str:
    """Return a sentence on how many masks were added, of the label that each got (0: none)."""
    count, left = int((numbers > 0).sum()), int((numbers == 0).sum())
    text = "1 mask was added as a label" if count == 1 else f"{count} masks were added as labels"
    return f"{text}; {left} left out, on labels that are there already." if left else f"{text}."
