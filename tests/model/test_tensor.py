"""Datatypes, and tensors as bytes and back."""

import struct

import ml_dtypes
import numpy as np
import pytest

from trtserve.errors import InvalidRequest
from trtserve.model.tensor import (
    DATATYPES,
    MAX_RANK,
    check_shape,
    check_size,
    count_bytes_elements,
    datatype_of,
    decode,
    encode,
)

FIXED = [name for name in DATATYPES if name != "BYTES"]
SHAPES = [(), (1,), (0,), (2, 3), (2, 0, 3), (1, 2, 3, 4)]


def filled(datatype: str, shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    if datatype == "BYTES":
        elements = np.empty(count, np.object_)
        elements[:] = [b"\x00\xff" * index for index in range(count)]
        return elements.reshape(shape)
    return np.arange(count).astype(DATATYPES[datatype].numpy).reshape(shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("datatype", DATATYPES)
def test_round_trip(datatype, shape):
    array = filled(datatype, shape)
    data = encode(array)
    check_size("x", datatype, shape, data)
    back = decode(datatype, shape, data)
    assert back.dtype == DATATYPES[datatype].numpy
    assert back.shape == shape
    assert back.tolist() == array.tolist()
    assert datatype_of(back) == datatype


@pytest.mark.parametrize("datatype", FIXED)
def test_fixed_types_are_little_endian_and_dense(datatype):
    array = filled(datatype, (3, 2))
    assert len(encode(array)) == 6 * DATATYPES[datatype].itemsize
    assert encode(array.T) == encode(np.ascontiguousarray(array.T))


def test_known_bytes():
    assert encode(np.array([1, 258], np.uint16)) == b"\x01\x00\x02\x01"
    assert encode(np.array([1.0], ml_dtypes.bfloat16)) == b"\x80\x3f"
    assert encode(np.array([True, False])) == b"\x01\x00"
    assert encode(np.array([b"ab", b""], np.object_)) == b"\x02\x00\x00\x00ab\x00\x00\x00\x00"


def test_extreme_values_survive():
    for datatype, values in (
        ("INT64", [-(2**63), 2**63 - 1]), ("UINT64", [0, 2**64 - 1]), ("INT8", [-128, 127]),
        ("FP16", [65504.0, -0.0]), ("FP64", [5e-324, float("inf")]),
    ):
        array = np.array(values, DATATYPES[datatype].numpy)
        assert decode(datatype, (2,), encode(array)).tolist() == values


def test_strings_are_bytes():
    for array in (
        np.array(["é", "b"]), np.array([b"\xc3\xa9", b"b"]), np.array(["é", b"b"], np.object_),
    ):
        assert datatype_of(array) == "BYTES"
        assert decode("BYTES", (2,), encode(array)).tolist() == ["é".encode(), b"b"]


def test_decoding_fixed_types_copies_nothing():
    data = bytearray(encode(np.arange(4, dtype=np.int32)))
    array = decode("INT32", (2, 2), data)
    data[0] = 9
    assert array[0, 0] == 9


def test_decoding_takes_a_memoryview():
    array = filled("BYTES", (3,))
    assert decode("BYTES", (3,), memoryview(encode(array))).tolist() == array.tolist()


@pytest.mark.parametrize("numpy_type", [np.complex64, "datetime64[s]"])
def test_types_that_the_protocol_lacks(numpy_type):
    with pytest.raises(InvalidRequest, match="has no datatype in the protocol; it has BOOL"):
        datatype_of(np.zeros(1, numpy_type))


@pytest.mark.parametrize(("shape", "elements"), [
    ((), 1), ((3,), 3), ((2, 0), 0), ((2**40, 2**40), 2**80), ((1,) * MAX_RANK, 1),
])
def test_shapes_that_are_taken(shape, elements):
    assert check_shape(shape) == elements


@pytest.mark.parametrize(("shape", "problem"), [
    ((-1, 3), "negative dimension"), ((0, -1), "negative"),
    ((1,) * (MAX_RANK + 1), "17 dimensions"),
])
def test_shapes_that_are_refused(shape, problem):
    with pytest.raises(InvalidRequest, match=problem):
        check_shape(shape)


@pytest.mark.parametrize("datatype", FIXED)
@pytest.mark.parametrize("off", [-1, 1])
def test_sizes_that_do_not_fit(datatype, off):
    needed = 6 * DATATYPES[datatype].itemsize
    with pytest.raises(InvalidRequest, match=rf"'x' has {needed + off} bytes; .* needs {needed}"):
        check_size("x", datatype, (2, 3), b"\x00" * (needed + off))


def element(text: bytes) -> bytes:
    return struct.pack("<I", len(text)) + text


@pytest.mark.parametrize(("data", "count"), [
    (b"", 0),
    (element(b""), 1),
    (element(b"abc") + element(b"d"), 2),
    (b"\x01", -1),
    (b"\x01\x00\x00", -1),
    (element(b"abc")[:-1], -1),
    (element(b"abc") + b"\x00", -1),
    (element(b"a") + b"\xff\xff\xff\xff", -1),
])
def test_counting_the_elements_of_bytes_tensors(data, count):
    assert count_bytes_elements(data) == count
    if count < 0:
        with pytest.raises(InvalidRequest, match="a cut-off list of elements; BYTES"):
            check_size("x", "BYTES", (1,), data)
    else:
        check_size("x", "BYTES", (count,), data)
        with pytest.raises(InvalidRequest, match=f"holds {count} elements"):
            check_size("x", "BYTES", (count + 1,), data)
