"""Records: arrays come back as they were, and no damage goes unseen."""

from __future__ import annotations

import numpy as np
import pytest

from napari_samdepth.storage.records import HEAD, MARKER, DamagedError, framed, only_record, packed, records, unpacked

ARRAYS = {
    "numbers": np.arange(12, dtype=np.float32).reshape(3, 4),
    "big endian": np.arange(5, dtype=">i4"),
    "none": np.zeros((0, 7), np.int64),
    "one": np.array(2.5),
    "flags": np.array([True, False, True]),
    "turned": np.arange(6, dtype=np.uint16).reshape(2, 3).T,
    "same": np.broadcast_to(np.int32(7), (40, 50)),
}


@pytest.mark.parametrize("compress", [False, True])
def test_arrays_come_back_with_shape_and_dtype_and_cannot_be_written_to(compress):
    content = b"".join(packed({"größe": [1, 2.5, None, "ü"]}, ARRAYS, compress))
    about, found = unpacked(content)
    assert about == {"größe": [1, 2.5, None, "ü"]}
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype.newbyteorder("=")
        assert not found[name].flags.writeable
        np.testing.assert_array_equal(found[name], array)


def test_compression_pays_where_it_can():
    plain, small = (sum(map(len, packed({}, ARRAYS, compress))) for compress in (False, True))
    assert small < plain - 7000


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([1j]), np.array([None])])
def test_only_numbers_are_stored(array):
    with pytest.raises(ValueError, match="Arrays of numbers can be stored, got “x”"):
        packed({}, {"x": array})


def record(number: int, length: int = 40) -> bytes:
    return b"".join(framed([number.to_bytes(4, "little"), bytes(length)]))


def numbers(file: bytes) -> list[int]:
    return [int.from_bytes(found.content[:4], "little") for found in records(file)]


def test_a_file_cut_off_at_any_byte_holds_the_records_before_the_cut():
    file = b"".join(record(number, length) for number, length in enumerate((5, 0, 30, 17)))
    ends = [found.end for found in records(file)]
    for length in range(len(file)):
        assert numbers(file[:length]) == list(range(sum(end <= length for end in ends)))


def test_any_changed_byte_costs_the_record_that_it_is_in_and_no_other():
    size = len(record(0))
    file = b"".join(record(number) for number in range(3))
    for at in range(len(file)):
        damaged = bytearray(file)
        damaged[at] ^= 0x40
        assert numbers(bytes(damaged)) == [number for number in range(3) if number != at // size]


def test_zeros_and_garbage_between_records_are_passed_over():
    noise = np.random.default_rng(0).bytes(3000)
    file = (
        bytes(100) + record(1) + noise + MARKER + noise + record(2) + MARKER + HEAD.pack(MARKER, 2**63, b"") + bytes(9)
    )
    assert numbers(file) == [1, 2]


@pytest.mark.parametrize("file", [b"", b"x", record(1)[:-1], record(1) + b"x", record(1) + record(2)])
def test_a_file_of_one_record_holds_nothing_else(file):
    with pytest.raises(DamagedError):
        only_record(file)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xff\xff\xff",
        b"\x02\0\0\0[]",
        b"\x09\0\0\0[{},[[]]]",
        *(
            len(text).to_bytes(4, "little") + text + bytes(64)
            for text in (
                b'[{},[["a","|O",[1],0,8,false]]]',
                b'[{},[["a","<f4",[-1],0,8,false]]]',
                b'[{},[["a","<f4",[20],0,80,false]]]',
                b'[{},[["a","<f4",[2],0,4,false]]]',
                b'[{},[["a","<f4",[2],60,8,false]]]',
                b'[{},[["a","<f4",[2],0,8,true]]]',
                b'[{},[["a","no",[2],0,8,false]]]',
                b'[{},[["a","<f4",["b"],0,8,false]]]',
                b'[{},[["a","<f4",[1e400],0,8,false]]]',
            )
        ),
    ],
)
def test_content_that_makes_no_sense_is_refused(content):
    with pytest.raises(DamagedError):
        unpacked(content)


def test_a_small_block_that_would_unpack_to_gigabytes_is_refused():
    (content,) = [b"".join(packed({}, {"a": np.zeros(10**7, np.uint8)}, compress=True))]
    lying = content.replace(b"[10000000]", b"[1000]    ")
    assert lying != content
    with pytest.raises(DamagedError, match="size"):
        unpacked(lying)
