"""The engine for CUDA on ONNX Runtime's other provider: all of it but CUDA itself."""

import gc
import os
import shutil
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
import pytest

from trtserve.device.host import HostDevice
from trtserve.engine.interface import Context, Engine, TensorMemory
from trtserve.engine.onnxruntime_context import Target
from trtserve.engine.onnxruntime_cuda import CudaOnnxEngine
from trtserve.engine.onnxruntime_installed import CPU, CUDA, providers
from trtserve.errors import ExecutionFailed, ModelLoadError
from trtserve.model.tensor import DATATYPES
from trtserve.testing import models
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.testing.engine import memory_of, read

STREAM = HostDevice().create_stream()
X = np.arange(32, dtype=np.float32).reshape(2, 16)

Array = np.ndarray[Any, Any]


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "model.onnx")


def load(path: str, **options: str) -> CudaOnnxEngine:
    device = FakeDevice(FakeClock())
    device.name = "cuda:0"
    return CudaOnnxEngine(onnxruntime, path, device, options, Target(CPU, "cpu", 0))


def run(context: Context, *arrays: Array) -> list[Array]:
    """The outputs, where the engine puts them."""
    inputs = [memory_of(array) for array in arrays]
    count = len(context.output_shapes([memory.shape for memory in inputs]))
    return [read(memory) for memory in context.enqueue(STREAM, inputs, [None] * count)]


def run_placed(context: Context, *arrays: Array) -> Array:
    """The only output, where it was placed if that could be."""
    (shape,) = context.output_shapes([array.shape for array in arrays])
    assert shape is not None
    target = np.full(shape, -1, np.float32)
    (found,) = context.enqueue(STREAM, [memory_of(array) for array in arrays], [memory_of(target)])
    return target if found.address == target.ctypes.data else read(found)


def reshaping(path: str) -> None:
    """y[N, 16] = x[N, 4, 4], with the shape computed from x's."""
    models.save(
        path,
        [models.node("Shape", ["x"], ["s"]), models.node("Gather", ["s", "zero"], ["n"], axis=0),
         models.node("Concat", ["n", "rest"], ["t"], axis=0),
         models.node("Reshape", ["x", "t"], ["y"])],
        {"x": ("FP32", ("N", 4, 4))}, {"y": ("FP32", ("N", 16))},
        {"zero": np.array([0]), "rest": np.array([16])},
    )


# --- loading -----------------------------------------------------------------------------


def test_it_is_an_engine(path):
    models.make_identity(path, ("N", 3, "H"), "FP16")
    engine: Engine = load(path)
    assert (engine.platform, engine.pins, engine.captures) == ("onnxruntime_onnx", True, True)
    assert engine.variants[0].inputs[0].shape == (-1, 3, -1)
    with pytest.raises(IndexError, match="variant 0 only"):
        engine.create_context(1, STREAM)
    engine.close()
    engine.close()
    with pytest.raises(IndexError, match="open ONNX engine"):
        engine.create_context(0, STREAM)


@pytest.mark.parametrize(
    ("make", "problem"),
    [(lambda path: models.make_identity(path, ("N",), "BYTES"), "input 'x' is BYTES"),
     (lambda path: models.make_cast(path, "INT64", "BYTES", ("N",)), "output 'y' is BYTES")],
)
def test_text_is_refused(path, make: Callable[[str], None], problem):
    make(path)
    with pytest.raises(ModelLoadError, match=f"{problem}.* cuda:0 can not hold") as caught:
        load(path)
    assert caught.value.where == path
    assert "kind: KIND_CPU" in caught.value.cure


def test_parameters_are_read_first(path):
    models.make_identity(path)
    with pytest.raises(ModelLoadError, match="gpu_mem_limit is 'much'"):
        load(path, gpu_mem_limit="much")


def test_a_broken_file(path):
    models.make_identity(path)
    with open(path, "r+b") as file:
        file.truncate(20)
    with pytest.raises(ModelLoadError, match="not an ONNX model"):
        load(path)


@pytest.mark.skipif(CUDA in providers(), reason="an ONNX Runtime for CUDA is installed")
def test_a_provider_that_does_not_start(path):
    # ONNX Runtime makes a session on the CPU instead.
    models.make_identity(path)
    engine = CudaOnnxEngine(
        onnxruntime, path, FakeDevice(FakeClock()), {}, Target(CUDA, "cpu", 0)
    )
    with (
        pytest.warns(UserWarning, match="not in available provider"),
        pytest.raises(ModelLoadError, match=f"the {CUDA} .* does not start") as caught,
    ):
        engine.create_context(0, STREAM)
    assert "pip install 'trtserve[cuda]'" in caught.value.cure


@pytest.mark.parametrize("replace", [True, False], ids=["renamed over", "written over"])
def test_no_context_is_made_of_a_file_that_has_changed(path, replace):
    """It would be another model than that of the contexts which serve already."""
    models.make_add(path, 1)
    engine = load(path)
    context = engine.create_context(0, STREAM)
    other = path + ".new"
    models.make_add(other, 2, ("N", 16))
    if replace:
        os.replace(other, path)
    else:
        shutil.copyfile(other, path)
    with pytest.raises(ModelLoadError, match=r"model\.onnx has changed since") as caught:
        engine.create_context(0, STREAM, [(2, 16)])
    assert "again" in caught.value.cure
    np.testing.assert_array_equal(run(context, X)[0], X + 1)


# --- runs --------------------------------------------------------------------------------


def test_every_shape(path):
    models.make_add(path, 1)
    context = load(path).create_context(0, STREAM)
    for rows in (1, 2, 1):
        (found,) = run(context, X[:rows])
        np.testing.assert_array_equal(found, X[:rows] + 1)
        np.testing.assert_array_equal(run_placed(context, X[:rows]), X[:rows] + 1)


def test_one_shape(path):
    reshaping(path)
    context = load(path).create_context(0, STREAM, [(2, 4, 4)])
    np.testing.assert_array_equal(run_placed(context, X.reshape(2, 4, 4)), X)
    with pytest.raises(ExecutionFailed, match="Got: 3 Expected: 2"):
        run(context, np.zeros((3, 4, 4), np.float32))
    np.testing.assert_array_equal(run_placed(context, X.reshape(2, 4, 4)), X)


def test_sizes_that_the_file_contradicts(path):
    # Without the sizes it loads, and each run says what is wrong.
    models.make_product(path)
    context = load(path).create_context(0, STREAM, [(2, 5), (4, 3)])
    with pytest.raises(ExecutionFailed, match="MatMul dimension mismatch"):
        run(context, np.zeros((2, 5), np.float32), np.zeros((4, 3), np.float32))


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != "BYTES"])
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), ()])
def test_every_datatype_and_odd_shapes(path, datatype, shape):
    models.make_identity(path, ("N", 3) if shape else (), datatype)
    context = load(path).create_context(0, STREAM, [shape])
    array = np.ones(shape, DATATYPES[datatype].numpy)
    for outputs in ([None], [memory_of(np.zeros(shape, DATATYPES[datatype].numpy))]):
        given = memory_of(array) if array.size else TensorMemory(0, 0, shape)
        (found,) = context.enqueue(STREAM, [given], outputs)
        assert (found.shape, found.size) == (shape, array.nbytes)
        if array.size:
            np.testing.assert_array_equal(read(found, datatype), array)


def test_a_size_that_depends_on_the_data(path):
    models.make_nonzero(path)
    context = load(path).create_context(0, STREAM, [(2, 16)])
    (found,) = context.enqueue(STREAM, [memory_of(X)], [None])
    np.testing.assert_array_equal(read(found, "INT64"), np.array(np.nonzero(X)))


def test_a_wrong_declaration_is_noticed_once(path, caplog):
    models.make_appended(path)
    engine = load(path)
    context = engine.create_context(0, STREAM)
    assert context.output_shapes([(2, 16)]) == [(2, 16)]
    assert run_placed(context, X).shape == (3, 16)
    assert run(context, X)[0].shape == (3, 16)
    assert engine.create_context(0, STREAM).output_shapes([(2, 16)]) == [None]
    assert caplog.text.count("declares output shapes that it does not keep") == 1


def test_one_shape_tells_what_the_file_leaves_open(path):
    # Declared as [N, 16], and as [M, 16] in the other.
    models.make_appended(path)
    context = load(path).create_context(0, STREAM, [(2, 16)])
    assert context.output_shapes([(2, 16)]) == [(3, 16)]
    np.testing.assert_array_equal(run_placed(context, X), np.vstack([X, X[:1] * 0]))
    models.save(path, [models.node("Neg", ["x"], ["y"])], {"x": ("FP32", ("N", 16))},
                {"y": ("FP32", ("M", 16))})
    engine = load(path)
    assert engine.create_context(0, STREAM).output_shapes([(2, 16)]) == [None]
    context = engine.create_context(0, STREAM, [(2, 16)])
    np.testing.assert_array_equal(run_placed(context, X), -X)


def test_a_failing_run_says_why_and_the_next_one_works(path, capfd):
    models.make_product(path)
    context = load(path).create_context(0, STREAM)
    with pytest.raises(ExecutionFailed, match="MatMul dimension mismatch") as caught:
        run_placed(context, X, X)
    assert "\n" not in str(caught.value)
    np.testing.assert_allclose(run_placed(context, X, X.T.copy()), X @ X.T)
    assert context.output_shapes([(2, 16), (16, 2)]) == [(2, 2)]
    assert capfd.readouterr() == ("", "")


def test_one_thread_drives_a_session(path):
    models.make_add(path, 1)
    context = load(path).create_context(0, STREAM)
    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="another thread"):
        pool.submit(run, context, X).result()
    (found,) = run(context, X)
    np.testing.assert_array_equal(found, X + 1)


# --- graphs ------------------------------------------------------------------------------


def test_a_captured_run_keeps_its_places(path):
    models.make_add(path, 1)
    context = load(path).create_context(0, STREAM, [(2, 16)])
    given, target = X.copy(), np.zeros_like(X)
    places = [memory_of(given)], [memory_of(target)]
    context.capture(STREAM, *places)
    for factor in (2, 3):
        given[:] = X * factor
        assert context.enqueue(STREAM, *places) == places[1]
        np.testing.assert_array_equal(target, given + 1)
    for inputs, outputs in (([memory_of(X)], places[1]), (places[0], [None])):
        with pytest.raises(RuntimeError, match="other places"):
            context.enqueue(STREAM, inputs, outputs)
    context.enqueue(STREAM, *places)


def test_a_released_graph_binds_nothing(path):
    models.make_add(path, 1)
    context = load(path).create_context(0, STREAM, [(2, 16)])
    target = np.zeros_like(X)
    for _ in range(2):
        context.capture(STREAM, [memory_of(X)], [memory_of(target)])
        context.release_graph()
        context.release_graph()
        (found,) = run(context, X * 2)
        np.testing.assert_array_equal(found, X * 2 + 1)


def test_a_context_for_any_shape_is_not_captured(path):
    models.make_add(path, 1)
    context = load(path).create_context(0, STREAM)
    with pytest.raises(ExecutionFailed, match="made for any shape"):
        context.capture(STREAM, [memory_of(X)], [memory_of(X.copy())])
    np.testing.assert_array_equal(run_placed(context, X), X + 1)


def test_a_run_that_fails_is_not_captured(path):
    models.make_product(path)
    context = load(path).create_context(0, STREAM, [(2, 5), (4, 3)])
    arrays = [np.zeros(shape, np.float32) for shape in ((2, 5), (4, 3), (2, 3))]
    *inputs, output = map(memory_of, arrays)
    with pytest.raises(ExecutionFailed, match="MatMul dimension mismatch"):
        context.capture(STREAM, inputs, [output])
    with pytest.raises(ExecutionFailed, match="MatMul dimension mismatch"):
        context.enqueue(STREAM, inputs, [None])


# --- the end -----------------------------------------------------------------------------


def test_a_closed_context_leaves_nothing_behind(path):
    models.make_add(path, 1)
    gc.collect()
    gc.disable()  # what only the collector would find is a cycle
    try:
        before = live_sessions()
        context = load(path).create_context(0, STREAM, [(2, 16)])
        (session,) = [ref for ref in live_sessions() if ref not in before]
        run(context, X)
        context.capture(STREAM, [memory_of(X)], [memory_of(X.copy())])
        context.close()
        context.close()
        assert session() is None
    finally:
        gc.enable()


def live_sessions() -> list[weakref.ref[Any]]:
    return [
        weakref.ref(thing) for thing in gc.get_objects()
        if isinstance(thing, onnxruntime.InferenceSession)
    ]
