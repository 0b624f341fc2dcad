"""Everything in the picture: search on the lane, filter in an instant, write what is kept as one step."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from napari.components import ViewerModel
from napari.layers import Labels
from numpy.typing import NDArray

from napari_samdepth.core.errors import LayerError
from napari_samdepth.core.maskset import MaskSet
from napari_samdepth.models.auto_masks.everything import propose, usual_search
from napari_samdepth.models.auto_masks.point_grid import Search
from napari_samdepth.session.annotator import Annotator
from napari_samdepth.session.found import ELSEWHERE, NOTHING_ADDED, added, at_full_size, full_plane, shown_elsewhere
from napari_samdepth.session.jobs import Lane
from napari_samdepth.session.layers import add_features, placement, spatial_shape
from napari_samdepth.session.searches import WholeImage
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
        self._thresholds = (0.88, 0.95, 0.7, 0)
        self._shown: WholeImage | None = None
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
            if not len(found):
                self.discard()
                self._state.say("No mask was found; try more points a side, or another model.")
                return
            self._hold(WholeImage(found, encoded))
            if shown_elsewhere(encoded, self._viewer.dims):
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

    def show(self) -> None:
        """Show what the present moment holds: other masks after undo and redo, or none."""
        if self._annotator.offer.moment.whole is not self._shown:
            self._show()

    def accept(self) -> int:
        """Write the masks shown as labels, never over labels that are there; one step to undo. Returns how many.

        Masks that lie on such labels nearly wholly are left out.

        Raises
        ------
        LayerError
            If another slice is shown than the one searched, or the Labels layer cannot be written.
        """
        whole, kept, offer = self._shown, self.kept, self._annotator.offer
        if whole is None or kept is None or not len(kept):
            return 0
        encoded = whole.encoded
        if shown_elsewhere(encoded, self._viewer.dims):
            raise LayerError("These masks were found in another slice; go back to it to add them, or discard them.")
        labels = at_full_size(kept.labels(), encoded, self._viewer.dims)
        numbers = self._annotator.masks.write_many(
            labels,
            len(kept),
            encoded.image,
            full_plane(encoded),
            lambda commit: offer.beside(replace(offer.moment, whole=None), step=True, commit=commit),
        )
        layer = self._annotator.masks.layer
        if numbers is None or layer is None:
            self._state.say(NOTHING_ADDED, problem=True)
            return 0
        scores, new = kept.scores[kept.by_area], numbers > 0
        told = {
            "index": numbers[new],
            "parent": np.concatenate([np.zeros(1, numbers.dtype), numbers])[kept.parents()][new],
            "predicted_iou": scores[new, 0],
            "stability_score": scores[new, 1],
        }
        add_features(layer, pd.DataFrame(told))
        self._show()
        self._state.say(added(numbers))
        return int(new.sum())

    def discard(self) -> None:
        """Take the found masks and their layer away; undo brings them back."""
        if self._annotator.offer.moment.whole is not None:
            self._hold(None)

    def forget(self, layer: object) -> None:
        """A layer was removed: if it was ours, what was found goes with it."""
        if self.layer is not None and layer is self.layer:
            self.layer = None
            self.discard()

    def _hold(self, whole: WholeImage | None) -> None:
        """What is found is another from now on; one step to undo."""
        offer = self._annotator.offer
        offer.beside(replace(offer.moment, whole=whole), step=True)
        self._show()

    def _show(self) -> None:
        """Let the layer and the panels show which of the masks found pass the thresholds."""
        whole = self._annotator.offer.moment.whole
        if whole is not None:
            iou, stability, overlap, area = self._thresholds
            self.kept = whole.found.filtered(iou, stability, overlap, min_area=area)
            self._state.found, self._state.kept = len(whole.found), len(self.kept)
            self._draw(whole, self.kept.labels())
            return
        layer, self.layer, self.kept, self._shown = self.layer, None, None, None
        self._state.found = self._state.kept = 0
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _draw(self, whole: WholeImage, labels: NDArray[np.int32]) -> None:
        encoded, before = whole.encoded, self._shown
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
        elif before is not None and before is not whole:
            full_plane(before.encoded).take(self.layer.data)[...] = 0
        full_plane(encoded).take(self.layer.data)[...] = at_full_size(labels, encoded, self._viewer.dims)
        self._shown = whole
        self.layer.refresh()
