"""The embedding cache on disk: an image that was encoded once is opened again without encoding.

An entry is found by what it was computed from (`embedding_key`), so nobody chooses a path, and a changed image, model
or version of this package finds nothing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.embedding import Embedding
from napari_samdepth.storage.folders import CACHE_VARIABLE, cache_folder
from napari_samdepth.storage.record_store import RecordStore, Usage
from napari_samdepth.storage.records import Buffer, DamagedError, packed, unpacked
from napari_samdepth.storage.settings import load_settings

FORMAT = 1
"""Part of every key: raise it when the same key would stand for other numbers."""


def embedding_key(pixels: str, model: str, device: str) -> str:
    """Return what an embedding is found by, 64 hexadecimal digits.

    Parameters
    ----------
    pixels
        `Plane.key`: identity of the pixels as they are seen.
    model
        `Segmenter.model`: identity of the weights, with preprocessing and precision.
    device
        Where it was computed, as "cuda:0": devices round differently, so each kind keeps its own.
    """
    from napari_samdepth import __version__

    parts = (str(FORMAT), __version__, pixels, model, device.partition(":")[0])
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class EmbeddingCache:
    """Embeddings on disk, of which the least recently used go when they take too many bytes.

    All methods may be called from any thread. A disk that fails raises nothing: what cannot be read is computed again,
    what cannot be written stays in memory, and `take_message` says so once.

    Parameters
    ----------
    folder
        Where the entries are; ``embeddings`` in `cache_folder()` if None, looked up at each use.
    limit
        Bytes that all entries may take; the setting ``embedding_cache_bytes`` if None. With 0 there is no cache.
    """

    def __init__(self, folder: Path | None = None, limit: int | None = None) -> None:
        self._store = RecordStore(
            "Embeddings",
            lambda: folder or cache_folder() / "embeddings",
            lambda: load_settings().embedding_cache_bytes if limit is None else limit,
            ".embedding",
            f"make room there, or set {CACHE_VARIABLE} to another folder",
        )

    def load(self, key: str, rgb: NDArray[np.uint8]) -> Embedding | None:
        """Return an entry, None if there is none; a damaged one is removed.

        Parameters
        ----------
        key
            As `embedding_key` gives it.
        rgb
            The pixels that it was computed from, (H, W, 3) uint8: features that equal them are not stored.
        """
        content = self._store.load(key)
        if content is None:
            return None
        try:
            return _embedding(content, key, rgb)
        except DamagedError as error:
            self._store.drop(key, str(error))
            return None

    def keep(self, key: str, embedding: Embedding, rgb: NDArray[np.uint8]) -> None:
        """Write an entry in the background; parameters as in `load`."""
        self._store.keep(key, lambda: _content(key, embedding, rgb))

    def flush(self, timeout: float = 60.0) -> bool:
        """Wait until what was to be kept is written; False after `timeout` seconds."""
        return self._store.flush(timeout)

    def take_message(self) -> str:
        """Return a sentence on a disk that cannot be written, once; "" if there is nothing to say."""
        return self._store.take_message()

    def usage(self) -> Usage:
        """Return how much is in the cache. Raises OSError if its folder cannot be read."""
        return self._store.usage()

    def clear(self) -> Usage:
        """Remove all entries and return how much that was. Raises OSError if one cannot be removed."""
        return self._store.clear()


def _content(key: str, embedding: Embedding, rgb: NDArray[np.uint8]) -> list[Buffer]:
    pixels = [name for name, array in embedding.features.items() if _same(array, rgb)]
    about = {
        "key": key,
        "model": embedding.model,
        "image_shape": embedding.image_shape,
        "input_size": embedding.input_size,
        "pixels": pixels,
    }
    return packed(about, {name: array for name, array in embedding.features.items() if name not in pixels})


def _same(array: NDArray[np.generic], rgb: NDArray[np.uint8]) -> bool:
    return array.dtype == rgb.dtype and array.shape == rgb.shape and np.array_equal(array, rgb)


def _embedding(content: memoryview, key: str, rgb: NDArray[np.uint8]) -> Embedding:
    about, arrays = unpacked(content)
    try:
        if about["key"] != key:
            raise DamagedError("it belongs to another image or model")
        height, width = about["image_shape"]
        rows, cols = about["input_size"]
        features = arrays | dict.fromkeys(about["pixels"], rgb)
        return Embedding(features, (int(height), int(width)), (int(rows), int(cols)), str(about["model"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(str(error)) from error
