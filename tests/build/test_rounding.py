import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.build.graphs import make, relu
from trtserve.build.cpu_run import Session
from trtserve.build.graph import copied
from trtserve.build.rounding import rounded_to_fp16


@pytest.fixture
def squared(tmp_path):
    """x squared, times a small number, in FP16: the square may be too large for it."""
    return make(
        tmp_path / "m.onnx", [("Mul", "x x", "square"), ("Mul", "square small", "y")],
        {"x": ("FP16", ("N", 1))}, {"y": ("FP16", ("N", 1))},
        {"small": np.array(1e-3, np.float16)},
    ).model


def run(model, x):
    with Session(model) as session:
        return session.run({"x": np.array([[x]], np.float16)})["y"][0, 0]


def test_what_is_too_large_in_between_overflows(squared):
    # Else the square, 90000, is never seen in FP16.
    assert run(squared, 300) == pytest.approx(90, rel=0.01)
    assert run(rounded_to_fp16(squared), 300) == np.inf
    assert run(rounded_to_fp16(squared), 200) == run(squared, 200)


@pytest.mark.parametrize("opset", [12, 13, 17])
def test_for_every_opset(squared, opset):
    model = copied(squared)
    model.opset_import[0].version = opset
    rounded = rounded_to_fp16(model)
    onnx.checker.check_model(rounded)
    assert run(rounded, 300) == np.inf


def test_names_that_are_taken_stay_whole(squared):
    model = copied(squared)
    for node in model.graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                if name == "square":
                    names[at] = "y_raw"
    rounded = rounded_to_fp16(model)
    onnx.checker.check_model(rounded)
    assert run(rounded, 300) == np.inf


def test_a_model_in_fp32_stays(tmp_path):
    model = relu(tmp_path / "m.onnx", ("N", 1)).model
    assert rounded_to_fp16(model) is model


def test_the_model_itself_stays(squared):
    before = copied(squared)
    assert len(rounded_to_fp16(squared).graph.node) == 2 + 2 * 2
    assert squared == before
    assert squared.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16
