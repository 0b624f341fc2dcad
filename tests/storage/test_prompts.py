"""Prompts beside saved labels: found by content alone, and by nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tifffile import imread

from napari_samdepth.core.journal import LabelPrompts, PlanePosition, PromptShape
from napari_samdepth.storage import prompts as module
from napari_samdepth.storage.export import write_labels
from napari_samdepth.storage.prompts import PromptStore, image_digest, labels_digest

RANDOM = np.random.default_rng(0)


def some(*labels: int) -> list[LabelPrompts]:
    shapes = (PromptShape("lasso", RANDOM.normal(size=(5, 2))), PromptShape("scribble", RANDOM.normal(size=(9, 2)), 0))
    return [
        LabelPrompts(one, np.array([[one, 2.5]]), np.array([1]), shapes, PlanePosition(0, 1, (0, 0)), "vit_b")
        for one in labels
    ]


def test_a_saved_file_finds_the_prompts_of_its_labels_again(tmp_path: Path) -> None:
    labels = np.zeros((40, 50), np.int32)
    labels[3:9, 4:9], labels[20:30, 20:30] = 1, 7
    image = RANDOM.integers(0, 255, (40, 50), dtype=np.uint8)
    store, kept = PromptStore(), some(1, 7)
    store.keep(image_digest(image), labels_digest(labels), kept)
    assert store.flush()
    read = imread(write_labels(tmp_path / "labels.tif", labels))
    assert read.dtype == np.uint8
    found = PromptStore().load(image_digest(image.copy()), labels_digest(read))
    assert list(found) == [1, 7]
    for one, other in zip(found.values(), kept, strict=True):
        assert (one.model, one.plane) == (other.model, other.plane)
        np.testing.assert_array_equal(one.points, other.points)
        assert [(shape.kind, shape.label) for shape in one.shapes] == [("lasso", 1), ("scribble", 0)]
        np.testing.assert_array_equal(one.shapes[1].vertices, other.shapes[1].vertices)
    read[0, 0] = 3
    assert store.load(image_digest(image), labels_digest(read)) == {}
    assert store.load(image_digest(255 - image), labels_digest(labels)) == {}


def test_nothing_to_keep_makes_no_file_and_a_damaged_one_goes(tmp_path: Path) -> None:
    store = PromptStore(tmp_path / "prompts")
    store.keep("a", "b", [])
    assert store.flush()
    assert not (tmp_path / "prompts").exists()
    store.keep("a", "b", some(1))
    assert store.flush()
    (path,) = (tmp_path / "prompts").iterdir()
    whole = path.read_bytes()
    for at in range(0, len(whole), 11):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert store.load("a", "b") == {}
        assert not path.exists()
    path.write_bytes(whole)
    assert list(store.load("a", "b")) == [1]
    path.rename(path.with_name(path.name.replace(path.stem, module._key("a", "c"))))
    assert store.load("a", "c") == {}


def test_they_are_capped_and_a_disk_that_refuses_is_said(tmp_path: Path) -> None:
    store = PromptStore(tmp_path / "prompts", 4000)
    for number in range(12):
        store.keep("image", str(number), some(1))
        assert store.flush()
    held = list((tmp_path / "prompts").iterdir())
    assert 1 < len(held) < 12
    assert sum(path.stat().st_size for path in held) <= 4000
    assert store.load("image", "11")
    (tmp_path / "file").touch()
    refused = PromptStore(tmp_path / "file" / "prompts")
    assert refused.load("a", "b") == {}
    assert refused.take_message().startswith("Prompts of saved labels are kept in memory only")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, ">i4", np.uint64, bool])
def test_labels_are_known_by_their_numbers(dtype: str) -> None:
    labels = np.zeros((3, 20, 30), np.int64)
    labels[1, 2:5, 3:9] = 1
    assert labels_digest(labels.astype(dtype)) == labels_digest(labels)
    assert labels_digest(labels[None]) == labels_digest(labels)
    assert labels_digest(np.asfortranarray(labels)) == labels_digest(labels)
    assert labels_digest(labels.reshape(3, 30, 20)) != labels_digest(labels)
    assert labels_digest(labels[1:]) != labels_digest(labels)


def test_parts_make_the_same_digest_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = RANDOM.integers(0, 9, (37, 11))
    whole = labels_digest(labels), image_digest(labels)
    monkeypatch.setattr(module, "_BLOCK", 40)
    assert (labels_digest(labels), image_digest(labels)) == whole


@pytest.mark.parametrize("shape", [(), (0, 5), (1, 1), (7,)])
def test_odd_shapes_have_a_digest(shape: tuple[int, ...]) -> None:
    assert len(labels_digest(np.zeros(shape, np.uint8))) == 32
    assert len(image_digest(np.zeros(shape, np.float32))) == 32


def test_labels_are_integers() -> None:
    with pytest.raises(ValueError, match="integers"):
        labels_digest(np.zeros((3, 3)))


def test_images_differ_by_content_dtype_and_shape_and_lazy_ones_are_read_in_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = RANDOM.integers(0, 255, (40, 6, 7), dtype=np.uint16)
    others = [image.astype(np.int16), image.reshape(40, 7, 6), image[::-1], np.where(image == image[3, 3, 3], 0, image)]
    assert len({image_digest(one) for one in (image, *others)}) == 5
    assert image_digest(image.astype(">u2")) == image_digest(image) == image_digest(image[:, None])
    monkeypatch.setattr(module, "WHOLE", 100)
    read: list[int] = []

    class Lazy:
        shape, dtype = image.shape, image.dtype

        def __getitem__(self, at: int) -> np.ndarray:
            read.append(at)
            found: np.ndarray = image[at]
            return found

    assert image_digest(Lazy()) == image_digest(image)
    assert len(read) == module.SAMPLES
    assert (read[0], read[-1]) == (0, 39)
