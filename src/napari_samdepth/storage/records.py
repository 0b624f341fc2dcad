"""Records: named arrays with a JSON text, in blocks of bytes that are whole or recognised as damaged.

A record is a marker, the length of its content, a checksum (xxh3) and the content. Many may follow one another in a
file: where one is damaged, reading goes on at the next marker.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

Buffer = bytes | bytearray | memoryview

MARKER = b"\x89SDR\r\n\x1a\x01"
"""The bytes before every record; the last one is the format's version."""
HEAD = struct.Struct("<8sQ16s")
_TEXT = struct.Struct("<I")
_ALIGNED = 16
_NUMBERS = "biuf"
_WORTH_COMPRESSING = 512


class DamagedError(ValueError):
    """Bytes are not, or no longer, what was written."""


@dataclass(frozen=True)
class Record:
    """A whole record found in a file: its content, and where it begins and ends, in bytes."""

    content: memoryview
    start: int
    end: int


def framed(content: Sequence[Buffer]) -> list[Buffer]:
    """Return a record with this content, in pieces to be written one after the other."""
    length = sum(len(piece) for piece in content)
    return [HEAD.pack(MARKER, length, _checksum(length, content)), *content]


def records(file: bytes | bytearray, start: int = 0) -> Iterator[Record]:
    """Return the whole records in a file's bytes in order; what is damaged between them is left out.

    The caller sees damage by a `Record.start` that is not the `end` before it, or by what is left at the end.
    """
    view = memoryview(file)
    at = start
    while (at := file.find(MARKER, at)) >= 0:
        record = _record_at(view, at)
        if record is None:
            at += 1
        else:
            yield record
            at = record.end


def only_record(file: Buffer) -> memoryview:
    """Return the content of the one record that a file holds. Raises DamagedError."""
    record = _record_at(memoryview(file), 0)
    if record is None or record.end != len(file):
        raise DamagedError("the checksum differs or the file is cut off")
    return record.content


def packed(about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], compress: bool = False) -> list[Buffer]:
    """Return a JSON text and arrays as bytes, in pieces; `unpacked` gives them back.

    Parameters
    ----------
    about
        What JSON can hold.
    arrays
        Numbers or bool, of any shape.
    compress
        Whether to compress arrays (zlib) where that makes them smaller.

    Raises
    ------
    ValueError
        If an array holds anything else.
    """
    listed, pieces, at = [], list[Buffer](), 0
    for name, array in arrays.items():
        if array.dtype.kind not in _NUMBERS:
            raise ValueError(f"Arrays of numbers can be stored, got “{name}” of dtype {array.dtype}.")
        plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        data: Buffer = plain.reshape(-1).view(np.uint8).data
        small = zlib.compress(data, 1) if compress and plain.nbytes >= _WORTH_COMPRESSING else data
        zipped = len(small) < len(data)
        stored = small if zipped else data
        listed.append([name, plain.dtype.str, list(array.shape), at, len(stored), zipped])
        padding = -len(stored) % _ALIGNED
        pieces += [stored, bytes(padding)]
        at += len(stored) + padding
    text = json.dumps([dict(about), listed], separators=(",", ":")).encode()
    text += b" " * (-(len(text) + _TEXT.size) % _ALIGNED)
    return [_TEXT.pack(len(text)) + text, *pieces]


def unpacked(content: Buffer) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the JSON text and the arrays of `packed`; arrays are read-only views of `content` where they may be.

    Raises
    ------
    DamagedError
        If the bytes are something else.
    """
    view = memoryview(content)
    try:
        (length,) = _TEXT.unpack_from(view)
        about, listed = json.loads(bytes(view[_TEXT.size : _TEXT.size + length]))
        body = view[_TEXT.size + length :]
        arrays = {name: _array(body, *where) for name, *where in listed}
        return dict(about), arrays
    except DamagedError:
        raise
    except (struct.error, ValueError, TypeError, KeyError, zlib.error, OverflowError, RecursionError) as error:
        raise DamagedError(f"its content cannot be read ({error})") from error


def _array(body: memoryview, code: str, shape: list[int], at: int, length: int, zipped: bool) -> NDArray[Any]:
    dtype = np.dtype(code)
    wanted = math.prod(shape) * dtype.itemsize
    if dtype.kind not in _NUMBERS or min((at, length, *shape)) < 0 or at + length > len(body):
        raise DamagedError("an array in it is not where it should be")
    data: Buffer = body[at : at + length]
    if zipped:
        data = zlib.decompressobj().decompress(data, wanted + 1)
    if len(data) != wanted:
        raise DamagedError("an array in it has not the size it should have")
    array = np.frombuffer(data, dtype=dtype).reshape(shape)
    array.flags.writeable = False
    return array


def _checksum(length: int, content: Sequence[Buffer]) -> bytes:
    digest = xxhash.xxh3_128(length.to_bytes(8, "little"))
    for piece in content:
        digest.update(piece)
    return digest.digest()


def _record_at(view: memoryview, at: int) -> Record | None:
    if at + HEAD.size > len(view):
        return None
    marker, length, checksum = HEAD.unpack_from(view, at)
    start, end = at + HEAD.size, at + HEAD.size + length
    if marker != MARKER or end > len(view) or _checksum(length, [view[start:end]]) != checksum:
        return None
    return Record(view[start:end], at, end)
