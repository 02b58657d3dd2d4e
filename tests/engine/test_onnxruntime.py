import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from trtserve.device.host import HostDevice
from trtserve.engine.interface import Context, Engine, Runtime, TensorMemory
from trtserve.engine.onnx_signature import DEFAULT_MAX_BATCH
from trtserve.engine.onnxruntime import OnnxEngine, OnnxRuntime
from trtserve.errors import ExecutionFailed, InvalidRequest
from trtserve.model.spec import ShapeRange, TensorSpec
from trtserve.model.tensor import DATATYPES, encode
from trtserve.testing import models
from trtserve.testing.engine import memory_of, read

DEVICE = HostDevice()
STREAM = DEVICE.create_stream()
X = np.arange(32, dtype=np.float32).reshape(2, 16)

Array = np.ndarray[Any, Any]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "model.onnx")


def load(path: str) -> OnnxEngine:
    engine = OnnxRuntime().load(path, DEVICE, {})
    assert isinstance(engine, OnnxEngine)
    return engine


def given(array: Array) -> tuple[TensorMemory, Array]:
    """An input's memory and what keeps it alive. Nothing has no address."""
    encoded = encode(array)
    data = np.frombuffer(encoded or b"\0", np.uint8)
    return TensorMemory(data.ctypes.data if encoded else 0, len(encoded), array.shape), data


def run(
    engine: OnnxEngine, *arrays: Array, place: bool = False, context: Context | None = None
) -> list[Array]:
    """The outputs; `place` those whose shapes the engine knows before."""
    context = context or engine.create_context(0, STREAM)
    outputs = engine.variants[0].outputs
    pairs = [given(array) for array in arrays]
    shapes = context.output_shapes([array.shape for array in arrays])
    targets = [
        np.zeros(shape, DATATYPES[spec.datatype].numpy) if place and shape is not None else None
        for spec, shape in zip(outputs, shapes, strict=True)
    ]
    placed = [None if target is None else memory_of(target) for target in targets]
    found = context.enqueue(STREAM, [memory for memory, _ in pairs], placed)
    return [
        read(memory, spec.datatype) if memory.size else np.empty(memory.shape, object)
        for memory, spec in zip(found, outputs, strict=True)
    ]


def test_it_is_a_runtime(path):
    models.make_identity(path)
    runtime: Runtime = OnnxRuntime()
    engine: Engine = runtime.load(path, DEVICE, {})
    assert runtime.suffixes == (".onnx",)
    assert engine.platform == "onnxruntime_onnx"
    assert not engine.pins
    assert not engine.captures
    with pytest.raises(IndexError, match="variant 0 only"):
        engine.create_context(1, STREAM)
    engine.close()
    engine.close()
    with pytest.raises(IndexError, match="open ONNX engine"):
        engine.create_context(0, STREAM)


# --- what a file declares ----------------------------------------------------------------


def test_a_batched_variant(path):
    models.make_identity(path, ("N", 3, "H", None), "FP16")
    (variant,) = load(path).variants
    assert variant.name == "model.onnx"
    assert variant.inputs == (TensorSpec("x", "FP16", (-1, 3, -1, -1)),)
    assert variant.outputs == (TensorSpec("y", "FP16", (-1, 3, -1, -1)),)
    assert variant.ranges == (ShapeRange((1, 3, 1, 1), (-1, 3, -1, -1)),)
    assert variant.max_batch == DEFAULT_MAX_BATCH


def test_what_is_not_a_batch(path):
    models.make_identity(path, (1, 16))
    assert load(path).variants[0].max_batch == 0
    models.make_nonzero(path)
    assert load(path).variants[0].max_batch == 0
    models.make_identity(path, ())
    assert load(path).variants[0].max_batch == 0


def test_output_shapes_known_before_the_run(path):
    models.make_product(path)
    context = load(path).create_context(0, STREAM)
    assert context.output_shapes([(2, 5), (5, 7)]) == [(2, 7)]
    models.make_identity(path, ("N", 4, None))
    assert load(path).create_context(0, STREAM).output_shapes([(2, 4, 3)]) == [None]
    models.make_nonzero(path)
    assert load(path).create_context(0, STREAM).output_shapes([(2, 3)]) == [None]
    models.make_identity(path, ("N",), "BYTES")
    assert load(path).create_context(0, STREAM).output_shapes([(2,)]) == [None]
    models.make_identity(path, ("?", "?"))
    assert load(path).create_context(0, STREAM).output_shapes([(2, 3)]) == [None]


# --- running -----------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != "BYTES"])
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), ()])
@pytest.mark.parametrize("place", [False, True])
def test_every_datatype_and_odd_shapes(path, datatype, shape, place):
    models.make_identity(path, ("N", 3) if shape else (), datatype)
    context = load(path).create_context(0, STREAM)
    count = int(np.prod(shape))
    array = (np.arange(count) % 2).astype(DATATYPES[datatype].numpy).reshape(shape)
    target = np.full(shape, 1, DATATYPES[datatype].numpy)
    memory, keep = given(array)
    size = array.nbytes
    place_at = TensorMemory(target.ctypes.data if size else 0, size, shape) if place else None
    (found,) = context.enqueue(STREAM, [memory], [place_at])
    assert (found.shape, found.size) == (shape, size)
    if place_at is not None:
        assert found == place_at
        np.testing.assert_array_equal(target, array)
    np.testing.assert_array_equal(read(found, datatype) if size else array, array)
    del keep


@pytest.mark.parametrize(("source", "target"), [("FP32", "BF16"), ("BF16", "FP16")])
def test_half_precision_is_computed(path, source, target):
    models.make_cast(path, source, target)
    array = (X / 3).astype(DATATYPES[source].numpy)
    (found,) = run(load(path), array)
    np.testing.assert_array_equal(found, array.astype(DATATYPES[target].numpy))


def test_numbers_keep_their_bits(path):
    # NaN payloads and signed zeros pass: bytes are moved, not values.
    models.make_identity(path, ("N",), "BF16")
    bits = np.array([0x7FC1, 0x8000, 0xFF80, 0x0001], np.uint16)
    (found,) = run(load(path), bits.view(ml_dtypes.bfloat16))
    assert found.view(np.uint16).tolist() == bits.tolist()


def test_outputs_that_the_engine_places_live_until_the_next_run(path):
    models.make_add(path, 1)
    engine = load(path)
    one, other = engine.create_context(0, STREAM), engine.create_context(0, STREAM)
    memory, keep = given(X)
    (first,) = one.enqueue(STREAM, [memory], [None])
    for rows in (1, 2, 2):
        run(engine, X[:rows] * 0, context=other)
    np.testing.assert_array_equal(read(first), X + 1)
    del keep


def test_placed_and_unplaced_runs_in_turn(path):
    models.make_add(path, 1)
    engine = load(path)
    context = engine.create_context(0, STREAM)
    for rows, place in ((1, True), (2, False), (2, True), (1, False), (1, True)):
        (found,) = run(engine, X[:rows], place=place, context=context)
        np.testing.assert_array_equal(found, X[:rows] + 1)


def test_a_size_that_depends_on_the_data(path):
    models.make_nonzero(path)
    engine = load(path)
    context = engine.create_context(0, STREAM)
    for array in (X, X * 0, X[:1]):
        (found,) = run(engine, array, context=context)
        np.testing.assert_array_equal(found, np.array(np.nonzero(array)))


def test_a_wrong_declaration_is_noticed_once(path, caplog):
    models.make_appended(path)
    engine = load(path)
    context = engine.create_context(0, STREAM)
    assert context.output_shapes([(2, 16)]) == [(2, 16)]
    for _ in range(3):
        (found,) = run(engine, X, place=True, context=context)
        np.testing.assert_array_equal(found, np.vstack([X, X[:1] * 0]))
        assert engine.create_context(0, STREAM).output_shapes([(2, 16)]) == [None]
    assert caplog.text.count("declares output shapes that it does not keep") == 1


def test_an_output_that_is_an_input(path):
    # Bound to an address, ONNX Runtime would leave it unwritten.
    shape = ("FP32", ("N", 16))
    models.save(path, [models.node("Neg", ["x"], ["y"])], {"x": shape}, {"y": shape, "x": shape})
    engine = load(path)
    assert engine.create_context(0, STREAM).output_shapes([(2, 16)]) == [(2, 16), None]
    negated, same = run(engine, X, place=True)
    np.testing.assert_array_equal(negated, -X)
    np.testing.assert_array_equal(same, X)


def test_contexts_run_at_the_same_time(path):
    models.make_matmul(path, 16, 64)
    engine = load(path)
    expected = run(engine, X)[0]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: run(engine, X, place=True)[0], range(200)))
    for array in found:
        np.testing.assert_array_equal(array, expected)


def test_nothing_is_captured_on_a_cpu(path):
    models.make_add(path, 1)
    engine = load(path)
    context = engine.create_context(0, STREAM)
    memory, keep = given(X)
    with pytest.raises(ExecutionFailed, match="CPU can not be captured"):
        context.capture(STREAM, [memory], [memory_of(X.copy())])
    context.release_graph()
    np.testing.assert_array_equal(run(engine, X, context=context)[0], X + 1)
    del keep


def test_a_closed_engine_leaves_nothing_behind(path):
    models.make_add(path, 1)
    engine = load(path)
    context = engine.create_context(0, STREAM)
    run(engine, X, context=context)
    session = weakref.ref(engine.session)
    gc.disable()  # what only the collector would find is a cycle
    try:
        context.close()
        engine.close()
        assert session() is None
    finally:
        gc.enable()


# --- text --------------------------------------------------------------------------------


TEXT = np.array([["a", "nul\0inside\0"], ["", "grüße"]], np.object_)


def test_text_in_and_out(path):
    models.make_identity(path, ("N", 2), "BYTES")
    engine = load(path)
    for array in (TEXT, TEXT[:1], TEXT[:0]):
        (found,) = run(engine, array)
        assert found.shape == array.shape
        assert found.tolist() == [[item.encode() for item in row] for row in array.tolist()]


def test_text_out_only(path):
    models.make_cast(path, "INT64", "BYTES", ("N",))
    (found,) = run(load(path), np.array([1, 23]))
    assert found.tolist() == [b"1", b"23"]


def test_text_beside_numbers_of_every_kind(path):
    names = ("BF16", "FP16", "INT64")
    models.save(
        path,
        [models.node("Identity", ["t"], ["text"]),
         *(models.node("Cast", [name], [f"out {name}"], to=1) for name in names)],
        {"t": ("BYTES", ("N",))} | {name: (name, ("N",)) for name in names},
        {"text": ("BYTES", ("N",))} | {f"out {name}": ("FP32", ("N",)) for name in names},
    )
    numbers = [np.array([1, 2]).astype(DATATYPES[name].numpy) for name in names]
    text, *found = run(load(path), np.array(["x", "y"], np.object_), *numbers)
    assert text.tolist() == [b"x", b"y"]
    assert [array.tolist() for array in found] == [[1, 2]] * 3


def test_bytes_that_are_not_text_are_refused(path):
    models.make_identity(path, ("N",), "BYTES")
    with pytest.raises(InvalidRequest, match=r"input 'x' .* not UTF-8"):
        run(load(path), np.array([b"fine", b"\xff\xd8"], np.object_))


# --- failures ----------------------------------------------------------------------------


@pytest.mark.parametrize("place", [False, True])
def test_a_failing_run_says_why_in_one_line_and_the_next_one_works(path, place, capfd):
    models.make_product(path)
    engine = load(path)
    context = engine.create_context(0, STREAM)
    with pytest.raises(ExecutionFailed, match="MatMul dimension mismatch") as caught:
        run(engine, X, X, place=place, context=context)
    assert "\n" not in str(caught.value)
    (found,) = run(engine, X, X.T.copy(), place=place, context=context)
    np.testing.assert_allclose(found, X @ X.T)
    # It was not the shapes' fault: they are trusted still.
    assert context.output_shapes([(2, 16), (16, 2)]) == [(2, 2)]
    assert capfd.readouterr() == ("", "")


def test_the_runtime_s_sources_are_not_told(path):
    models.save(
        path, [models.node("Reshape", ["x", "s"], ["y"])], {"x": ("FP32", ("N", 16))},
        {"y": ("FP32", ("N", 7))}, {"s": np.array([-1, 7])},
    )
    with pytest.raises(ExecutionFailed) as caught:
        run(load(path), X)
    message = str(caught.value)
    assert "cannot be reshaped" in message
    assert "::" not in message
    assert ".h:" not in message
    assert "/" not in message
