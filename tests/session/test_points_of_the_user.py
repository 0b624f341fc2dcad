"""A Points layer of the user's that serves for clicks: all that is in it stays as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Points
from numpy.typing import NDArray

from napari_samdepth.session.session import AnnotationSession

from .conftest import WAIT

PLACES = np.array([[50.0, 60.0], [110.0, 150.0], [20.0, 200.0]])


@pytest.fixture
def image(viewer_model: ViewerModel) -> Image:
    """Return a picture with a disk at the first two of the places."""
    rows, cols = np.mgrid[:160, :220]
    lit = np.zeros(rows.shape, dtype=bool)
    for row, col in PLACES[:2]:
        lit |= (rows - row) ** 2 + (cols - col) ** 2 < 18**2
    return viewer_model.add_image(np.where(lit, 200, 40).astype(np.uint8), name="disks")


def _looks(points: Points) -> dict[str, Any]:
    features = points.features.drop(columns=["prompt"], errors="ignore")
    return {
        "data": np.array(points.data),
        "size": points.size.copy(),
        "symbol": [str(symbol) for symbol in points.symbol],
        "border_color": points.border_color.copy(),
        "border_width": points.border_width.copy(),
        "shown": points.shown.copy(),
        "features": features.set_axis([str(name) for name in features.columns], axis=1),
    }


def _same(points: Points, before: dict[str, Any]) -> None:
    now = _looks(points)
    pd.testing.assert_frame_equal(now.pop("features"), before["features"])
    for name, value in now.items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def _add(viewer: ViewerModel, places: NDArray[np.float64] = PLACES, **more: Any) -> Points:
    count = len(places)
    return viewer.add_points(
        places,
        name="mine",
        size=[5, 20, 3][:count],
        symbol=["o", "x", "star"][:count],
        border_color=["red", "blue", "white"][:count],
        border_width=[0.1, 0.2, 0.3][:count],
        face_color=["cyan", "yellow", "magenta"][:count],
        **more,
    )


FEATURES = {
    "float": np.array([0.9, np.nan, 0.1]),
    "int": np.array([3, 1, 2]),
    "str": np.array(["a", "b", "c"], dtype=object),
    "bool": np.array([True, False, True]),
    "category": pd.Categorical(["a", "b", "a"]),
    "date": pd.to_datetime(["2020-01-01", "2021-01-01", "2022-01-01"]),
    "nullable": pd.array([1, None, 3], dtype="Int64"),
}


@pytest.mark.parametrize("dtypes", [[name] for name in FEATURES] + [list(FEATURES)])
def test_points_with_any_features_stay_as_they_are_through_enter_undo_redo_and_finish(
    session: AnnotationSession, viewer_model: ViewerModel, image: Image, dtypes: list[str]
) -> None:
    points = _add(viewer_model, features=pd.DataFrame({f"a {name}": FEATURES[name] for name in dtypes}))
    colours, before = points.face_color.copy(), _looks(points)
    session.start(image, points=points)
    assert session.wait(WAIT)
    _same(points, before)
    assert session.accept() == 1
    for step in (session.undo, session.redo, session.undo, session.redo):
        step()
        assert session.wait(WAIT)
        _same(points, before)
    session.finish()
    session.undo()
    _same(points, before)
    np.testing.assert_allclose(points.face_color, colours)
    assert not points.keymap
    points.add((1.0, 1.0))
    assert len(points.features) == len(points.data) == 4


def test_points_that_made_a_label_prompt_no_longer_and_new_ones_do(
    session: AnnotationSession, viewer_model: ViewerModel, image: Image
) -> None:
    points = _add(viewer_model, PLACES[:1])
    session.start(image, points=points)
    assert session.wait(WAIT)
    assert session.accept() == 1
    points.add(PLACES[1])
    assert session.wait(WAIT)
    assert session.accept() == 2
    labels = session.masks.layer.data
    assert (labels[50, 60], labels[110, 150]) == (1, 2)
    assert len(points.data) == 2
    session.undo()
    session.undo()
    assert session.wait(WAIT)
    assert len(points.data) == 1, "the second click is taken back, the point that was there is not"
    session.redo()
    assert session.wait(WAIT)
    np.testing.assert_array_equal(points.data, PLACES[:2])
    session.redo()
    assert labels[110, 150] == 2


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # napari's thumbnail of such points
def test_points_that_lie_nowhere_or_are_hidden_are_no_prompts(
    session: AnnotationSession, viewer_model: ViewerModel, image: Image
) -> None:
    points = _add(viewer_model, np.array([[50.0, 60.0], [np.nan, 20.0], [110.0, 150.0]]))
    points.shown = [True, True, False]
    before = _looks(points)
    session.start(image, points=points)
    assert session.wait(WAIT)
    assert len(session.masks.document.drawn.points) == 1
    assert session.accept() == 1
    labels = session.masks.layer.data
    assert (labels[50, 60], labels[110, 150]) == (1, 0), "the hidden point is no click"
    session.undo()
    assert session.wait(WAIT)
    session.finish()
    _same(points, before)


def test_the_text_of_points_stays(session: AnnotationSession, viewer_model: ViewerModel, image: Image) -> None:
    points = _add(
        viewer_model, features={"kind": ["a", "b", "c"]}, text={"string": "{kind}", "size": 8, "color": "white"}
    )
    session.start(image, points=points)
    assert session.wait(WAIT)
    session.accept()
    points.add((30.0, 30.0))
    assert session.wait(WAIT)
    session.undo()
    assert session.wait(WAIT)
    session.finish()
    assert [str(text) for text in points.text.values] == ["a", "b", "c"]


def test_colours_that_follow_a_feature_of_the_users_follow_it_again(
    session: AnnotationSession, viewer_model: ViewerModel, image: Image
) -> None:
    points = viewer_model.add_points(
        PLACES, features={"kind": ["a", "b", "a"]}, face_color="kind", face_color_cycle=["red", "blue"], name="mine"
    )
    before = points.face_color.copy()
    session.start(image, points=points)
    assert session.wait(WAIT)
    session.accept()
    session.finish()
    np.testing.assert_allclose(points.face_color, before)
    assert str(points.face_color_mode) == "cycle"


def test_a_feature_named_prompt_says_what_a_point_means(
    session: AnnotationSession, viewer_model: ViewerModel, image: Image
) -> None:
    points = _add(viewer_model, features={"prompt": ["foreground", "background", "foreground"]})
    session.start(image, points=points)
    assert session.wait(WAIT)
    assert session.masks.document.drawn.labels.tolist() == [1, 0, 1]
    session.finish()
    assert points.features["prompt"].tolist() == ["foreground", "background", "foreground"]
