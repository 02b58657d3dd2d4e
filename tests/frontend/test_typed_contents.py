"""Tensors whose values stand in the message's typed fields, and those that must come raw."""

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.frontend.heads import TWO, refusal, template, typed, with_input
from tests.frontend.stand import catalog_of, variant, version_spec
from trtserve.errors import InvalidRequest
from trtserve.model.catalog import Catalog
from trtserve.model.tensor import encode

TYPED: list[tuple[str, str, list[Any], Any]] = [
    ("BOOL", "bool_contents", [True, False], np.bool_),
    ("INT8", "int_contents", [-128, 127], np.int8),
    ("INT16", "int_contents", [-32768, 5], np.int16),
    ("INT32", "int_contents", [-(1 << 31), 5], np.int32),
    ("INT64", "int64_contents", [-(1 << 63), 5], np.int64),
    ("UINT8", "uint_contents", [0, 255], np.uint8),
    ("UINT16", "uint_contents", [0, 65535], np.uint16),
    ("UINT32", "uint_contents", [0, (1 << 32) - 1], np.uint32),
    ("UINT64", "uint64_contents", [0, (1 << 64) - 1], np.uint64),
    ("FP32", "fp32_contents", [1.5, -2.25], np.float32),
    ("FP64", "fp64_contents", [1e300, 0.1], np.float64),
    ("BYTES", "bytes_contents", [b"", b"a\xff"], np.object_),
]


def of_type(datatype: str) -> Catalog:
    return catalog_of(version_spec(variant({"x": datatype})))


@pytest.mark.parametrize(("datatype", "contents", "values", "numpy"), TYPED)
def test_typed_contents_become_bytes(datatype, contents, values, numpy):
    found = template(typed(datatype, contents, values), of_type(datatype))
    assert found.contents == (encode(np.array(values, numpy)),)


@pytest.mark.parametrize(("datatype", "itemsize"), [
    *((datatype, np.dtype(numpy).itemsize if datatype != "BYTES" else 0)
      for datatype, _, _, numpy in TYPED),
    ("FP16", 2), ("BF16", ml_dtypes.bfloat16(0).itemsize),
])
def test_all_datatypes_come_raw(datatype, itemsize):
    found = template(with_input(datatype=datatype, shape=(2, 3)), of_type(datatype))
    assert found.inputs[0].size == (6 * itemsize or -1)
    assert found.contents is None


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_datatypes_that_must_be_raw(datatype):
    error = refusal(typed(datatype, "fp32_contents", [1, 2]), of_type(datatype))
    assert isinstance(error, InvalidRequest)
    assert f"{datatype}, which has no typed contents; send raw_input_contents" in str(error)


def test_contents_in_the_wrong_field_are_refused():
    error = refusal(typed("INT32", "int64_contents", [1, 2]), of_type("INT32"))
    assert isinstance(error, InvalidRequest)
    assert re.search("INT32.*belong in int_contents, not in int64_contents", str(error))


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0]])
def test_a_wrong_number_of_values_is_refused(values):
    error = refusal(typed("FP32", "fp32_contents", values))
    assert isinstance(error, InvalidRequest)
    assert f"holds {len(values)} elements; FP32[1, 2] needs 2" in str(error)


@pytest.mark.parametrize(("datatype", "contents", "value"), [
    ("INT8", "int_contents", 128), ("INT16", "int_contents", -32769),
    ("UINT8", "uint_contents", 256), ("UINT16", "uint_contents", 65536),
])
def test_values_beyond_the_datatype_are_refused(datatype, contents, value):
    error = refusal(typed(datatype, contents, [0, value]), of_type(datatype))
    assert isinstance(error, InvalidRequest)
    assert f"input 'x' does not fit {datatype}" in str(error)


def test_all_inputs_are_typed_or_none():
    message = typed("FP32", "fp32_contents", [1, 2, 3, 4], (1, 4))
    message.inputs.add(name="x1", datatype="FP32", shape=[1, 4])
    assert "input 'x1' holds 0 elements" in str(refusal(message, catalog_of(TWO)))
