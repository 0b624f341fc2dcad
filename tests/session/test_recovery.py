"""Labels that were not saved come back, whenever and however the process ended."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels
from napari_builtins.io import napari_write_labels
from numpy.typing import NDArray

from napari_samdepth.core.errors import LayerError
from napari_samdepth.session.session import AnnotationSession, session_of
from napari_samdepth.storage.journal import recoverable

WAIT = 60.0
COINS = [(52.0, 49.0), (54.0, 100.0), (50.0, 155.0), (51.0, 215.0)]
KILLS = 2

ANNOTATE = """
import sys, time
import numpy as np
from napari.components import ViewerModel
from skimage import data
from napari_samdepth.session.session import session_of

viewer = ViewerModel()
image = viewer.add_image(data.coins()[:140], name="coins")
session = session_of(viewer)
session.start(image)
session.wait(60)
print("ready", flush=True)
rng = np.random.default_rng(int(sys.argv[1]))
while True:
    viewer.layers["SAM prompts"].add(rng.uniform(0, 1, 2) * (130, 370))
    session.wait(60)
    session.accept()
    if rng.uniform() < 0.2:
        session.undo()
        session.undo()
    labels = session.masks.layer
    if labels is not None:
        counts = np.bincount(labels.data.ravel()).tolist()
        print(time.time(), *counts, flush=True)
"""


def accepted(session: AnnotationSession, points: list[tuple[float, float]]) -> Labels:
    for at in points:
        session._viewer.layers["SAM prompts"].add(at)
        assert session.wait(WAIT)
        assert session.accept()
    layer = session.masks.layer
    assert layer is not None
    return layer


def ended(session: AnnotationSession) -> NDArray[np.integer]:
    """Return the labels of a session whose process dies."""
    layer = session.masks.layer
    assert layer is not None
    held = layer.data.copy()
    session.close()
    return held


def elsewhere(pixels: NDArray[np.uint8], name: str = "coins") -> tuple[AnnotationSession, Image]:
    viewer = ViewerModel()
    return session_of(viewer), viewer.add_image(pixels, name=name)


def test_work_comes_back_with_its_steps(started: AnnotationSession, coins: NDArray[np.uint8]) -> None:
    layer = accepted(started, COINS[:3])
    before = layer.data.copy()
    before[before == 3] = 0
    held = ended(started)
    (item,) = recoverable()
    assert (item.name, item.labels, item.labels_name) == ("coins", 3, "coins masks")
    session, image = elsewhere(coins)
    restored = session.recover(item)
    assert np.array_equal(restored.data, held)
    assert session.state.message == "3 labels restored."
    assert session.recoverable() == []
    session.undo()
    assert np.array_equal(restored.data, before)
    session.redo()
    assert np.array_equal(restored.data, held)
    # it goes on in the same journal, in the layer that came back
    session.start(image)
    assert accepted(session, COINS[3:]) is restored
    held = ended(session)
    (item,) = recoverable()
    assert item.labels == 4
    assert np.array_equal(item.work().labels, held)
    item.discard()


def test_undo_and_redo_are_remembered(started: AnnotationSession) -> None:
    layer = accepted(started, COINS)
    for _ in range(4):
        started.undo()
    started.redo()
    started.redo()
    held = ended(started)
    assert layer is not None
    (item,) = recoverable()
    assert np.array_equal(item.work().labels, held)
    assert not item.damaged
    item.discard()


def test_redo_after_something_else_was_written(started: AnnotationSession, image: Image) -> None:
    accepted(started, COINS[:2])
    started.undo()
    layer = started.masks.layer
    assert layer is not None
    shown = started._annotator.encoded.shown  # type: ignore[union-attr]
    change = started._annotator.labels.change
    from napari_samdepth.core.candidates import Patch
    from napari_samdepth.core.labelling import write_mask

    patch = write_mask(layer.data, Patch(np.ones((5, 5), bool), (280, 5)), 9)
    assert patch is not None
    # as an answer to a waiting object is written: the steps that were undone stay
    started._annotator.journals.note(
        (change(layer, shown, patch, (9,)),), started._viewer, started._annotator.labels, image, ""
    )
    started.redo()
    held = ended(started)
    (item,) = recoverable()
    assert np.array_equal(item.work().labels, held)
    assert not item.damaged
    item.discard()


def test_labels_that_were_there_come_back_as_well(
    session: AnnotationSession, image: Image, viewer_model: ViewerModel
) -> None:
    mine = np.zeros(image.data.shape, np.uint8)
    mine[250:280, 300:340] = 7
    labels = viewer_model.add_labels(mine, name="mine", scale=(1, 1))
    session.start(image, labels=labels)
    assert session.wait(WAIT)
    accepted(session, COINS[:1])
    held = ended(session)
    assert set(np.unique(held)) == {0, 7, 8}
    (item,) = recoverable()
    other, _ = elsewhere(image.data)
    assert np.array_equal(other.recover(item).data, held)
    other.close()
    recoverable()[0].discard()


def test_an_image_that_changed_is_said(started: AnnotationSession, coins: NDArray[np.uint8]) -> None:
    accepted(started, COINS[:1])
    held = ended(started)
    session, _ = elsewhere(255 - coins)
    restored = session.recover(recoverable()[0])
    assert np.array_equal(restored.data, held)
    assert session.state.message == "1 label restored. “coins” is not as it was when these labels were made."
    session.close()
    recoverable()[0].discard()


def test_an_image_that_is_gone_is_said_and_the_labels_lie_where_they_lay(
    session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    image = viewer_model.add_image(coins, name="coins", scale=(0.5, 0.5), translate=(3, 4), units=("um", "um"))
    session.start(image)
    assert session.wait(WAIT)
    layer = accepted(session, COINS[:1])
    place = layer.scale.copy(), layer.translate.copy(), layer.units
    held = ended(session)
    other = session_of(ViewerModel())
    restored = other.recover(recoverable()[0])
    assert np.array_equal(restored.data, held)
    assert "coins, is not here" in other.state.message
    assert np.array_equal(restored.scale, place[0])
    assert np.array_equal(restored.translate, place[1])
    assert restored.units == place[2]
    other.close()
    recoverable()[0].discard()


def test_what_was_saved_is_not_offered(started: AnnotationSession, tmp_path: Path) -> None:
    accepted(started, COINS[:1])
    started.save_labels(tmp_path / "mine.tif")
    assert started.state.message == f"Labels saved to {tmp_path / 'mine.tif'}."
    started.close()
    assert recoverable() == []


def test_what_napari_saved_is_not_offered(started: AnnotationSession, tmp_path: Path) -> None:
    from napari.utils.history import update_save_history

    layer = accepted(started, COINS[:1])
    started.close()
    (item,) = started.recoverable()
    written = napari_write_labels(str(tmp_path / "by napari.tif"), layer.data, {})
    update_save_history(written)
    assert started.recoverable() == []
    assert recoverable() == []
    assert not item.path.exists()


def test_an_older_file_does_not_stand_for_newer_labels(started: AnnotationSession, tmp_path: Path) -> None:
    from napari.utils.history import update_save_history

    layer = accepted(started, COINS[:1])
    written = napari_write_labels(str(tmp_path / "early.tif"), layer.data, {})
    update_save_history(written)
    accepted(started, COINS[1:2])
    started.close()
    (item,) = started.recoverable()
    assert item.labels == 2
    item.discard()


def test_a_removed_layer_can_be_recovered(started: AnnotationSession, coins: NDArray[np.uint8]) -> None:
    layer = accepted(started, COINS[:2])
    held = layer.data.copy()
    started._viewer.layers.remove(layer)
    (item,) = started.recoverable()
    assert np.array_equal(started.recover(item).data, held)
    started.close()
    recoverable()[0].discard()


def test_saving_nothing_is_refused(session: AnnotationSession, tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="no labels to save"):
        session.save_labels(tmp_path / "none.tif")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_process_leaves_every_label_older_than_half_a_second(tmp_path: Path) -> None:
    rng = random.Random(5)
    for kill in range(KILLS):
        environment = {**os.environ, "NAPARI_SAMDEPTH_STATE": str(tmp_path / f"state-{kill}")}
        with subprocess.Popen(
            [sys.executable, "-c", ANNOTATE, str(kill)], stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0.6, 2.5))
            process.send_signal(signal.SIGKILL)
            killed = time.time()
            lines = [line.split() for line in process.stdout.read().splitlines()]
        told = [(float(line[0]), [int(count) for count in line[1:]]) for line in lines]
        (item,) = recoverable(tmp_path / f"state-{kill}" / "journals")
        found = np.bincount(item.work().labels.ravel()).tolist()
        assert not item.damaged
        later = [counts for _, counts in told]
        # what the disk holds is a state told of in the last half second, or the last one and a label more
        safe = [at for at, (when, _) in enumerate(told) if when < killed - 0.5]
        first = safe[-1] if safe else 0
        assert found in later[first:] or found[1:-1] == later[-1][1:]
