"""Text prompts: boxes found on the lane, shown in `SAM shapes` to be edited, and made into labels in one step."""

from __future__ import annotations

import numpy as np
import pandas as pd
from napari.components import ViewerModel
from skimage.segmentation import relabel_sequential

from napari_samdepth.annotation.document import DetectionBox, TextSearch, box_in_plane
from napari_samdepth.annotation.transitions import SetDetections, detections_in
from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.detections import Detections, painted
from napari_samdepth.core.errors import LayerError
from napari_samdepth.models.loading import load_text_detector
from napari_samdepth.models.protocols import Report, TextDetector
from napari_samdepth.models.text.grounding_dino import THRESHOLD, find_text, segment_boxes
from napari_samdepth.session.annotator import Annotator
from napari_samdepth.session.auto_masks import (
    ELSEWHERE,
    NOTHING_ADDED,
    added,
    at_full_size,
    shown_elsewhere,
)
from napari_samdepth.session.encoding import Encoded
from napari_samdepth.session.jobs import Lane
from napari_samdepth.session.labels import add_features
from napari_samdepth.session.layers import spatial_shape
from napari_samdepth.session.speed import measured
from napari_samdepth.session.state import SessionState

START = THRESHOLD
"""Score that the slider starts from."""
FLOOR = 0.05
"""Score from which on a box is kept for the slider."""
SAME_OBJECT = 0.8
"""Boxes that overlap more than this (IoU) are one object, found by two phrases."""

Mask = tuple[Patch, DetectionBox, float]
"""A mask, the box that it was made of, and the IoU that the segmenter predicts."""


class Words:
    """Finds what a text prompt names in the encoded plane; the user edits the boxes, the segmenter makes masks."""

    def __init__(self, viewer: ViewerModel, lane: Lane, state: SessionState, annotator: Annotator) -> None:
        """The session's parts."""
        self._viewer = viewer
        self._lane = lane
        self._state = state
        self._annotator = annotator
        self._detector: tuple[str, TextDetector] | None = None
        self._threshold = START
        self._counted = 0
        state.events.revision.connect(self.show)

    @property
    def search(self) -> TextSearch | None:
        """What a text prompt found in the shown slice, None where nothing was looked for."""
        return self._annotator.document.text_search

    @property
    def boxes(self) -> list[DetectionBox]:
        """The detection boxes in the shown slice."""
        document = self._annotator.document
        return [] if document.plane is None else detections_in(document, document.plane)

    def find(self, text: str, model: str = "grounding-dino-tiny") -> None:
        """Look for what `text` names in the encoded plane, on the lane; the boxes come into `SAM shapes`.

        Parameters
        ----------
        text
            Phrases with a full stop after each: "nucleus. coin."
        model
            A catalog name, or a folder with Grounding DINO or SAM 3.

        Raises
        ------
        LayerError
            If nothing is encoded yet.
        """
        encoded = self._annotator.need_encoded("words are looked for")

        def work(report: Report) -> Detections:
            if self._detector is None or self._detector[0] != model:
                self._detector = None
                self._detector = model, load_text_detector(model, report=report)
            detector = self._detector[1]
            return measured(
                "text", model, detector, lambda tell: find_text(detector, encoded.rgb, text, FLOOR, tell), report
            )

        def done(found: Detections) -> None:
            search = TextSearch(found, encoded.shown, self._counted)
            self._counted += len(found)
            self._propose(search, keep=[], step=True)
            if not search.boxes(self._threshold, SAME_OBJECT, frozenset()):
                self._state.say("Nothing was found; lower the score, or try other words.")
            elif shown_elsewhere(encoded.image, encoded.shown, self._viewer.dims):
                self._state.say(f"The search found boxes {ELSEWHERE}")

        self._state.say("")
        self._state.task, self._state.progress = "finding words", 0.0
        self._lane.submit("words", work, done, self._annotator.fail)

    def filter(self, threshold: float) -> None:
        """Show the boxes scored above `threshold`, now and after the next search; no model runs.

        Boxes that the user moved or drew stay, those that the user deleted stay away.
        """
        self._threshold = threshold
        self.show()

    def show(self, _revision: object = None) -> None:
        """Show which of the shown slice's boxes pass, as after undo and redo."""
        search, here = self.search, self.boxes
        if search is not None:
            self._propose(search, [box for box in here if not search.unmoved(box)], step=False)

    def accept(self) -> None:
        """Make masks of the detection boxes on the lane and write them as labels, over none that are there.

        Label names and scores go into the features. One step to undo.

        Raises
        ------
        LayerError
            If nothing is encoded, or no box is there.
        """
        encoded, search = self._annotator.need_encoded("masks are made"), self.search
        placed = [(box, box_in_plane(box.corners, encoded.shown)) for box in self.boxes]
        boxes = [(box, where) for box, where in placed if where is not None]
        if not boxes:
            raise LayerError("There is no box to make masks of; find words first.")
        if encoded.shown.origin is not None:
            height, width = encoded.shown.shape
            boxes = [(box, at) for box, at in boxes if at[0] < height and at[1] < width and min(at[2:]) > 0]
        if not boxes:
            raise LayerError("No box lies in the part of the image that is looked at; zoom out or go to the boxes.")
        # masks that the search gave count in its own window alone
        known = search if search is not None and search.plane == encoded.shown else None
        ready = [(box, None if known is None else known.mask(box)) for box, _ in boxes]
        there: dict[DetectionBox, Mask] = {box: (patch, box, box.score) for box, patch in ready if patch is not None}

        def work(report: Report) -> list[Mask]:
            made = [(box, where) for box, where in boxes if box not in there]
            answers = segment_boxes(encoded.segmenter, encoded.embedding, [where for _, where in made], report)
            masks = {box: (patch, box, iou) for (box, _), (patch, iou) in zip(made, answers, strict=True)}
            return [there.get(box) or masks[box] for box, _ in boxes]

        def done(masks: list[Mask]) -> None:
            if shown_elsewhere(encoded.image, encoded.shown, self._viewer.dims):
                self._state.say("Another slice is shown than the one of the boxes; go back to it and make masks again.")
                return
            try:
                self._write(masks, encoded)
            except LayerError as error:
                self._annotator.fail(error)

        self._state.say("")
        self._state.task, self._state.progress = "making masks", 0.0
        self._lane.submit("words", work, done, self._annotator.fail)

    def discard(self) -> None:
        """Take what a text prompt found in the shown slice away; undo brings it back."""
        plane = self._annotator.document.plane
        if plane is not None and (self.boxes or self.search is not None):
            self._annotator.dispatch(SetDetections(plane, (), None, step=True))

    def close(self) -> None:
        """Let go of the model."""
        self._detector = None

    def _write(self, masks: list[Mask], encoded: Encoded) -> None:
        labels = painted([patch for patch, _, _ in masks], encoded.shown.shape)
        seen = np.unique(labels[labels > 0])
        kept = [masks[number - 1] for number in seen]
        labels = relabel_sequential(labels)[0].astype(np.int32)
        annotator, made = self._annotator, [box for _, box, _ in masks]
        image, layer = encoded.image, annotator.target_layer(encoded.image)
        edit, numbers = annotator.labels.write_many(
            at_full_size(labels, image, encoded.shown, self._viewer.dims),
            len(kept),
            image,
            encoded.shown.at_full_resolution(spatial_shape(image)),
            layer,
        )
        if edit is None:
            self._state.say(NOTHING_ADDED, problem=True)
            return
        # what the user drew or moved meanwhile stays
        rest = tuple(box for box in self.boxes if not any(box.same(other) for other in made))
        annotator.dispatch(SetDetections(encoded.shown, rest, None, step=True), (edit,))
        kept = [mask for mask, number in zip(kept, numbers, strict=True) if number]
        told = {
            "index": numbers[numbers > 0],
            "name": [box.name for _, box, _ in kept],
            "word_score": [box.score for _, box, _ in kept],
            "predicted_iou": [iou for _, _, iou in kept],
        }
        add_features(layer, pd.DataFrame(told))
        self._state.say(added(numbers))

    def _propose(self, search: TextSearch, keep: list[DetectionBox], step: bool) -> None:
        """Let the boxes of a slice be those that pass the threshold, beside those to be kept."""
        document = self._annotator.document
        kept = frozenset(box.number for box in keep)
        boxes = [*keep, *search.boxes(self._threshold, SAME_OBJECT, document.dropped | kept)]
        there = {box.number for box in detections_in(document, search.plane)}
        if step or there != {box.number for box in boxes}:
            self._annotator.dispatch(SetDetections(search.plane, tuple(boxes), search, step))
