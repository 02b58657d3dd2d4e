"""The comparison of a batch with its requests run alone."""

import ml_dtypes
import numpy as np
import pytest

from trtserve.ipc.message import OutputBlock
from trtserve.model.spec import ShapeRange, TensorSpec, VariantSpec
from trtserve.worker.trial import Trial, close


def variant(datatype: str) -> VariantSpec:
    tensor = TensorSpec("y", datatype, (-1, 2))
    limits = ShapeRange((1, 2), (-1, 2))
    return VariantSpec("m", (tensor,), (tensor,), (limits,), 8)


def block(offset: int, *sizes: int) -> OutputBlock:
    return OutputBlock(0, (2,), offset, sizes)


def test_the_same_answers_pass():
    data = np.arange(6, dtype=np.float32).tobytes()
    trial = Trial(variant("FP32"), (block(0, 8, 16),), memoryview(data))
    trial.compare(0, (block(0, 8),), memoryview(data))
    trial.compare(1, (block(8, 16),), memoryview(data))
    assert trial.passed


def test_rounding_passes_and_another_value_does_not():
    together = np.array([1.0, 2.0], np.float32)
    trial = Trial(variant("FP32"), (block(0, 8),), memoryview(together.tobytes()))
    trial.compare(0, (block(0, 8),), memoryview((together * 1.0001).tobytes()))
    assert trial.passed
    trial.compare(0, (block(0, 8),), memoryview((together + 1).tobytes()))
    assert not trial.passed


def test_the_pieces_are_copies():
    data = bytearray(np.array([1, 2], np.float32).tobytes())
    trial = Trial(variant("FP32"), (block(0, 8),), memoryview(data))
    before = bytes(data)
    data[:] = bytes(8)
    trial.compare(0, (block(0, 8),), memoryview(before))
    assert trial.passed


@pytest.mark.parametrize(("datatype", "kind"), [
    ("FP16", np.float16), ("BF16", ml_dtypes.bfloat16), ("FP32", np.float32),
    ("FP64", np.float64),
])
def test_floats_may_differ_by_rounding(datatype, kind):
    values = np.array([1.0, -3.0, 100.0])
    exact, rounded = values.astype(kind), (values * 1.001).astype(kind)
    assert close(datatype, exact.tobytes(), rounded.tobytes())
    assert not close(datatype, exact.tobytes(), (values * 1.5).astype(kind).tobytes())


@pytest.mark.parametrize("datatype", ["INT32", "BOOL", "BYTES"])
def test_others_may_not_differ(datatype):
    assert close(datatype, b"\0\0\0\1", b"\0\0\0\1")
    assert not close(datatype, b"\0\0\0\1", b"\0\0\0\2")


def test_not_a_number_equals_itself_and_sizes_must_agree():
    nan = np.array([np.nan, 1], np.float32).tobytes()
    other = np.array([np.nan, 1.0001], np.float32).tobytes()
    assert close("FP32", nan, other)
    assert not close("FP32", nan, nan[:4])


def test_a_request_may_want_fewer_outputs_than_its_batch_mates():
    tensors = tuple(TensorSpec(name, "FP32", (-1, 1)) for name in ("y", "z"))
    two = VariantSpec("m", tensors[:1], tensors, (ShapeRange((1, 1), (-1, 1)),), 8)
    data = memoryview(np.array([1, 2, 3, 4], np.float32).tobytes())
    together = (OutputBlock(0, (1,), 0, (4, 4)), OutputBlock(1, (1,), 8, (4, 4)))
    trial = Trial(two, together, data)
    trial.compare(1, (OutputBlock(1, (1,), 12, (4,)),), data)  # wants z only
    trial.compare(0, (OutputBlock(0, (1,), 0, (4,)), OutputBlock(1, (1,), 8, (4,))), data)
    assert trial.passed
    trial.compare(1, (OutputBlock(1, (1,), 8, (4,)),), data)
    assert not trial.passed
