"""Files: what is written is read back the same, and a full disk leaves nothing half written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from skimage import io

from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.measure.readout import depth_readout, with_units
from napari_samdepth.storage.atomic import atomic_path
from napari_samdepth.storage.export import read_depth, write_depth, write_labels, write_table
from napari_samdepth.storage.figure import write_figure
from napari_samdepth.storage.images import read_image

SHAPE = (120, 160)


@pytest.fixture
def labels() -> np.ndarray:
    array = np.zeros(SHAPE, dtype=np.int64)
    array[20:60, 20:60], array[30:90, 60:120] = 2, 7
    return array


@pytest.fixture
def depth() -> DepthMap:
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    values[:3] = np.nan
    return DepthMap(values, "distance", "mm", "a sensor – Größe", 2.5)


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """Let no file grow beyond `limit` bytes: the operating system itself refuses to write on."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("top", "dtype"), [(1, "uint8"), (255, "uint8"), (256, "uint16"), (70000, "uint32")])
def test_labels_take_the_smallest_dtype(tmp_path: Path, labels: np.ndarray, top: int, dtype: str) -> None:
    labels[0, 0] = top
    path = write_labels(tmp_path / "new" / "labels.tif", labels)
    back = tifffile.imread(path)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, labels)


def test_negative_and_stacked_labels_survive(tmp_path: Path, labels: np.ndarray) -> None:
    stack = np.stack([labels, -labels, labels * 100])
    back = tifffile.imread(write_labels(tmp_path / "stack.tif", stack))
    assert back.dtype == np.int16
    np.testing.assert_array_equal(back, stack)
    with pytest.raises(ValueError, match="float64"):
        write_labels(tmp_path / "no.tif", labels.astype(float))
    assert [path.name for path in tmp_path.iterdir()] == ["stack.tif"]


def test_depth_keeps_values_and_meaning(tmp_path: Path, depth: DepthMap) -> None:
    path = write_depth(tmp_path / "depth.tif", depth)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].dtype == np.float32
        about = json.loads(tiff.pages[0].description)
    assert (about["kind"], about["unit"], about["source"]) == ("distance", "mm", depth.source)
    back = read_depth(path)
    np.testing.assert_array_equal(back.values, depth.values)
    assert (back.kind, back.unit, back.source) == (depth.kind, depth.unit, depth.source)
    assert back.upsampling == 2.5
    assert read_depth(path, "height", "nm").kind == "height"


def test_a_table_is_read_back(tmp_path: Path, labels: np.ndarray, depth: DepthMap) -> None:
    table = depth_readout(labels, depth)
    back = pd.read_csv(write_table(tmp_path / "table.csv", table), index_col="label", keep_default_na=False)
    assert back.index.tolist() == [2, 7]
    assert list(back.columns) == list(with_units(table).columns)
    np.testing.assert_allclose(back["nearness"], table["nearness"], rtol=1e-6)
    assert back["in_front_of"].tolist() == table["in_front_of"].tolist()


def test_other_files_can_be_depth_and_must_say_what_they_are(tmp_path: Path) -> None:
    values = np.arange(600, dtype=np.uint16).reshape(20, 30)
    io.imsave(tmp_path / "height.png", values, check_contrast=False)
    np.save(tmp_path / "height.npy", values)
    tifffile.imwrite(tmp_path / "height.tif", values)
    for name in ("height.png", "height.npy", "height.tif"):
        depth = read_depth(tmp_path / name, "height", "nm")
        np.testing.assert_array_equal(depth.values, values)
        assert depth.source == name
        with pytest.raises(
            ValueError, match=r"give their kind \(--kind on the command line\): inverse, distance, height, index"
        ):
            read_depth(tmp_path / name)


def test_a_file_of_a_sensor_says_where_it_saw_nothing(tmp_path: Path) -> None:
    values = np.full((10, 10), 1200, dtype=np.uint16)
    values[:3, :4] = 0
    io.imsave(tmp_path / "sensor.png", values, check_contrast=False)
    said: list[str] = []
    depth = read_depth(tmp_path / "sensor.png", "distance", "mm", tell=said.append)
    assert np.isnan(depth.values).sum() == 12
    assert said == [f"{tmp_path / 'sensor.png'}: 12 % of the pixels hold no reading (0) and are left out."]
    everything = read_depth(tmp_path / "sensor.png", "distance", "mm", "none", said.append)
    np.testing.assert_array_equal(everything.values, values)
    assert len(said) == 1
    own = write_depth(tmp_path / "own.tif", everything)
    np.testing.assert_array_equal(read_depth(own).values, values, "what we wrote has NaN where there is no reading")
    assert np.isnan(read_depth(own, no_reading=0.0).values).sum() == 12


def test_depth_far_from_zero_keeps_its_detail_in_a_file(tmp_path: Path) -> None:
    depth = DepthMap(4e8 + np.arange(12.0).reshape(3, 4), "height", "nm")
    back = read_depth(write_depth(tmp_path / "high.tif", depth))
    np.testing.assert_array_equal(back.values, depth.values)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no file"):
        read_image(tmp_path / "absent.tif")
    for name in ("broken.tif", "broken.png", "broken.npy"):
        (tmp_path / name).write_bytes(b"not an image")
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            read_image(tmp_path / name)
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"objects\.npy cannot be read"):
        read_image(tmp_path / "objects.npy")


def write_all(name: str, folder: Path, labels: np.ndarray, depth: DepthMap) -> Callable[[], object]:
    noisy = np.random.default_rng(0).integers(0, 2**31, SHAPE)
    table = pd.DataFrame({"value": np.random.default_rng(0).random(2000)})
    rgb = np.random.default_rng(0).integers(0, 255, (*SHAPE, 3), dtype=np.uint8)
    return {
        "labels.tif": lambda: write_labels(folder / name, noisy),
        "depth.tif": lambda: write_depth(folder / name, depth),
        "table.csv": lambda: write_table(folder / name, table),
        "figure.png": lambda: write_figure(folder / name, rgb, labels, depth, depth_readout(labels, depth)),
    }[name]


@pytest.mark.skipif(sys.platform == "win32", reason="no RLIMIT_FSIZE")
@pytest.mark.parametrize("name", ["labels.tif", "depth.tif", "table.csv", "figure.png"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, labels: np.ndarray, depth: DepthMap, name: str) -> None:
    write = write_all(name, tmp_path, labels, depth)
    with full_disk(5000), pytest.raises(OSError, match=r".+"):
        write()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / name).write_text("the older one")
    with full_disk(5000), pytest.raises(OSError, match=r".+"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "the older one"
    write()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).stat().st_size > 5000


def test_a_refusal_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as told, atomic_path(tmp_path):
        raise AssertionError("nothing is to be written")
    assert told.value.filename == str(tmp_path)
    target = tmp_path / "x.csv"
    with pytest.raises(FileNotFoundError) as told, atomic_path(target) as beside:
        beside.read_text()
    assert told.value.filename == str(target)


def test_an_interrupted_block_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b.txt"
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as beside:  # noqa: PT012
        beside.write_text("half")
        assert beside.suffix == ".txt"
        raise KeyboardInterrupt
    assert list(target.parent.iterdir()) == []
    with atomic_path(target) as beside:
        beside.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"


def test_the_figure_shows_image_masks_depth_and_table(tmp_path: Path, labels: np.ndarray, depth: DepthMap) -> None:
    rgb = np.full((*SHAPE, 3), 128, dtype=np.uint8)
    table = depth_readout(labels, depth)
    picture = io.imread(write_figure(tmp_path / "figure.png", rgb, labels, depth, table, title="A title"))
    assert picture.shape[0] > 500
    assert picture.shape[1] > 800
    rgb_only = picture[..., :3].reshape(-1, 3).astype(int)
    colourful = (rgb_only.max(axis=1) - rgb_only.min(axis=1)) > 60
    assert colourful.mean() > 0.05  # masks and depth are drawn in colour
    blank = np.zeros(SHAPE, dtype=int)
    empty = io.imread(
        write_figure(tmp_path / "empty.png", rgb, blank, depth, depth_readout(blank, depth), title="A title")
    )
    assert empty.shape == picture.shape
    assert (empty != picture).any()
