"""What goes wrong on the lane: a sentence for the user stays one, anything else is told as a fault, with its trace."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from napari.utils.notifications import ErrorNotification, notification_manager

from napari_samdepth.core.errors import LayerError, ModelError
from napari_samdepth.session.session import AnnotationSession

from .conftest import COIN, WAIT

SESSION = "napari_samdepth.session"


@pytest.fixture
def told() -> Iterator[list[Any]]:
    """What napari shows of errors."""
    shown: list[Any] = []

    def note(notification: Any) -> None:
        if isinstance(notification, ErrorNotification):
            shown.append(notification.exception)

    notification_manager.notification_ready.connect(note)
    yield shown
    notification_manager.notification_ready.disconnect(note)


def _click(session: AnnotationSession, viewer: ViewerModel) -> None:
    viewer.layers["SAM prompts"].add(np.array(COIN))


def _look(session: AnnotationSession, viewer: ViewerModel) -> None:
    viewer.layers["coins"].contrast_limits = (0, 200)
    _click(session, viewer)


def _depth(session: AnnotationSession, viewer: ViewerModel) -> None:
    session.add_depth()


def _everything(session: AnnotationSession, viewer: ViewerModel) -> None:
    session.everything.search(4, 0)


def _words(session: AnnotationSession, viewer: ViewerModel) -> None:
    session.words.find("coin.", "somewhere")


def _device(session: AnnotationSession, viewer: ViewerModel) -> None:
    session.state.device = ""
    session.find_device()


JOBS: list[tuple[str, Callable[[AnnotationSession, ViewerModel], None]]] = [
    ("annotator.decode", _click),
    ("layers.PlaneSource.render", _look),
    ("depths.load_depth_estimator", _depth),
    ("auto_masks.propose", _everything),
    ("text_search.load_text_detector", _words),
    ("session.device_text", _device),
]


@pytest.mark.parametrize(("part", "ask"), JOBS, ids=[part for part, _ in JOBS])
def test_a_bug_in_any_job_is_logged_shown_and_said(
    started: AnnotationSession,
    viewer_model: ViewerModel,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    told: list[Any],
    part: str,
    ask: Callable[[AnnotationSession, ViewerModel], None],
) -> None:
    def broken(*_words: Any, **_named: Any) -> Any:
        raise KeyError("rgb")

    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
        patched.setattr(f"{SESSION}.{part}", broken)
        ask(started, viewer_model)
        assert started.wait(WAIT)
    assert [type(error) for error in told] == [KeyError]
    assert started.state.problem
    assert started.state.message == "A fault of the plugin (KeyError: 'rgb'); please report it."
    assert "in broken" in caplog.text
    assert "Traceback" in caplog.text
    started.clear()
    started.start(viewer_model.layers["coins"])
    assert started.wait(WAIT)
    _click(started, viewer_model)
    assert started.wait(WAIT)
    assert started.state.scores, "the next click works"


def test_a_bug_in_a_readout_is_logged_and_shown(
    started: AnnotationSession,
    viewer_model: ViewerModel,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    told: list[Any],
) -> None:
    def broken(*_words: Any, **_named: Any) -> Any:
        raise KeyError("rgb")

    labels = viewer_model.add_labels(np.ones((303, 384), dtype=np.uint8), name="mine")
    started.use_depth(viewer_model.layers["coins"], "height", "nm")
    monkeypatch.setattr(f"{SESSION}.readouts.depth_readout", broken)
    failed: list[Exception] = []
    started.request_readout(labels, lambda _table: None, failed.append)
    assert started.wait(WAIT)
    assert [type(error) for error in (*failed, *told)] == [KeyError, KeyError]
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("kind", [ModelError, LayerError])
def test_a_sentence_for_the_user_is_shown_as_it_is(
    started: AnnotationSession,
    viewer_model: ViewerModel,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    told: list[Any],
    kind: type[Exception],
) -> None:
    def refuses(*_words: Any, **_named: Any) -> Any:
        raise kind("There is no model; choose another.")

    monkeypatch.setattr(f"{SESSION}.depths.load_depth_estimator", refuses)
    started.add_depth()
    assert started.wait(WAIT)
    assert started.state.message == "There is no model; choose another."
    assert started.state.problem
    assert not told
    assert "Traceback" not in caplog.text


def test_a_bug_while_an_object_waits_gives_it_up_and_the_next_one_is_made(
    session: AnnotationSession,
    image: Image,
    viewer_model: ViewerModel,
    monkeypatch: pytest.MonkeyPatch,
    told: list[Any],
) -> None:
    def broken(*_words: Any) -> Any:
        raise ZeroDivisionError

    session.start(image)
    with monkeypatch.context() as patched:
        patched.setattr(f"{SESSION}.annotator.decode", broken)
        _click(session, viewer_model)
        session.accept()
        assert session.wait(WAIT)
    assert session.state.waiting == 0
    assert [type(error) for error in told] == [ZeroDivisionError]
    _click(session, viewer_model)
    assert session.wait(WAIT)
    assert session.accept() == 1
