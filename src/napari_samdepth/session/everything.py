"""Everything in the picture: search on the lane, filter in an instant, write what is kept as one step."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Labels
from numpy.typing import NDArray

from napari_samdepth.core.maskset import MaskSet
from napari_samdepth.models.everything import propose, usual_search
from napari_samdepth.models.grid import Search
from napari_samdepth.session.annotator import Annotator
from napari_samdepth.session.encoding import Encoded
from napari_samdepth.session.found import NOTHING_ADDED, add_features, added, at_full_size, full_plane
from napari_samdepth.session.geometry import LayerError, shown_plane
from napari_samdepth.session.jobs import Lane
from napari_samdepth.session.layers import placement, spatial_shape
from napari_samdepth.session.state import SessionState

FLOOR = 0.3
"""Predicted IoU and stability from which on a mask is kept for the sliders."""


class Everything:
    """Finds all masks of the encoded plane and shows those that pass in a layer of its own until they are added."""

    def __init__(self, viewer: ViewerModel, lane: Lane, state: SessionState, annotator: Annotator) -> None:
        """The session's parts."""
        self._viewer = viewer
        self._lane = lane
        self._state = state
        self._annotator = annotator
        self._enough = threading.Event()
        self._found: MaskSet | None = None
        self._encoded: Encoded | None = None
        self._thresholds = (0.88, 0.95, 0.7, 0)
        self.kept: MaskSet | None = None
        self.layer: Labels | None = None

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
            usual_search(encoded.model),
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
            if self._annotator.encoding.current is encoded:
                if self._encoded is not encoded:
                    # masks found before belong to another image, slice or look
                    self.discard()
                self._found, self._encoded = found, encoded
                self._state.found = len(found)
                self._refilter()

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
        self._refilter()

    def _refilter(self) -> None:
        if self._found is None or self._encoded is None:
            return
        iou, stability, overlap, area = self._thresholds
        self.kept = self._found.filtered(iou, stability, overlap, min_area=area)
        self._state.kept = len(self.kept)
        self._draw(self.kept.labels())

    def accept(self) -> int:
        """Write the masks shown as labels, never over labels that are there; one step to undo. Returns how many.

        Masks that lie on such labels nearly wholly are left out.

        Raises
        ------
        LayerError
            If another slice is shown than the one searched, or the Labels layer cannot be written.
        """
        if self.kept is None or self._encoded is None or not len(self.kept):
            return 0
        encoded, kept = self._encoded, self.kept
        if shown_plane(encoded.image, self._viewer.dims).slice_key != encoded.shown.slice_key:
            raise LayerError("These masks were found in another slice; go back to it to add them, or discard them.")
        labels = at_full_size(kept.labels(), encoded, self._viewer.dims)
        numbers = self._annotator.masks.write_many(labels, len(kept), encoded.image, self._annotator.commit)
        layer = self._annotator.masks.layer
        if numbers is None or layer is None:
            self._state.say(NOTHING_ADDED, problem=True)
            return 0
        scores, new = kept.scores[kept.by_area], numbers > 0
        told = {
            "parent": np.concatenate([[0], numbers])[kept.parents()][new],
            "predicted_iou": scores[new, 0],
            "stability_score": scores[new, 1],
        }
        add_features(layer, numbers[new], told)
        self.discard()
        self._state.say(added(numbers))
        return int(new.sum())

    def discard(self) -> None:
        """Take the layer of found masks away."""
        layer, self.layer, self._found, self.kept = self.layer, None, None, None
        self._state.found = self._state.kept = 0
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def forget(self, layer: object) -> None:
        """A layer was removed: if it was ours or the image, what was found goes with it."""
        if self.layer is not None and layer is self.layer:
            self.layer = None
            self.discard()
        elif self._encoded is not None and layer is self._encoded.image:
            self.discard()

    def _draw(self, labels: NDArray[np.int32]) -> None:
        encoded = self._encoded
        if encoded is None:
            return
        image = encoded.image
        if self.layer is None or self.layer.data.shape != spatial_shape(image):
            layer = Labels(
                np.zeros(spatial_shape(image), dtype=np.int32), name="SAM everything", opacity=0.5, **placement(image)
            )
            # what is written are the masks found; drawing in this picture of them would change nothing
            layer.editable = False
            selected = self._viewer.layers.selection.active
            # known as ours before it is there: panels must not offer it as the layer that labels go to
            self.layer = layer
            self._viewer.add_layer(layer)
            if selected is not None:
                self._viewer.layers.selection.active = selected
        full_plane(encoded).take(self.layer.data)[...] = at_full_size(labels, encoded, self._viewer.dims)
        self.layer.refresh()
