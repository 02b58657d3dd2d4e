"""Golden cases: what is read, what is refused, and how outputs are compared."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from trtserve.errors import ModelLoadError
from trtserve.model.golden import (
    Golden,
    Tolerance,
    Tolerances,
    arrange,
    as_expected,
    difference,
    read_golden,
)
from trtserve.model.spec import TensorSpec, VersionSpec
from trtserve.testing.engine import fake_variant

SPEC = VersionSpec("m", 1, "fake", (fake_variant(),))
X = np.arange(8, dtype=np.float32).reshape(2, 4)


def write(folder: Path, name: str = "a.npz", **arrays: Any) -> Path:
    """A case; `inputs__x` is array `inputs/x`."""
    golden = folder / "golden"
    golden.mkdir(exist_ok=True)
    np.savez(
        golden / name, **{key.replace("__", "/"): array for key, array in arrays.items()}
    )
    return golden


def typed(datatype: str) -> VersionSpec:
    return VersionSpec("m", 1, "fake", (fake_variant(datatype=datatype),))


# --- reading -----------------------------------------------------------------------------


def test_without_the_folder_there_are_no_cases(tmp_path):
    assert read_golden(tmp_path, SPEC) == Golden()


def test_cases_are_read_in_order_with_their_tolerances(tmp_path):
    golden = write(tmp_path, "b.npz", inputs__x=X, outputs__y=X)
    write(tmp_path, "a.npz", inputs__x=X + 1, outputs__y=X)
    (golden / "README").write_text("other files are no cases")
    (golden / ".hidden.npz").write_text("nor are hidden ones")
    (golden / "tolerances.json").write_text(
        '{"rtol": 0.5, "atol": 1, "outputs": {"y": {"rtol": 0.1}}}'
    )
    found = read_golden(tmp_path, SPEC)
    assert [case.path.name for case in found.cases] == ["a.npz", "b.npz"]
    np.testing.assert_array_equal(found.cases[0].inputs["x"], X + 1)
    assert found.tolerances.of("y") == Tolerance(0.1, 1)
    assert found.tolerances.of("z") == Tolerance(0.5, 1)
    assert Tolerances().of("y") == Tolerance()


@pytest.mark.parametrize(("arrays", "problem"), [
    ({"inputs__x": X, "y": X}, "array 'y' is neither an input nor an output"),
    ({"inputs__x": X, "inputs__z": X, "outputs__y": X}, "the model has no input 'z'. It has x"),
    ({"inputs__x": X, "outputs__z": X}, "the model has no output 'z'. It has y"),
    ({"outputs__y": X}, "input 'x' is missing"),
    ({"inputs__x": X}, "it expects no output"),
    ({"inputs__x": np.array([{}], object), "outputs__y": X}, "can not be read"),
])
def test_cases_that_can_not_be_used(tmp_path, arrays, problem):
    golden = write(tmp_path, **arrays)
    with pytest.raises(ModelLoadError) as caught:
        read_golden(tmp_path, SPEC)
    assert problem in str(caught.value)
    assert caught.value.where == str(golden / "a.npz")
    assert caught.value.cure
    assert str(tmp_path) not in caught.value.problem  # clients see that


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off", b"cut"])
def test_a_file_that_is_no_archive(tmp_path, content):
    path = write(tmp_path, inputs__x=X, outputs__y=X) / "a.npz"
    path.write_bytes(path.read_bytes()[:-40] if content == b"cut" else content)
    with pytest.raises(ModelLoadError, match=r"golden case a\.npz can not be read"):
        read_golden(tmp_path, SPEC)


def test_a_folder_without_cases(tmp_path):
    (tmp_path / "golden").mkdir()
    with pytest.raises(ModelLoadError, match="holds none"):
        read_golden(tmp_path, SPEC)


@pytest.mark.parametrize(("text", "problem"), [
    ("{", "tolerances.json is wrong"),
    ('{"rtol": -1}', ">= 0"),
    ('{"tolerance": 1}', "unknown field `tolerance`"),
    ('{"outputs": {"z": {"rtol": 1}}}', "names 'z', which is no output"),
])
def test_tolerances_that_can_not_be_used(tmp_path, text, problem):
    (write(tmp_path, inputs__x=X, outputs__y=X) / "tolerances.json").write_text(text)
    with pytest.raises(ModelLoadError) as caught:
        read_golden(tmp_path, SPEC)
    assert problem in str(caught.value)


# --- datatypes ---------------------------------------------------------------------------


@pytest.mark.parametrize(("datatype", "given", "expected"), [
    ("FP32", X.astype(">f4"), X),
    ("INT64", X.astype(np.int64), X.astype(np.int64)),
    ("BF16", X, X.astype(ml_dtypes.bfloat16)),
    ("BF16", X.astype(ml_dtypes.bfloat16), X.astype(ml_dtypes.bfloat16)),
    ("BYTES", np.array([["a", "bc"]]), np.array([["a", "bc"]])),
])
def test_inputs_are_given_as_the_model_takes_them(tmp_path, datatype, given, expected):
    write(tmp_path, inputs__x=given, outputs__y=given)
    spec = typed(datatype)
    (case,) = read_golden(tmp_path, spec).cases
    (array,) = arrange(case, spec)
    np.testing.assert_array_equal(array, expected)
    wanted = as_expected(case, spec.outputs[0])
    assert not difference("y", datatype, wanted, expected, Tolerance())


@pytest.mark.parametrize(("datatype", "given", "problem"), [
    ("FP32", X.astype(np.float64), "input 'x' is FP64, and the model takes FP32"),
    ("BYTES", X, "input 'x' is FP32, and the model takes BYTES"),
    ("FP32", X.astype(np.complex64), "input 'x' is complex64"),
    ("FP32", X[0], "takes 2 dimensions"),
])
def test_inputs_that_the_model_does_not_take(tmp_path, datatype, given, problem):
    write(tmp_path, inputs__x=given, outputs__y=X)
    (case,) = read_golden(tmp_path, typed(datatype)).cases
    with pytest.raises(ModelLoadError, match=problem):
        arrange(case, typed(datatype))


def test_outputs_that_can_not_be_compared(tmp_path):
    write(tmp_path, inputs__x=X, outputs__y=np.array(["text"]))
    (case,) = read_golden(tmp_path, SPEC).cases
    with pytest.raises(ModelLoadError, match="the model gives FP32"):
        as_expected(case, TensorSpec("y", "FP32", (-1, 4)))


# --- comparing ---------------------------------------------------------------------------


def compare(
    expected: Any, actual: Any, datatype: str = "FP32", **tolerance: float
) -> str:
    return difference(
        "y", datatype, np.asarray(expected), np.asarray(actual), Tolerance(**tolerance)
    )


def test_the_largest_difference_is_told_with_its_place():
    problem = compare([[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.5], [3.0, 6.0]])
    assert problem.startswith("output 'y' is 6.0 at [1, 1], where 4.0 is expected: off by 2")
    assert "2 of 4 values are off by more than 0.004 + 0.001 of the value" in problem


@pytest.mark.parametrize(("expected", "actual", "datatype", "tolerance"), [
    ([1000.0, 0.0], [1000.9, 0.9], "FP32", {}),  # rtol, and as much of the largest
    ([0.0, 0.0], [1e-7, 0.0], "FP32", {}),
    ([1.0], [1.4], "FP32", {"rtol": 0.5}),
    ([1.0], [3.0], "FP32", {"atol": 2.0, "rtol": 0.0}),
    ([100.0], [100.9], "FP16", {}),
    ([100.0], [104.0], "BF16", {}),
    ([np.nan, np.inf, -np.inf], [np.nan, np.inf, -np.inf], "FP32", {}),
    ([1, 2], [1, 3], "INT64", {"atol": 1}),
    ([], [], "FP32", {}),
    (1.0, 1.0, "FP32", {}),
])
def test_what_is_near_enough(expected, actual, datatype, tolerance):
    assert not compare(expected, actual, datatype, **tolerance)


@pytest.mark.parametrize(("expected", "actual", "datatype", "tolerance"), [
    ([1000.0, 0.0], [1002.1, 0.0], "FP32", {}),
    ([1000.0, 0.0], [1000.0, 1e-3], "FP32", {"atol": 1e-4}),
    ([0.0], [1e-5], "FP32", {}),
    ([1.0], [1.1], "FP16", {}),
    ([1.0], [np.nan], "FP32", {}),
    ([np.nan], [1.0], "FP32", {}),
    ([np.inf], [1e30], "FP32", {}),
    ([1, 2], [1, 3], "INT64", {}),
    ([(1 << 62) + 1], [1 << 62], "INT64", {}),
    ([True], [False], "BOOL", {}),
])
def test_what_is_not(expected, actual, datatype, tolerance):
    assert compare(expected, actual, datatype, **tolerance)


def test_texts_must_be_equal():
    assert not compare([["a", "é"]], np.array([[b"a", "é".encode()]], object), "BYTES")
    problem = compare([["a", "b"]], np.array([[b"a", b"c"]], object), "BYTES")
    assert problem == (
        "output 'y' has another text at [0, 1] than is expected, and 1 of 2 differ"
    )


def test_shapes_must_be_equal():
    assert compare(X, X[:1]) == "output 'y' has shape [1, 4], where [2, 4] is expected"
