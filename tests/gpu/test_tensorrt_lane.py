"""The adapter for TensorRT on a real stream: a stand-in for the module, whose kernels are real."""

import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.gpu import lean_child
from tests.gpu.stand_in_lane import LIMITS, WIDTH, Lane
from trtserve.errors import ExecutionFailed, ModelLoadError
from trtserve.testing.tensorrt_plan import (
    StandInProfile,
    StandInTensor,
    encode_plan,
    make_plan,
    write_plan,
)


@pytest.fixture
def lane(device, tmp_path) -> Lane:
    return Lane(device, tmp_path)


def values(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, WIDTH)).astype(np.float32)


def test_runs_of_every_size(lane):
    context = lane.context()
    for rows in (1, 32, 7):
        np.testing.assert_array_equal(lane.run(context, values(rows)), 4 * values(rows))
    assert lane.scratch.size >= 32 * WIDTH * 4


def test_a_captured_run_computes_what_is_there_then(lane):
    context = lane.context(rows=8)
    source, target = lane.place(8), lane.place(8)
    lane.write(source, values(8))
    context.enqueue(lane.stream, [source], [target])
    context.capture(lane.stream, [source], [target])
    for seed in (1, 2):
        lane.write(source, values(8, seed))
        context.enqueue(lane.stream, [source], [target])
        np.testing.assert_array_equal(lane.read(target), 4 * values(8, seed))
    context.release_graph()
    lane.write(source, values(8, 3))
    context.enqueue(lane.stream, [source], [target])
    np.testing.assert_array_equal(lane.read(target), 4 * values(8, 3))
    context.close()
    assert lane.scratch.size == 0


def test_graphs_go_on_when_the_scratch_memory_grows(lane):
    context = lane.context(rows=8)
    source, target = lane.place(8), lane.place(8)
    context.enqueue(lane.stream, [source], [target])
    context.capture(lane.stream, [source], [target])
    other = lane.context(scratch=(64 << 20,))
    assert lane.scratch.size >= 64 << 20
    np.testing.assert_array_equal(lane.run(other, values(4)), 4 * values(4))
    lane.write(source, values(8, 5))
    context.enqueue(lane.stream, [source], [target])
    np.testing.assert_array_equal(lane.read(target), 4 * values(8, 5))


@pytest.mark.parametrize("how", ["runtime", "device"])
def test_what_can_not_be_captured_runs_as_before(lane, how):
    context = lane.context(rows=8, capturable=how != "runtime")
    source, target = lane.place(8), lane.place(8)
    lane.write(source, values(8))
    context.enqueue(lane.stream, [source], [target])
    lane.machine.waits = how == "device"
    with pytest.raises(ExecutionFailed, match="can not be captured"):
        context.capture(lane.stream, [source], [target])
    lane.machine.waits = False
    lane.write(source, values(8, 1))
    context.enqueue(lane.stream, [source], [target])
    np.testing.assert_array_equal(lane.read(target), 4 * values(8, 1))


def test_shapes_that_the_data_decide(lane):
    tensor = StandInTensor(name="x", shape=(-1, WIDTH))
    y = StandInTensor(name="y", shape=(-1, WIDTH), rule="data")
    write_plan(
        lane.path, inputs=(tensor,), outputs=(y,), profiles=(StandInProfile({"x": LIMITS}),),
        gpu=lane.device.compute_capability,
    )
    context = lane.load()
    free = lane.device.memory()[0]
    for rows in (3, 8, 1):
        data = values(8)
        data[0, 0] = rows
        np.testing.assert_array_equal(lane.run(context, data), 4 * data[:rows])
    assert lane.device.memory()[0] > free - (8 << 20)


def test_two_lanes_share_an_engine(lane, tmp_path):
    make_plan(lane.path, shapes=[LIMITS], gpu=lane.device.compute_capability)
    engine = lane.runtime.load(lane.path, lane.device, {})
    wrong: list[str] = []

    def work(seed: int) -> None:
        lane.device.enter_thread()
        mine = Lane(lane.device, tmp_path)
        context = engine.create_context(0, mine.stream, [(8, WIDTH)], mine.scratch)
        source, target = mine.place(8), mine.place(8)
        context.enqueue(mine.stream, [source], [target])
        context.capture(mine.stream, [source], [target])
        for turn in range(50):
            mine.write(source, values(8, seed + turn))
            context.enqueue(mine.stream, [source], [target])
            if not np.array_equal(mine.read(target), 4 * values(8, seed + turn)):
                wrong.append(f"lane {seed} turn {turn}")
        context.close()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_plan_that_does_not_fit_is_refused_with_the_numbers(lane):
    _, total = lane.device.memory()
    with pytest.raises(ModelLoadError, match=r"too little memory for it: .* are free"):
        lane.context(scratch=(total,))


# --- the real lean runtime ---------------------------------------------------------------


def load_with_lean(path: str) -> tuple[str, str]:
    """What is said of a plan that the lean runtime does not take, and what to do.

    It is asked in a process of its own: what it does with bytes that are no plan is up to it, and
    a process that hangs tells where before it is killed.
    """
    child = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", lean_child.__name__, path],
        capture_output=True, text=True, timeout=2 * lean_child.PATIENCE_S, check=False,
        cwd=Path(__file__).parents[2],
    )
    assert child.returncode == 0, f"status {child.returncode}\n{child.stdout}\n{child.stderr}"
    problem, cure = json.loads(child.stdout.splitlines()[-1])
    return problem, cure


@pytest.mark.parametrize("data", [b"garbage", bytes(4096), b"ftrt" + bytes(4096)])
def test_the_lean_runtime_refuses_what_is_no_plan(device, tmp_path, data):
    pytest.importorskip("tensorrt_lean")
    path = tmp_path / "model.plan"
    path.write_bytes(data)
    problem, cure = load_with_lean(str(path))
    assert re.search(r"TensorRT's lean runtime .* says: ", problem)
    assert cure


def test_the_lean_runtime_refuses_a_plan_of_another_one(device, tmp_path):
    pytest.importorskip("tensorrt_lean")
    path = tmp_path / "model.plan"
    path.write_bytes(encode_plan(make_plan(str(path), module="tensorrt_rtx")))
    problem, _ = load_with_lean(str(path))
    assert "not a plan of this runtime" in problem
