"""The adapter for TensorRT on a real stream: a stand-in for the module, whose kernels are real."""

import ctypes
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.gpu.tensorrt_machine import CudaMachine
from trtserve.device.cuda import CudaDevice
from trtserve.engine.interface import Context, TensorMemory
from trtserve.engine.scratch import Scratch
from trtserve.engine.tensorrt import TensorRtRuntime
from trtserve.engine.tensorrt_plan import PlanRules
from trtserve.errors import ExecutionFailed, ModelLoadError
from trtserve.testing.tensorrt import make_module
from trtserve.testing.tensorrt_plan import (
    StandInProfile,
    StandInTensor,
    encode_plan,
    make_plan,
    write_plan,
)

WIDTH = 256
LIMITS = ((1, WIDTH), (4, WIDTH), (32, WIDTH))


class Lane:
    """A stream, scratch memory, and a runtime."""

    def __init__(self, device: CudaDevice, folder: Path) -> None:
        self.device = device
        self.path = str(folder / "model.plan")
        self.machine = CudaMachine()
        module = make_module(self.machine, gpu=device.compute_capability)
        self.runtime = TensorRtRuntime(module, PlanRules(writable=True))
        self.stream = device.create_stream()
        self.scratch = Scratch(device)
        self._staging = device.allocate_staging(1 << 20)

    def context(self, rows: int = 0, **options: object) -> Context:
        options = {"shapes": [LIMITS], "gpu": self.device.compute_capability, **options}
        make_plan(self.path, **options)  # type: ignore[arg-type]
        return self.load(rows)

    def load(self, rows: int = 0) -> Context:
        engine = self.runtime.load(self.path, self.device, {})
        return engine.create_context(
            0, self.stream, [(rows, WIDTH)] if rows else None, self.scratch
        )

    def place(self, rows: int) -> TensorMemory:
        size = rows * WIDTH * 4
        return TensorMemory(self.device.allocate(max(1, size)).address, size, (rows, WIDTH))

    def write(self, memory: TensorMemory, values: np.ndarray) -> None:
        data = np.ascontiguousarray(values, np.float32).tobytes()
        ctypes.memmove(self._staging.address, data, len(data))
        self.stream.copy([(memory.address, self._staging.address, len(data))])
        self.stream.synchronize()

    def read(self, memory: TensorMemory) -> np.ndarray:
        self.stream.copy([(self._staging.address, memory.address, memory.size)])
        self.stream.synchronize()
        data = ctypes.string_at(self._staging.address, memory.size)
        return np.frombuffer(data, np.float32).reshape(memory.shape)

    def run(self, context: Context, values: np.ndarray) -> np.ndarray:
        source = self.place(len(values))
        self.write(source, values)
        (found,) = context.enqueue(self.stream, [source], [None])
        return self.read(found)


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


@pytest.fixture
def lean(lane) -> TensorRtRuntime:
    module = pytest.importorskip("tensorrt_lean")
    return TensorRtRuntime(module, PlanRules(writable=True))


@pytest.mark.parametrize("data", [b"garbage", bytes(4096), b"ftrt" + bytes(4096)])
def test_the_lean_runtime_refuses_what_is_no_plan(lean, lane, data):
    Path(lane.path).write_bytes(data)
    with pytest.raises(ModelLoadError, match=r"TensorRT's lean runtime .* says: ") as caught:
        lean.load(lane.path, lane.device, {})
    assert caught.value.cure
    np.testing.assert_array_equal(lane.run(lane.context(), values(2)), 4 * values(2))


def test_the_lean_runtime_refuses_a_plan_of_another_one(lean, lane):
    Path(lane.path).write_bytes(encode_plan(make_plan(lane.path, module="tensorrt_rtx")))
    with pytest.raises(ModelLoadError, match="not a plan of this runtime"):
        lean.load(lane.path, lane.device, {})
