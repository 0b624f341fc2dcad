"""A viewer without a window, a session on it, and pictures that need no download."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from numpy.typing import NDArray
from skimage import data

from napari_samdepth.session.session import AnnotationSession, session_of

WAIT = 60.0
COIN = (52.0, 49.0)
"""(row, col) of a point on the first coin of the coins picture."""


@pytest.fixture
def session(viewer_model: ViewerModel) -> Iterator[AnnotationSession]:
    made = session_of(viewer_model)
    yield made
    made.close()


@pytest.fixture(scope="session")
def coins() -> NDArray[np.uint8]:
    picture: NDArray[np.uint8] = data.coins()
    return picture


@pytest.fixture
def image(viewer_model: ViewerModel, coins: NDArray[np.uint8]) -> Image:
    return viewer_model.add_image(coins, name="coins")


@pytest.fixture
def started(session: AnnotationSession, image: Image) -> AnnotationSession:
    session.start(image)
    assert session.wait(WAIT)
    assert session.state.phase == "ready", session.state.message
    return session
