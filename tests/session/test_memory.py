"""What is held of images, masks, models and layers that are done with: bounded in bytes, and let go."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_samdepth.annotation.document import Document
from napari_samdepth.core.embedding import Embedding
from napari_samdepth.session import encoding
from napari_samdepth.session.encoding import Encoded
from napari_samdepth.session.session import AnnotationSession

from .conftest import WAIT
from .test_session import click


def _alive(kind: type) -> int:
    gc.collect()
    return sum(type(thing) is kind for thing in gc.get_objects())


def _picture(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    rows, cols = np.mgrid[:60, :80]
    noise = np.random.default_rng(seed).normal(0, 5, rows.shape)
    return np.clip(np.where((rows - 30) ** 2 + (cols - 40) ** 2 < 200, 200, 40) + noise, 0, 255).astype(np.uint8)


def test_undo_holds_no_encoded_planes_and_embeddings_are_bounded_in_bytes(
    session: AnnotationSession, viewer_model: ViewerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # other sessions of this process may hold some of their own
    before, planes = _alive(Embedding), _alive(Encoded)
    stack = viewer_model.add_image(np.stack([_picture(at) for at in range(6)]), name="stack")
    viewer_model.dims.set_current_step(0, 0)
    session.start(stack)
    assert session.wait(WAIT)
    one = session.masks.planes.nbytes
    assert one > 0
    monkeypatch.setattr(encoding, "EMBEDDINGS_BUDGET", int(2.5 * one))
    for at in range(6):
        viewer_model.dims.set_current_step(0, at)
        click(session, viewer_model, at, 30, 40)
        assert session.accept() == at + 1
    assert session.masks.planes.nbytes <= 2.5 * one
    assert _alive(Embedding) - before <= 3
    assert _alive(Encoded) - planes <= 2
    for _ in range(12):
        session.undo()
    assert session.wait(WAIT)
    assert not session.masks.layer.data.any(), "undo needs none of them"


def test_layers_that_were_removed_are_let_go_although_their_steps_can_be_undone(
    session: AnnotationSession, viewer_model: ViewerModel
) -> None:
    left = []
    for at in range(3):
        image = viewer_model.add_image(_picture(at), name=f"picture {at}")
        session.start(image)
        assert session.wait(WAIT)
        click(session, viewer_model, 30, 40)
        session.accept()
        labels = session.masks.layer
        left += [weakref.ref(image), weakref.ref(labels)]
        viewer_model.layers.remove(labels)
        viewer_model.layers.remove(image)
        del image, labels
    gc.collect()
    gc.collect()
    assert session.state.can_undo
    assert [held() for held in left].count(None) >= len(left) - 2, "napari holds the layer selected last"


def test_models_are_let_go_on_close_and_when_another_one_is_used(
    session: AnnotationSession, viewer_model: ViewerModel
) -> None:
    image: Image = viewer_model.add_image(_picture(0), name="picture")
    session.start(image)
    assert session.wait(WAIT)
    session.add_depth()
    assert session.wait(WAIT)
    first = weakref.ref(session.masks.encoded.segmenter)
    session.start(image, precision="bfloat16")
    assert session.wait(WAIT)
    gc.collect()
    assert first() is None, "the one before is gone once the new one works"
    held = [weakref.ref(session.masks.encoded.segmenter), *map(weakref.ref, session.depths._estimators.values())]
    session.finish()
    gc.collect()
    assert all(model() is not None for model in held), "clicking on is quick"
    session.close()
    gc.collect()
    assert [model() for model in held] == [None, None]


def test_what_is_held_grows_with_labels_not_with_pictures(
    session: AnnotationSession, viewer_model: ViewerModel
) -> None:
    documents = []
    for at in range(8):
        image = viewer_model.add_image(_picture(at), name="picture")
        session.start(image)
        assert session.wait(WAIT)
        for row in (30, 50):
            click(session, viewer_model, row, 40)
            session.accept()
        session.finish()
        viewer_model.layers.remove(image)
        documents.append(_alive(Document))
    assert documents[-1] <= documents[1] + 4 * 6
    assert session.masks.history.nbytes < 8 * 2 * 60 * 80
