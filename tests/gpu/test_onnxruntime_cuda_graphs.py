"""Runs of ONNX Runtime that are captured in CUDA graphs."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.gpu.onnx_lane import (
    Bench,
    assert_close,
    branching,
    counting,
    expected,
    load,
    random,
    reshaping,
    vision,
)
from trtserve.errors import ExecutionFailed


@pytest.fixture
def bench(device) -> Iterator[Bench]:
    bench = Bench(device)
    yield bench
    bench.close()


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "model.onnx")


def test_a_graph_computes_what_its_places_hold(bench, path):
    vision(path)
    context = load(path, bench.device).create_context(0, bench.stream, [(4, 3, 32, 32)])
    for places in range(2):  # a second time at other places
        given, target = bench.place((4, 3, 32, 32)), bench.place((4, 10))
        bench.write(given, random(4, 3, 32, 32))
        context.capture(bench.stream, [given], [target])
        for seed in range(1, 5):
            x = random(4, 3, 32, 32, seed=seed + 10 * places)
            bench.write(given, x)
            bench.write(target, np.full((4, 10), np.nan, np.float32))
            assert context.enqueue(bench.stream, [given], [target]) == [target]
            assert_close(bench.get(target), expected(path, x))
        context.release_graph()
        other = bench.place((4, 10))
        context.enqueue(bench.stream, [given], [other])
        assert_close(bench.get(other), expected(path, x))
    context.close()


def test_a_graph_of_a_model_that_computes_shapes(bench, path):
    reshaping(path)
    context = load(path, bench.device).create_context(0, bench.stream, [(3, 4, 4)])
    given, target = bench.put(random(3, 4, 4)), bench.place((3, 16))
    context.capture(bench.stream, [given], [target])
    x = random(3, 4, 4, seed=5)
    bench.write(given, x)
    context.enqueue(bench.stream, [given], [target])
    np.testing.assert_array_equal(bench.get(target), x.reshape(3, 16) + 1)
    context.close()


def test_control_flow_is_not_captured(bench, path):
    branching(path)
    engine = load(path, bench.device)
    for _ in range(2):
        context = engine.create_context(0, bench.stream, [(2, 16)])
        given, target = bench.put(random(2, 16)), bench.place((2, 16))
        with pytest.raises(ExecutionFailed, match="control flow"):
            context.capture(bench.stream, [given], [target])
        for x in (np.ones((2, 16), np.float32), -np.ones((2, 16), np.float32)):
            np.testing.assert_array_equal(bench.run(context, x), x * 2)
        context.close()


def test_a_run_that_waits_for_the_host_is_not_captured(bench, path):
    counting(path)
    engine = load(path, bench.device)
    context = engine.create_context(0, bench.stream, [(2, 16)])
    x = np.round(random(2, 16))
    np.testing.assert_allclose(bench.run(context, x), expected(path, x))
    given, target = bench.put(x), bench.place((2, 16))
    with pytest.raises(ExecutionFailed, match="while it runs"):
        context.capture(bench.stream, [given], [target])
    # The context, its stream and new contexts are as before.
    for seed in range(3):
        x = np.round(random(2, 16, seed=seed))
        np.testing.assert_allclose(bench.run(context, x, place=True), expected(path, x))
    again = engine.create_context(0, bench.stream)
    np.testing.assert_allclose(bench.run(again, x), expected(path, x))
    again.close()
    context.close()


def test_others_work_while_graphs_are_captured(device, path):
    # Each allocation, wait and copy of theirs would by default break a capture off, and fail.
    vision(path)
    engine = load(path, device)
    x = random(4, 3, 32, 32)
    right = expected(path, x)

    def capture() -> None:
        device.enter_thread()
        bench = Bench(device)
        given, target = bench.put(x), bench.place((4, 10))
        context = engine.create_context(0, bench.stream, [(4, 3, 32, 32)])
        for _ in range(20):
            context.capture(bench.stream, [given], [target])
            context.enqueue(bench.stream, [given], [target])
            assert_close(bench.get(target), right)
        context.close()
        bench.close()

    def serve() -> None:
        device.enter_thread()
        bench = Bench(device)
        context = engine.create_context(0, bench.stream)
        for rows in range(1, 120):
            found = bench.run(context, np.repeat(x[:1], rows % 5 + 1, axis=0))
            assert_close(found[0], right[0])
        context.close()
        bench.close()

    with ThreadPoolExecutor(3) as lanes:
        for done in [lanes.submit(work) for work in (capture, serve, serve)]:
            done.result()
