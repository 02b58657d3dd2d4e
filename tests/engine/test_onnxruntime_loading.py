"""Files that do not load, and how the ones that do are set up."""

import sys
from pathlib import Path

import pytest

from trtserve.device.host import HostDevice
from trtserve.engine.onnxruntime import OnnxEngine, OnnxRuntime
from trtserve.engine.onnxruntime_installed import CUDA, providers
from trtserve.errors import ModelLoadError
from trtserve.testing import models
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "model.onnx")


def load(path: str, **options: str) -> OnnxEngine:
    engine = OnnxRuntime().load(path, HostDevice(), options)
    assert isinstance(engine, OnnxEngine)
    return engine


def broken(path: str) -> None:
    Path(path).write_bytes(b"this is no model" * 10)


def empty(path: str) -> None:
    Path(path).touch()


def cut_off(path: str) -> None:
    models.make_matmul(path, 16, 3)
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: len(data) // 2])


def too_new(path: str) -> None:
    import onnx

    models.make_identity(path)
    model = onnx.load(path)
    model.opset_import[0].version = 99
    onnx.save(model, path)


def without_its_weights(path: str) -> None:
    import onnx

    models.make_matmul(path, 16, 3)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights",
              size_threshold=0)
    (Path(path).parent / "weights").unlink()


def unknown_operator(path: str) -> None:
    models.save(path, [models.node("NoSuchThing", ["x"], ["y"])], {"x": ("FP32", ("N",))},
                {"y": ("FP32", ("N",))})


def sequence(path: str) -> None:
    import onnx
    from onnx import helper

    models.save(path, [models.node("SequenceConstruct", ["x"], ["y"])],
                {"x": ("FP32", ("N",))}, {})
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_sequence_value_info("y", 1, ["N"]))
    onnx.save(model, path)


def text_to_bfloat16(path: str) -> None:
    models.save(
        path,
        [models.node("Identity", ["x"], ["y"]), models.node("Identity", ["a"], ["b"])],
        {"x": ("BYTES", ("N",)), "a": ("BF16", ("N",))},
        {"y": ("BYTES", ("N",)), "b": ("BF16", ("N",))},
    )


def nothing(path: str) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "problem", "cure"),
    [
        (nothing, "no such file", "Put the model there"),
        (broken, "not an ONNX model", "Copy the file again"),
        (empty, "not an ONNX model", "Copy the file again"),
        (cut_off, "not an ONNX model", "Copy the file again"),
        (too_new, r"newer than the installed ONNX Runtime \d.*Opset 99", "Update ONNX Runtime"),
        (without_its_weights, r"weights is missing.*/weights", "Copy the model's external data"),
        (unknown_operator, "operator that ONNX Runtime .* lacks.*NoSuchThing", "standard ONNX"),
        (sequence, r"output 'y' has type seq\(tensor\(float\)\)", "Export the model with tensors"),
        (text_to_bfloat16, "output 'b' is BF16", "Cast that output"),
    ],
)
def test_a_file_that_does_not_load(path, make, problem, cure, capfd):
    make(path)
    with pytest.raises(ModelLoadError, match=problem) as caught:
        load(path)
    assert caught.value.where == path
    assert cure in caught.value.cure
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == ""


def test_threads_are_configured_as_in_triton(path):
    models.make_identity(path)
    engine = load(path, intra_op_thread_count="3")
    assert engine.session.get_session_options().intra_op_num_threads == 3
    for wrong in ("0", "-1", "many"):
        with pytest.raises(ModelLoadError, match=f"is '{wrong}'"):
            load(path, intra_op_thread_count=wrong)


def test_lanes_and_a_run_s_threads_share_the_cores(path, monkeypatch):
    monkeypatch.setattr("trtserve.engine.onnxruntime.core_count", lambda: 8)
    models.make_identity(path)
    for lanes, threads in ((1, 8), (2, 7), (8, 1), (9, 1)):
        engine = OnnxRuntime().load(path, HostDevice(lanes), {})
        assert isinstance(engine, OnnxEngine)
        assert engine.session.get_session_options().intra_op_num_threads == threads


def test_other_devices_are_refused(path):
    models.make_identity(path)
    with pytest.raises(ModelLoadError, match="not served on fake"):
        OnnxRuntime().load(path, FakeDevice(FakeClock()), {})


@pytest.mark.skipif(CUDA in providers(), reason="an ONNX Runtime for CUDA is installed")
def test_cuda_needs_another_package(path):
    models.make_identity(path)
    device = FakeDevice(FakeClock())
    device.name = "cuda:0"
    with pytest.raises(ModelLoadError, match=r"ONNX Runtime \d.* has no CUDA") as caught:
        OnnxRuntime().load(path, device, {})
    assert caught.value.where == path
    assert "pip install 'trtserve[cuda]'" in caught.value.cure


def test_onnx_runtime_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelLoadError, match=r"pip install 'trtserve\[cpu\]'"):
        OnnxRuntime()
