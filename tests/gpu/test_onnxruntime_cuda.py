"""ONNX Runtime's CUDA provider, next to plain ONNX Runtime on the CPU."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.gpu import kernels
from tests.gpu.onnx_lane import (
    Bench,
    assert_close,
    expected,
    load,
    random,
    reshaping,
    two_products,
    vision,
)
from trtserve.engine.interface import TensorMemory
from trtserve.errors import ExecutionFailed, ModelLoadError
from trtserve.testing import models

MIB = 1 << 20


@pytest.fixture
def bench(device) -> Iterator[Bench]:
    bench = Bench(device)
    yield bench
    bench.close()


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "model.onnx")


# --- results -----------------------------------------------------------------------------


@pytest.mark.parametrize("place", [False, True])
def test_any_shape(bench, path, place):
    vision(path)
    context = load(path, bench.device).create_context(0, bench.stream)
    for shape in ((1, 3, 32, 32), (4, 3, 48, 40), (1, 3, 32, 32), (7, 3, 33, 31)):
        x = random(*shape)
        assert_close(bench.run(context, x, place=place), expected(path, x))
    context.close()


@pytest.mark.parametrize("search", ["HEURISTIC", "EXHAUSTIVE", "DEFAULT"])
@pytest.mark.parametrize("place", [False, True])
def test_one_shape(bench, path, place, search):
    vision(path)
    engine = load(path, bench.device, cudnn_conv_algo_search=search)
    context = engine.create_context(0, bench.stream, [(4, 3, 32, 32)])
    for seed in range(3):
        x = random(4, 3, 32, 32, seed=seed)
        assert_close(bench.run(context, x, place=place), expected(path, x))
    with pytest.raises(ExecutionFailed, match="Got: 2 Expected: 4"):
        bench.run(context, random(2, 3, 32, 32))
    assert_close(bench.run(context, x, place=place), expected(path, x))
    context.close()


@pytest.mark.parametrize("pinned", [False, True])
def test_shapes_that_are_computed(bench, path, pinned):
    reshaping(path)
    shapes = [(3, 4, 4)] if pinned else None
    context = load(path, bench.device).create_context(0, bench.stream, shapes)
    x = random(3, 4, 4)
    np.testing.assert_array_equal(bench.run(context, x, place=True), x.reshape(3, 16) + 1)
    context.close()


def test_outputs_whose_size_depends_on_the_data(bench, path):
    models.make_nonzero(path)
    context = load(path, bench.device).create_context(0, bench.stream, [(4, 8)])
    for seed in range(3):
        x = np.round(random(4, 8, seed=seed))
        (found,) = context.enqueue(bench.stream, [bench.put(x)], [None])
        np.testing.assert_array_equal(bench.get(found, np.int64), np.array(np.nonzero(x)))
    context.close()


def test_a_wrong_declaration(bench, path):
    models.make_appended(path)
    engine = load(path, bench.device)
    context = engine.create_context(0, bench.stream)
    x = random(2, 16)
    assert context.output_shapes([x.shape]) == [(2, 16)]
    (found,) = context.enqueue(bench.stream, [bench.put(x)], [bench.place((2, 16))])
    np.testing.assert_array_equal(bench.get(found), np.vstack([x, x[:1] * 0]))
    assert context.output_shapes([x.shape]) == [None]
    pinned = engine.create_context(0, bench.stream, [(2, 16)])
    assert pinned.output_shapes([x.shape]) == [(3, 16)]
    np.testing.assert_array_equal(bench.run(pinned, x, place=True), np.vstack([x, x[:1] * 0]))
    pinned.close()
    context.close()


def test_an_empty_batch(bench, path):
    models.make_add(path, 1)
    context = load(path, bench.device).create_context(0, bench.stream)
    (found,) = context.enqueue(bench.stream, [TensorMemory(0, 0, (0, 16))], [None])
    assert (found.shape, found.size) == ((0, 16), 0)
    np.testing.assert_array_equal(bench.run(context, random(2, 16)), random(2, 16) + 1)
    context.close()


def test_a_run_comes_after_what_its_stream_waits_for(bench, path):
    # The copy in waits for a slow kernel on another stream; the run must not start before.
    models.make_add(path, 1)
    context = load(path, bench.device).create_context(0, bench.stream, [(2, 16)])
    x, target = bench.put(random(2, 16)), bench.place((2, 16))
    context.enqueue(bench.stream, [x], [target])
    late = bench.put(random(2, 16, seed=9))
    other, event = bench.device.create_stream(), bench.device.create_event()
    kernels.spin(other.handle, 50)
    other.copy([(x.address, late.address, x.size)])
    other.record(event)
    bench.stream.wait(event)
    context.enqueue(bench.stream, [x], [target])
    np.testing.assert_array_equal(bench.get(target), random(2, 16, seed=9) + 1)
    context.close()
    other.close()


def test_a_run_returns_before_its_work_is_done(bench, path):
    kernels.spin(bench.stream.handle, 0)  # compiled now
    models.make_add(path, 1)
    context = load(path, bench.device).create_context(0, bench.stream, [(2, 16)])
    x, target = bench.put(random(2, 16)), bench.place((2, 16))
    for captured in (False, True):
        if captured:
            context.capture(bench.stream, [x], [target])
        context.enqueue(bench.stream, [x], [target])
        bench.stream.synchronize()
        start, queued, end = (bench.device.create_event() for _ in range(3))
        other = bench.device.create_stream()
        bench.stream.record(start)
        kernels.spin(bench.stream.handle, 200)
        context.enqueue(bench.stream, [x], [target])
        other.record(queued)  # reached as soon as the host is here
        bench.stream.record(end)
        bench.stream.synchronize()
        other.synchronize()
        # Far less than the kernel takes that the run has to wait for.
        assert queued.elapsed_ns(start) < 100_000_000 < end.elapsed_ns(start)
        other.close()
    context.close()


def test_contexts_of_several_lanes_at_once(device, path):
    vision(path)
    engine = load(path, device)
    x = [random(4, 3, 32, 32, seed=seed) for seed in range(4)]
    right = [expected(path, array) for array in x]

    def work(lane: int) -> None:
        device.enter_thread()
        bench = Bench(device)
        context = engine.create_context(0, bench.stream, [(4, 3, 32, 32)])
        given, target = bench.put(x[0]), bench.place((4, 10))
        if lane % 2:
            context.capture(bench.stream, [given], [target])
        for turn in range(60):
            index = (turn + lane) % 4
            bench.write(given, x[index])
            context.enqueue(bench.stream, [given], [target])
            assert_close(bench.get(target), right[index])
        context.close()
        bench.close()

    with ThreadPoolExecutor(4) as lanes:
        for done in [lanes.submit(work, lane) for lane in range(4)]:
            done.result()


def test_another_thread_is_refused(bench, path):
    models.make_add(path, 1)
    context = load(path, bench.device).create_context(0, bench.stream)
    x = bench.put(random(2, 16))
    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="another thread"):
        pool.submit(context.enqueue, bench.stream, [x], [None]).result()
    (found,) = context.enqueue(bench.stream, [x], [None])
    np.testing.assert_array_equal(bench.get(found), random(2, 16) + 1)
    context.close()


# --- what does not load ------------------------------------------------------------------


def test_an_operator_that_cuda_lacks(bench, path):
    models.save(path, [models.node("Det", ["x"], ["d"]), models.node("Sin", ["d"], ["y"])],
                {"x": ("FP32", ("N", 4, 4))}, {"y": ("FP32", ("N",))})
    engine = load(path, bench.device)
    for shapes in (None, [(2, 4, 4)]):
        with pytest.raises(ModelLoadError, match=r"on cuda:0: it lacks Det") as caught:
            engine.create_context(0, bench.stream, shapes)
        assert "kind: KIND_CPU" in caught.value.cure
        assert caught.value.where == path


def test_weights_that_do_not_fit(bench, path):
    two_products(path, 4096)
    engine = load(path, bench.device, gpu_mem_limit=str(MIB))
    with pytest.raises(ModelLoadError, match="cuda:0 has too little memory") as caught:
        engine.create_context(0, bench.stream)
    assert "bytes are free" in caught.value.problem
    assert "its gpu_mem_limit is 1,048,576" in caught.value.problem
    context = load(path, bench.device).create_context(0, bench.stream, [(2, 4096)])
    assert_close(bench.run(context, np.ones((2, 4096), np.float32)), 0.8415)
    context.close()


def test_a_first_run_that_does_not_fit(bench, path):
    two_products(path, 256)
    rows = 64 * 1024  # 64 MiB in the middle
    engine = load(path, bench.device, gpu_mem_limit=str(8 * MIB))
    given, target = bench.place((rows, 256)), bench.place((rows, 256))
    pinned = engine.create_context(0, bench.stream, [(rows, 256)])
    with pytest.raises(ModelLoadError, match="cuda:0 has too little memory"):
        pinned.enqueue(bench.stream, [given], [target])
    pinned.close()
    context = engine.create_context(0, bench.stream)
    with pytest.raises(ExecutionFailed, match="cuda:0 has too little memory"):
        context.enqueue(bench.stream, [given], [target])
    assert_close(bench.run(context, np.ones((2, 256), np.float32)), 0.8415)
    context.close()


# --- the end -----------------------------------------------------------------------------


def test_memory_comes_back(bench, path):
    two_products(path, 4096)  # 64 MiB of weights
    engine = load(path, bench.device)

    def cycle(rows: int) -> int:
        """What is free while three contexts are open."""
        contexts = [
            engine.create_context(0, bench.stream, shapes)
            for shapes in (None, [(rows, 4096)], [(2 * rows, 4096)])
        ]
        for context, size in zip(contexts, (rows, rows, 2 * rows), strict=True):
            bench.run(context, np.ones((size, 4096), np.float32))
        given, target = bench.place((rows, 4096)), bench.place((rows, 4096))
        contexts[1].capture(bench.stream, [given], [target])
        free: int = bench.device.memory()[0]
        for context in contexts:
            context.close()
        bench.close_tensors()
        return free

    cycle(64)  # what the libraries keep for good is theirs from now on
    before = bench.device.memory()[0]
    during = cycle(64)
    after = bench.device.memory()[0]
    free = [size // MIB for size in (before, during, after)]
    sys.stdout.write(f"MiB free before, during and after: {free}\n")
    assert before - during > 3 * 64 * MIB
    assert before - after < 16 * MIB
    engine.close()


STICKY = """
import sys
from tests.gpu import kernels
from trtserve.device.cuda import CudaDevice
from trtserve.engine.interface import TensorMemory
from trtserve.engine.onnxruntime import OnnxRuntime
from trtserve.errors import DeviceError

device = CudaDevice(0)
stream = device.create_stream()
engine = OnnxRuntime().load(sys.argv[1], device, {})
context = engine.create_context(0, stream)
memory = TensorMemory(device.allocate(128).address, 128, (2, 16))
context.enqueue(stream, [memory], [None])
kernels.illegal_access(stream.handle)
try:
    stream.synchronize()
except DeviceError as error:
    print("synchronize", error.name, error.sticky, flush=True)
for name, call in {
    "enqueue": lambda: context.enqueue(stream, [memory], [None]),
    "create_context": lambda: engine.create_context(0, stream),
}.items():
    try:
        call()
    except DeviceError as error:
        print(name, error.name, error.sticky, flush=True)
"""


def test_a_lost_device_is_told(path):
    models.make_add(path, 1)
    child = subprocess.run(
        [sys.executable, "-c", STICKY, path], capture_output=True, text=True, check=False,
        timeout=120, cwd=os.path.dirname(os.path.dirname(os.path.dirname(__file__))),
    )
    assert child.stdout.splitlines() == [
        f"{name} cudaErrorIllegalAddress True"
        for name in ("synchronize", "enqueue", "create_context")
    ], child.stderr
