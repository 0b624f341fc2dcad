"""The prompts that made labels, kept beside the files that labels are saved to.

They are found by the content of image and labels, whatever the files are called and wherever they lie: labels that are
opened beside their image take up their prompts again. Labels that were changed by another program find nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from napari_samdepth.core.journal import LabelPrompts
from napari_samdepth.storage.folders import STATE_VARIABLE, state_folder
from napari_samdepth.storage.journal_entries import prompts_json, prompts_of
from napari_samdepth.storage.record_store import RecordStore
from napari_samdepth.storage.records import Buffer, DamagedError, packed, unpacked

FORMAT = 1
LIMIT = 200 * 10**6
"""Bytes that all prompts may take: some hundred thousand labels."""
WHOLE = 2**28
"""Bytes up to which all of an image counts; of a larger one, which may be read lazily, some slices do."""
SAMPLES = 16
"""Slices that count of a large image."""
_BLOCK = 2**22


class PromptStore:
    """Prompts on disk, of which the least recently used go when they take too many bytes.

    All methods may be called from any thread. A disk that fails raises nothing; `take_message` says so once.

    Parameters
    ----------
    folder
        Where; ``prompts`` in `state_folder()` if None, looked up at each use.
    limit
        Bytes that all entries may take.
    """

    def __init__(self, folder: Path | None = None, limit: int = LIMIT) -> None:
        self._store = RecordStore(
            "Prompts of saved labels",
            lambda: folder or state_folder() / "prompts",
            lambda: limit,
            ".prompts",
            f"make room there, or set {STATE_VARIABLE} to another folder",
        )

    def load(self, image: str, labels: str) -> dict[int, LabelPrompts]:
        """Return the prompts by label, none where nothing is known; a damaged entry is removed.

        Parameters
        ----------
        image
            `image_digest` of the image.
        labels
            `labels_digest` of the labels.
        """
        key = _key(image, labels)
        content = self._store.load(key)
        if content is None:
            return {}
        try:
            about, arrays = unpacked(content)
            if about["key"] != key:
                raise DamagedError("it belongs to other labels")
            return {one.label: one for one in prompts_of(about["prompts"], arrays)}
        except (DamagedError, KeyError, TypeError, ValueError) as error:
            self._store.drop(key, str(error))
            return {}

    def keep(self, image: str, labels: str, prompts: Sequence[LabelPrompts]) -> None:
        """Write the prompts of labels that are saved, in the background; parameters as in `load`."""
        if not prompts:
            return
        key, kept = _key(image, labels), tuple(prompts)

        def content() -> list[Buffer]:
            arrays: dict[str, Any] = {}
            about = {"key": key, "prompts": prompts_json(kept, arrays)}
            return packed(about, arrays, compress=True)

        self._store.keep(key, content)

    def flush(self, timeout: float = 60.0) -> bool:
        """Wait until what was to be kept is written; False after `timeout` seconds."""
        return self._store.flush(timeout)

    def take_message(self) -> str:
        """Return a sentence on a disk that cannot be written, once; "" if there is nothing to say."""
        return self._store.take_message()


def image_digest(data: Any) -> str:
    """Return the identity of an image's content, 32 hexadecimal digits.

    Parameters
    ----------
    data
        An array of any shape and kind that numpy can slice and read, also a lazy one; the full resolution of a
        multiscale image. Axes of length 1 do not count. Above `WHOLE` bytes `SAMPLES` slices along the first axis do.
    """
    shape, dtype = tuple(data.shape), np.dtype(data.dtype)
    digest = _started(shape, dtype.newbyteorder("<").str)
    size = int(np.prod(shape, dtype=np.int64))
    if size * dtype.itemsize <= WHOLE or shape[0] <= SAMPLES:
        _add(digest, data, dtype.newbyteorder("<"))
    else:
        for at in np.linspace(0, shape[0] - 1, SAMPLES).round().astype(int).tolist():
            digest.update(np.ascontiguousarray(data[at], dtype=dtype.newbyteorder("<")).tobytes())
    return str(digest.hexdigest())


def labels_digest(data: Any) -> str:
    """Return the identity of labels, 32 hexadecimal digits: equal for equal numbers, whatever their dtype.

    Parameters
    ----------
    data
        Integers or bool of any shape, also lazy. Axes of length 1 do not count.

    Raises
    ------
    ValueError
        If the dtype is another.
    """
    if np.dtype(data.dtype).kind not in "biu":
        raise ValueError(f"Labels must be integers, got dtype {data.dtype}.")
    digest = _started(tuple(data.shape), "labels")
    _add(digest, data, np.dtype("<i8"))
    return str(digest.hexdigest())


def _started(shape: tuple[int, ...], kind: str) -> Any:
    long = [int(size) for size in shape if size != 1]
    return xxhash.xxh3_128(f"{kind} {long}".encode())


def _add(digest: Any, data: Any, dtype: np.dtype[Any]) -> None:
    """Add all values as `dtype`, a part at a time."""
    if len(data.shape) == 0:
        digest.update(np.asarray(data).astype(dtype).tobytes())
        return
    rows = max(1, _BLOCK // max(1, int(np.prod(data.shape[1:], dtype=np.int64))))
    for start in range(0, data.shape[0], rows):
        block = np.asarray(data[start : start + rows])
        digest.update(np.ascontiguousarray(block, dtype=dtype).tobytes())


def _key(image: str, labels: str) -> str:
    return hashlib.sha256(f"{FORMAT}\n{image}\n{labels}".encode()).hexdigest()
