"""Random actions without a window: whatever a user does, labels stay, undo brings back, and the next click works."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from napari.components import ViewerModel

from tests.random_user import RandomUser
from tests.word_models import save_grounding_dino


def _do(viewer: ViewerModel, folder: Path, seed: int, count: int) -> None:
    user = RandomUser(viewer, folder, seed, str(save_grounding_dino(folder / "words")))
    try:
        user.act(count)
    finally:
        user.close()


def test_a_hundred_random_actions_break_nothing(viewer_model: ViewerModel, tmp_path: Path) -> None:
    _do(viewer_model, tmp_path, 11, 100)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_two_thousand_random_actions_break_nothing(viewer_model: ViewerModel, tmp_path: Path, seed: int) -> None:
    if not os.environ.get("NAPARI_SAMDEPTH_SLOW"):
        pytest.skip("takes minutes: set NAPARI_SAMDEPTH_SLOW=1")
    _do(viewer_model, tmp_path, seed, 2000)
