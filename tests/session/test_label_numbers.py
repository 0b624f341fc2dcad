"""Label numbers at the edges of every dtype: what is written, read and noted is the very number."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image

from napari_samdepth.core.errors import LayerError
from napari_samdepth.session.geometry import shown_plane
from napari_samdepth.session.session import AnnotationSession
from napari_samdepth.storage.export import write_labels

from .conftest import WAIT

COIN = (60, 110)
EDGES = [
    (np.uint8, 254), (np.uint8, 255), (np.int8, 127), (np.uint16, 65535), (np.int16, 32767), (np.uint32, 2**32 - 1),
    (np.int32, 2**31 - 1), (np.int64, 2**32 - 2), (np.int64, 2**32 - 1), (np.int64, 720575940600000001),
    (np.uint64, 2**53), (np.uint64, 2**63 - 1), (np.uint64, 2**63), (np.uint64, 2**64 - 2),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "highest"), EDGES)
def test_the_next_number_is_written_read_and_noted(
    session: AnnotationSession, image: Image, viewer_model: ViewerModel, dtype: type, highest: int, tmp_path: object
) -> None:
    mine = np.zeros(image.data.shape[:2], dtype=dtype)
    mine[-20:-5, -20:-5] = highest
    if np.iinfo(dtype).min < 0:
        mine[-4:, -20:] = -3
    labels = viewer_model.add_labels(mine)
    session.start(image, labels=labels)
    assert session.wait(WAIT)
    viewer_model.layers["SAM prompts"].add(COIN)
    assert session.wait(WAIT)
    number = session.accept()
    assert number == highest + 1
    assert session.wait(WAIT)
    assert np.asarray(labels.data)[COIN] == highest + 1
    np.testing.assert_array_equal(np.asarray(labels.data)[-20:], mine[-20:])
    session.use_depth(viewer_model.add_image(np.zeros(mine.shape, dtype=np.float32)), "height", "nm")
    table = session.readout(labels)
    expected = sorted({int(value) for value in np.unique(labels.data)} - {0})
    assert table.index.tolist() == expected
    assert labels.features["index"].tolist() == expected
    saved = tifffile.imread(write_labels(f"{tmp_path}/labels.tif", np.asarray(labels.data)))
    np.testing.assert_array_equal(saved, labels.data)
    session.undo()
    np.testing.assert_array_equal(labels.data, mine)
    assert number not in set(labels.features["index"])
    session.redo()
    assert np.asarray(labels.data)[COIN] == number


@pytest.mark.parametrize(("dtype", "highest"), [(np.uint64, 2**64 - 1), (np.int64, 2**63 - 1)])
def test_where_no_number_is_left_one_sentence_says_so(
    session: AnnotationSession, image: Image, viewer_model: ViewerModel, dtype: type, highest: int
) -> None:
    mine = np.zeros(image.data.shape[:2], dtype=dtype)
    mine[-20:-5, -20:-5] = highest
    labels = viewer_model.add_labels(mine)
    session.start(image, labels=labels)
    assert session.wait(WAIT)
    viewer_model.layers["SAM prompts"].add(COIN)
    assert session.wait(WAIT)
    with pytest.raises(LayerError, match="no number left"):
        session.accept()
    np.testing.assert_array_equal(labels.data, mine)


def test_many_labels_at_once_beyond_63_bits(
    session: AnnotationSession, image: Image, viewer_model: ViewerModel
) -> None:
    mine = np.zeros(image.data.shape[:2], dtype=np.uint64)
    mine[-20:-5, -20:-5] = 2**63 - 2
    labels = viewer_model.add_labels(mine)
    labels.features = {"index": [2**63 - 2], "mine": ["kept"]}
    session.start(image, labels=labels)
    assert session.wait(WAIT)
    found = np.zeros(mine.shape, dtype=np.int32)
    found[10:20, 10:20], found[10:20, 30:40] = 1, 2
    plane = shown_plane(image, viewer_model.dims)
    edit, numbers = session._annotator.labels.write_many(found, 2, image, plane, labels)
    assert edit is not None
    assert numbers.tolist() == [2**63 - 1, 2**63]
    assert [int(labels.data[15, col]) for col in (15, 35)] == [2**63 - 1, 2**63]
