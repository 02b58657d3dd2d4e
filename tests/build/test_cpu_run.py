import numpy as np
import onnx
import pytest

from tests.build.graphs import make, relu, weights
from trtserve.build.cpu_run import Inputs, Session, save, weight_bytes
from trtserve.build.graph import GraphTensor
from trtserve.errors import ConfigurationError, ModelLoadError


def one_input(datatype, shape=(2, 50), **kind):
    return Inputs(**kind).make([GraphTensor("x", datatype, shape)], {"x": shape})["x"]


@pytest.mark.parametrize("datatype", ["FP32", "FP16", "FP64", "UINT8", "INT32", "INT64", "BOOL"])
def test_inputs_are_the_same_each_time(datatype):
    one, other = one_input(datatype), one_input(datatype)
    np.testing.assert_array_equal(one, other)
    assert one.shape == (2, 50)
    assert len(np.unique(one)) > 1


def test_kinds_of_inputs():
    assert one_input("FP32").min() < 0
    assert one_input("FP32", pixels=True).max() > 200
    assert set(np.unique(one_input("INT64"))) == {0, 1}
    assert (one_input("FP32", seed=1) != one_input("FP32")).any()


@pytest.mark.parametrize("datatype", ["BYTES", "SEQUENCE"])
def test_what_has_no_numbers_is_not_made_up(datatype):
    with pytest.raises(ConfigurationError, match="can not be made up"):
        one_input(datatype)


def test_a_model_runs(tmp_path):
    with Session(relu(tmp_path / "m.onnx", ("N", 2)).model) as session:
        found = session.run({"x": np.array([[-1, 2]], np.float32)})
    np.testing.assert_array_equal(found["y"], [[0, 2]])
    session.close()


def test_a_model_that_does_not_load_says_why(tmp_path):
    path = tmp_path / "m.onnx"
    relu(path, ("N", 2))
    model = onnx.load(path)
    model.graph.node[0].op_type = "Nonsense"
    with pytest.raises(ModelLoadError, match=r"ONNX Runtime does not load it: .*Nonsense"):
        Session(model)


def test_a_run_that_fails_says_with_what(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("MatMul", "x w", "y")], {"x": ("FP32", ("N", "K"))},
        {"y": ("FP32", ("N", 2))}, {"w": weights(4, 2)},
    )
    with (
        Session(graph.model) as session,
        pytest.raises(ModelLoadError, match=r"does not run with x\[1, 3\]: .*MatMul"),
    ):
        session.run({"x": np.ones((1, 3), np.float32)})


def test_saving_keeps_the_model(tmp_path):
    graph = relu(tmp_path / "m.onnx", ("N", 2))
    save(graph.model, tmp_path / "copy.onnx")
    assert onnx.load(tmp_path / "copy.onnx") == graph.model


def test_weights_are_counted(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("MatMul", "x w", "y")], {"x": ("FP32", ("N", 4))},
        {"y": ("FP32", ("N", 2))}, {"w": weights(4, 2)},
    )
    assert weight_bytes(graph.model) == 4 * 2 * 4
