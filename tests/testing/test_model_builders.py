from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from trtserve.testing import models

X = np.arange(32, dtype=np.float32).reshape(2, 16)


def run(path: Path, **inputs: np.ndarray[Any, Any]) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, inputs)[0]


def test_identity_add_and_cast(tmp_path):
    path = tmp_path / "model.onnx"
    models.make_identity(str(path))
    np.testing.assert_array_equal(run(path, x=X), X)
    models.make_add(str(path), 1.5)
    np.testing.assert_array_equal(run(path, x=X), X + 1.5)
    models.make_cast(str(path), "FP32", "INT64")
    found = run(path, x=X)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, X)


def test_matmul_is_the_same_each_time(tmp_path):
    for name in ("one.onnx", "two.onnx"):
        models.make_matmul(str(tmp_path / name), 16, 3)
    one, two = (run(tmp_path / name, x=X) for name in ("one.onnx", "two.onnx"))
    assert one.shape == (2, 3)
    np.testing.assert_array_equal(one, two)


def test_outputs_that_depend_on_data_or_break_their_declaration(tmp_path):
    path = tmp_path / "model.onnx"
    models.make_nonzero(str(path))
    assert run(path, x=X).shape == (2, 31)
    models.make_appended(str(path))
    assert run(path, x=X).shape == (3, 16)


def test_a_product_needs_matching_sizes(tmp_path):
    path = tmp_path / "model.onnx"
    models.make_product(str(path))
    assert run(path, a=X, b=X.T.copy()).shape == (2, 2)
    with pytest.raises(Exception, match="dimension mismatch"):
        run(path, a=X, b=X)
