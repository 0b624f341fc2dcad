"""The embedding cache on disk: found by content, capped, shared by processes, and never in the way."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from napari_samdepth.core.embedding import Embedding
from napari_samdepth.storage import record_store
from napari_samdepth.storage.embeddings import EmbeddingCache, embedding_key
from napari_samdepth.storage.folders import cache_folder
from napari_samdepth.storage.settings import change_settings, load_settings

RGB = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)


def embedding(number: int = 0, side: int = 16) -> Embedding:
    image = np.random.default_rng(number).normal(size=(8, side, side)).astype(np.float32)
    return Embedding({"image": image, "rgb": RGB}, (30, 40), (768, 1024), f"vit_b:{number}", {"image": object()})


def key(number: int = 0) -> str:
    return embedding_key(f"{number:040x}", f"vit_b:{number}", "cpu")


def files(cache: EmbeddingCache) -> list[Path]:
    folder = cache.usage().folder
    return sorted(folder.iterdir()) if folder.exists() else []


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "kept", 10**6)


def kept(cache: EmbeddingCache, *numbers: int, side: int = 16) -> EmbeddingCache:
    for number in numbers:
        cache.keep(key(number), embedding(number, side), RGB)
        assert cache.flush()
    return cache


def test_what_is_kept_comes_back_equal_without_what_lives_in_a_process(cache: EmbeddingCache) -> None:
    found = kept(cache, 3).load(key(3), RGB)
    made = embedding(3)
    assert found is not None
    assert (found.image_shape, found.input_size, found.model) == (made.image_shape, made.input_size, made.model)
    assert not found.local
    assert found.features["image"].dtype == np.float32
    np.testing.assert_array_equal(found.features["image"], made.features["image"])
    assert found.features["rgb"] is RGB, "the pixels are taken from the image, not from the disk"
    assert cache.usage().size < made.features["image"].nbytes + 1000
    assert cache.load(key(4), RGB) is None


def test_it_is_found_by_pixels_weights_device_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {
        embedding_key(*parts) for parts in (("a", "b", "cpu"), ("b", "b", "cpu"), ("a", "c", "cpu"), ("a", "b", "cuda"))
    }
    assert len(keys) == 4
    assert embedding_key("a", "b", "cuda:1") == embedding_key("a", "b", "cuda:0") == embedding_key("a", "b", "cuda")
    monkeypatch.setattr("napari_samdepth.__version__", "99.0", raising=False)
    assert embedding_key("a", "b", "cpu") not in keys


def test_the_folder_can_be_chosen_and_is_the_users_cache_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAPARI_SAMDEPTH_CACHE", str(tmp_path / "größer als"))
    kept(EmbeddingCache(), 1)
    assert list((tmp_path / "größer als" / "embeddings").glob("*.embedding"))
    monkeypatch.delenv("NAPARI_SAMDEPTH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform.startswith("linux"):
        assert cache_folder() == tmp_path / "xdg" / "napari-samdepth"


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    size = kept(EmbeddingCache(tmp_path / "one", 10**6), 0).usage().size
    cache = EmbeddingCache(tmp_path / "three", 3 * size + 100)
    kept(cache, 0, 1, 2)
    for number, used in ((0, 100.0), (1, 300.0), (2, 200.0)):
        os.utime(cache.usage().folder / f"{key(number)}.embedding", (used, used))
    assert cache.load(key(0), RGB) is not None
    kept(cache, 3)
    assert [number for number in range(4) if cache.load(key(number), RGB)] == [0, 1, 3]
    assert cache.usage().size <= 3 * size + 100
    kept(cache, 4, side=64)
    assert cache.load(key(4), RGB) is None, "larger than all may be"
    assert cache.usage().count == 3


def test_the_size_is_a_setting_and_none_means_no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAPARI_SAMDEPTH_SETTINGS", str(tmp_path / "settings"))
    cache = EmbeddingCache(tmp_path / "kept")
    assert kept(cache, 1).usage().limit == 4 * 10**9
    change_settings(lambda settings: type(settings)(embedding_cache_bytes=0))
    assert load_settings().embedding_cache_bytes == 0
    assert cache.load(key(1), RGB) is None
    assert kept(cache, 2).usage().count == 1


@pytest.mark.parametrize("size", [-1, 1.5, True, "4 GB"])
def test_no_other_size_is_taken(size: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_SAMDEPTH_SETTINGS", str(tmp_path))
    with pytest.raises(ValueError, match="whole number of bytes from 0 on"):
        change_settings(lambda settings: type(settings)(embedding_cache_bytes=size))  # type: ignore[arg-type]


def test_a_damaged_entry_is_removed_wherever_the_damage_is(cache: EmbeddingCache) -> None:
    path = kept(cache, 1).usage().folder / f"{key(1)}.embedding"
    whole = path.read_bytes()
    for at in [*range(0, 400, 7), len(whole) // 2, len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        assert cache.load(key(1), RGB) is None, at
        assert not path.exists()
    for length in (0, 5, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert cache.load(key(1), RGB) is None
        assert not path.exists()
    other = cache.usage().folder / f"{key(2)}.embedding"
    other.write_bytes(whole)
    assert cache.load(key(2), RGB) is None, "an entry of another name is not this one"
    assert cache.take_message() == "", "a damaged entry is nothing to tell the user"


def test_a_folder_that_cannot_be_made_is_said_once_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = EmbeddingCache(tmp_path / "file" / "embeddings", 10**6)
    assert cache.load(key(), RGB) is None
    said = cache.take_message()
    assert said.startswith("Embeddings are kept in memory only:")
    assert "NAPARI_SAMDEPTH_CACHE" in said
    assert said.count(". ") == 0
    kept(cache, 1, 2)
    assert cache.load(key(1), RGB) is None
    assert cache.take_message() == ""
    assert cache.usage().count == 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_a_disk_that_refuses_is_said_once_and_tried_again_later(
    number: int, cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def refuse(_file: object) -> None:
        tried.append(1)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as broken:
        broken.setattr("napari_samdepth.storage.atomic.os.fsync", refuse)
        kept(cache, 1, 2, 3)
        assert len(tried) == 1
        said = cache.take_message()
        assert ("full" in said) == (number in (errno.ENOSPC, errno.EDQUOT))
        assert files(cache) == [], "what was half written is gone"
    kept(cache, 4)
    assert cache.usage().count == 0
    later = time.monotonic() + 301
    monkeypatch.setattr(record_store.time, "monotonic", lambda: later)
    kept(cache, 5)
    assert cache.load(key(5), RGB) is not None
    assert cache.take_message() == ""


def test_what_is_no_array_of_numbers_is_left_out_without_a_word(cache: EmbeddingCache) -> None:
    cache.keep(key(1), Embedding({"names": np.array(["a"])}, (3, 4), (3, 4), "own"), RGB)
    assert cache.flush()
    assert cache.usage().count == 0
    kept(cache, 2)
    assert cache.usage().count == 1


def test_writing_is_done_in_the_background_and_waits_for_few(
    cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = record_store.RecordStore._write
    threads = []

    def slow(self: record_store.RecordStore, *args: object) -> None:
        threads.append(threading.current_thread())
        time.sleep(0.05)
        write(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(record_store.RecordStore, "_write", slow)
    start = time.perf_counter()
    for number in range(30):
        cache.keep(key(number), embedding(number), RGB)
    assert time.perf_counter() - start < 0.5
    assert cache.flush()
    assert 1 <= cache.usage().count <= record_store.WAITING + 15
    assert cache.load(key(29), RGB) is not None, "the newest is kept"
    assert threading.main_thread() not in threads


def test_strange_files_are_left_alone(cache: EmbeddingCache) -> None:
    folder = kept(cache, 1).usage().folder
    strange = folder / "notes.txt"
    strange.write_text("x")
    os.utime(strange, (1.0, 1.0))
    (folder / "folder.embedding").mkdir()
    kept(cache, 2)
    assert strange.exists()
    removed = cache.clear()
    assert (removed.count, cache.usage().count) == (2, 0)
    assert strange.exists()


WORKER = """
import sys, numpy as np
from pathlib import Path
from napari_samdepth.core.embedding import Embedding
from napari_samdepth.storage.embeddings import EmbeddingCache, embedding_key
folder, limit, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
cache, rgb = EmbeddingCache(folder, limit), np.zeros((4, 4, 3), np.uint8)
numbers, wrong, hits = np.random.default_rng(seed), 0, 0
for _ in range(150):
    number = int(numbers.integers(12))
    key = embedding_key(str(number), "m", "cpu")
    found = cache.load(key, rgb)
    if found is None:
        cache.keep(key, Embedding({"image": np.full((64, 64), number, np.int32)}, (4, 4), (4, 4), "m"), rgb)
        cache.flush()
    else:
        hits += 1
        wrong += not (found.features["image"] == number).all()
print(wrong, hits, cache.take_message())
"""


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    limit = 8 * (64 * 64 * 4 + 400)
    command = [sys.executable, "-c", WORKER, str(tmp_path), str(limit)]
    running = [
        subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for seed in range(2)
    ]
    for process in running:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert "damaged" not in err
        wrong, hits, *said = out.split()
        assert (int(wrong), said) == (0, [])
        assert int(hits) > 20
    assert EmbeddingCache(tmp_path, limit).usage().size <= limit


def test_a_process_killed_while_it_writes_leaves_no_wrong_entry(tmp_path: Path) -> None:
    code = """
import os, sys, numpy as np
from pathlib import Path
from napari_samdepth.storage import record_store
from napari_samdepth.core.embedding import Embedding
from napari_samdepth.storage.embeddings import EmbeddingCache, embedding_key
os.replace = lambda *_: os._exit(9)
cache, rgb = EmbeddingCache(Path(sys.argv[1]), 10**8), np.zeros((4, 4, 3), np.uint8)
cache.keep(embedding_key("a", "m", "cpu"), Embedding({"image": np.ones((64, 64))}, (4, 4), (4, 4), "m"), rgb)
cache.flush()
"""
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 9
    cache = EmbeddingCache(tmp_path, 10**8)
    assert len(list(tmp_path.iterdir())) == 1
    assert cache.load(embedding_key("a", "m", "cpu"), RGB) is None
    assert cache.usage().count == 0


def test_reading_four_megabytes_takes_milliseconds(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 10**8)
    features = {"image": np.random.default_rng(0).normal(size=(256, 64, 64)).astype(np.float32)}
    cache.keep(key(), Embedding(features, (30, 40), (768, 1024), "vit_b:0"), RGB)
    assert cache.flush()
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        assert cache.load(key(), RGB) is not None
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.01
