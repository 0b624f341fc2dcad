"""Words in a real window: type, find, slide, delete a box, make masks, undo."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from skimage import data

from tests.word_models import save_grounding_dino

from .conftest import Bench


@pytest.fixture(scope="module", autouse=True)
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder of models that holds a small Grounding DINO, put there by hand, before the docks look."""
    folder = tmp_path_factory.mktemp("models")
    save_grounding_dino(folder / "grounding-dino-tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_SAMDEPTH_MODELS", str(folder))
        yield


def test_words_become_labels_with_names(bench: Bench) -> None:
    viewer, words, state = bench.viewer, bench.segment.words, bench.session.state
    viewer.add_image(data.coins(), name="coins")
    bench.settle()
    bench.segment.start_button.click()
    bench.until(lambda: state.phase == "ready")
    words.expand(animate=False)
    assert not words.find_button.isEnabled()
    assert "Say what to look for" in words.find_button.toolTip()
    assert not words.choice.isVisible()
    QTest.keyClicks(words.wanted, "round coin. nucleus.")
    words.score.value = 0.9
    QTest.keyClick(words.wanted, Qt.Key.Key_Return)
    bench.until(lambda: state.boxes > 0)
    bench.settle()
    boxes = viewer.layers["SAM shapes"]
    many = boxes.nshapes
    assert boxes.mode == "select"
    assert words.choice.isVisible()
    assert words.count.text().startswith(f"{many} boxes")
    before = bench.canvas().copy()
    words.score.value = 0.97
    bench.settle()
    assert 1 < boxes.nshapes < many
    assert not np.array_equal(bench.canvas(), before)
    few = boxes.nshapes
    viewer.layers.selection.active = boxes
    boxes.selected_data = {0}
    boxes.remove_selected()
    bench.settle()
    assert words.count.text().startswith(f"{few - 1} box")
    words.make_button.click()
    bench.until(lambda: "coins masks" in viewer.layers)
    bench.settle()
    masks = viewer.layers["coins masks"]
    assert set(masks.features["name"]) <= {"round coin", "nucleus"}
    assert masks.data.any()
    assert not words.choice.isVisible()
    bench.segment.undo_button.click()
    bench.settle()
    assert not masks.data.any()
    assert boxes.nshapes == few - 1
    bench.segment.undo_button.click()
    bench.settle()
    assert boxes.nshapes == few
    words.drop_button.click()
    bench.settle()
    assert boxes.nshapes == 0
    bench.segment.undo_button.click()
    bench.settle()
    assert boxes.nshapes == few
