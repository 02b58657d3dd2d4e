"""The datatypes of the Open Inference Protocol, and tensors as bytes.

A BYTES tensor is, for each element in row-major order, a 4-byte little-endian length and that
many bytes. All other tensors are row-major little-endian arrays.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

from trtserve.errors import InvalidRequest
from trtserve.model.spec import Shape as Shape

MAX_RANK = 16
"""More dimensions than any engine takes: refused before any arithmetic on them."""


@dataclass(frozen=True, slots=True)
class Datatype:
    """One datatype: its name on the wire, bytes of an element (0: variable), NumPy's type."""

    name: str
    itemsize: int
    numpy: np.dtype[Any]


def _datatype(name: str, numpy_type: Any) -> Datatype:
    numpy = np.dtype(numpy_type)
    return Datatype(name, 0 if name == "BYTES" else numpy.itemsize, numpy)


DATATYPES: dict[str, Datatype] = {
    name: _datatype(name, numpy_type)
    for name, numpy_type in (
        ("BOOL", np.bool_),
        ("UINT8", np.uint8),
        ("UINT16", np.uint16),
        ("UINT32", np.uint32),
        ("UINT64", np.uint64),
        ("INT8", np.int8),
        ("INT16", np.int16),
        ("INT32", np.int32),
        ("INT64", np.int64),
        ("FP16", np.float16),
        ("FP32", np.float32),
        ("FP64", np.float64),
        ("BF16", ml_dtypes.bfloat16),
        ("BYTES", np.object_),
    )
}

_BY_NUMPY = {datatype.numpy: name for name, datatype in DATATYPES.items()}


def datatype_of(array: np.ndarray[Any, Any]) -> str:
    """The datatype's name for a NumPy array; strings of any kind are BYTES.

    Raises InvalidRequest for a type that the protocol lacks.
    """
    if array.dtype.kind in "OSUT":
        return "BYTES"
    name = _BY_NUMPY.get(array.dtype.newbyteorder("="))
    if name is None:
        raise InvalidRequest(
            f"NumPy type {array.dtype} has no datatype in the protocol; "
            f"it has {', '.join(DATATYPES)}"
        )
    return name


def check_shape(shape: Sequence[int]) -> int:
    """The number of elements of a shape that came from outside.

    Raises InvalidRequest for too many dimensions or a negative one. Python's integers do not
    overflow, so the product is exact whatever came.
    """
    if len(shape) > MAX_RANK:
        raise InvalidRequest(f"shape has {len(shape)} dimensions; at most {MAX_RANK} are taken")
    for dim in shape:
        if dim < 0:
            raise InvalidRequest(f"shape {list(shape)} has a negative dimension")
    return prod(shape)


def check_size(name: str, datatype: str, shape: Sequence[int], data: Any) -> None:
    """Refuse a tensor whose bytes do not fit its shape. `data` is a bytes-like object."""
    elements = check_shape(shape)
    itemsize = DATATYPES[datatype].itemsize
    size = len(data)
    if itemsize:
        if size != elements * itemsize:
            raise InvalidRequest(
                f"input '{name}' has {size} bytes; {datatype}{list(shape)} needs "
                f"{elements * itemsize}"
            )
        return
    count = count_bytes_elements(data)
    if count != elements:
        raise InvalidRequest(
            f"input '{name}' holds {count if count >= 0 else 'a cut-off list of'} elements; "
            f"BYTES{list(shape)} needs {elements}"
        )


def count_bytes_elements(data: Any) -> int:
    """The number of elements in an encoded BYTES tensor, or -1 if its lengths do not add up."""
    position, end, count = 0, len(data), 0
    while position + 4 <= end:
        (length,) = struct.unpack_from("<I", data, position)
        position += 4 + length
        count += 1
    return count if position == end else -1


def encode(array: np.ndarray[Any, Any]) -> bytes:
    """The wire bytes of an array of any datatype."""
    if datatype_of(array) == "BYTES":
        parts: list[bytes] = []
        for element in array.reshape(-1).tolist():
            item = element.encode() if isinstance(element, str) else bytes(element)
            parts += (struct.pack("<I", len(item)), item)
        return b"".join(parts)
    return np.ascontiguousarray(array).tobytes()


def decode(datatype: str, shape: Sequence[int], data: Any) -> np.ndarray[Any, Any]:
    """The array that wire bytes hold: a view of them, except for BYTES (objects of bytes).

    The caller has checked the size.
    """
    if datatype != "BYTES":
        return np.frombuffer(data, DATATYPES[datatype].numpy).reshape(shape)
    view = memoryview(data)
    elements = np.empty(prod(shape), np.object_)
    position = 0
    for index in range(len(elements)):
        (length,) = struct.unpack_from("<I", view, position)
        elements[index] = bytes(view[position + 4 : position + 4 + length])
        position += 4 + length
    return elements.reshape(shape)
