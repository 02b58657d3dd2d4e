"""What ONNX Runtime makes of models for CUDA."""

import numpy as np
import pytest

from trtserve.build.explain.onnx_file import explain_onnx
from trtserve.testing.models import make_matmul, node, save

CUDA = "CUDAExecutionProvider"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def test_nodes_are_on_cuda_and_say_so(path):
    make_matmul(str(path), 64, 64)
    found = explain_onnx(path)
    assert found.facts["providers"].startswith(CUDA)
    assert {layer.provider for layer in found.after or () if layer.fused} == {CUDA}


def test_what_computes_shapes_stays_on_the_cpu(path):
    save(
        str(path),
        [
            node("Exp", ["x"], ["e"], name="exp"),
            node("Shape", ["e"], ["s"], name="shape"),
            node("Gather", ["s", "first"], ["n"], name="gather"),
            node("Mul", ["n", "three"], ["m"], name="mul"),
            node("Reshape", ["e", "m"], ["y"], name="reshape"),
        ],
        {"x": ("FP32", ("N", 3))}, {"y": ("FP32", ("M",))},
        {"first": _integers(0), "three": _integers(3)},
    )
    found = explain_onnx(path)
    where = {name: layer.provider for layer in found.after or () for name in layer.fused}
    assert where["exp"] == CUDA
    assert where["gather"] == where["mul"] == "CPUExecutionProvider"
    assert len(found.totals.providers) == 2


def test_times_are_said_to_be_of_launching(path):
    save(str(path), [node("Exp", ["x"], ["e"], name="exp"), node("Neg", ["e"], ["y"], name="neg")],
         {"x": ("FP32", ("N", 16))}, {"y": ("FP32", ("N", 16))})
    found = explain_onnx(path, "x=4x16")
    assert sum(layer.time_share or 0 for layer in found.after or ()) == pytest.approx(1)
    assert any("to launch them" in note.problem for note in found.notes)


def test_the_cpu_s_graph_can_be_asked_for_too(path):
    make_matmul(str(path), 64, 64)
    assert explain_onnx(path, cuda=False).facts["providers"] == "CPUExecutionProvider"


def _integers(*values):
    return np.array(values, np.int64)
