"""The stand-in fails where TensorRT would: a test that passes with it must mean something."""

from typing import Any

import numpy as np
import pytest

from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice, FakeStream
from trtserve.testing.engine import memory_of
from trtserve.testing.tensorrt import HostMachine, StandIn, make_module
from trtserve.testing.tensorrt_plan import StandInProfile, StandInTensor, encode_plan, make_plan


class Logger:
    """What a user writes; the module's class is mixed in."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def log(self, severity: Any, msg: str) -> None:
        self.said.append((severity.name, msg))


class Bench:
    """An engine, a context with memory, and places for x and y of 8 rows."""

    def __init__(self, folder: Any, name: str = "tensorrt", **options: Any) -> None:
        self.device = FakeDevice(FakeClock())
        self.module: StandIn = make_module(HostMachine(self.device), name)
        self.stream: FakeStream = self.device.create_stream()
        self.logger: Any = type("Log", (Logger, self.module.ILogger), {})()
        self.plan = make_plan(str(folder / "a.plan"), module=name, **options)
        self.engine = self.module.Runtime(self.logger).deserialize_cuda_engine(
            encode_plan(self.plan)
        )
        self.x, self.y, self.scratch = (self.device.allocate(128) for _ in range(3))

    def context(self) -> Any:
        context = self.engine.create_execution_context(
            self.module.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        context.set_device_memory(self.scratch.address, 128)
        return context

    def ready(self, rows: int = 2) -> Any:
        context = self.context()
        assert context.set_input_shape("x", (rows, 4))
        assert context.set_tensor_address("x", self.x.address)
        assert context.set_tensor_address("y", self.y.address)
        assert context.infer_shapes() == []
        return context

    def fill(self, values: np.ndarray[Any, Any]) -> None:
        self.stream.copy([(self.x.address, memory_of(values).address, values.nbytes)])

    def found(self, rows: int = 2) -> np.ndarray[Any, Any]:
        out = np.empty((rows, 4), np.float32)
        self.stream.copy([(memory_of(out).address, self.y.address, out.nbytes)])
        return out


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


def reasons(bench: Bench) -> str:
    return "; ".join(message for level, message in bench.logger.said if level == "ERROR")


def test_it_computes(bench):
    bench.fill(np.arange(8, dtype=np.float32))
    assert bench.ready().execute_async_v3(bench.stream.handle)
    np.testing.assert_array_equal(
        bench.found(), 4 * np.arange(8, dtype=np.float32).reshape(2, 4)
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty memory buffer"), (b"ftrt{", "blobSize"), (b"vtrt{}", "magicTag"),
     (b"nothing", "magicTag")],
)
def test_what_is_no_plan(bench, data, reason):
    assert bench.module.Runtime(bench.logger).deserialize_cuda_engine(data) is None
    assert reason in reasons(bench)


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"version": "10.0.0.1"}, "got 10.0.0.1"), ({"gpu": "8.6"}, "got compute 8.6"),
     ({"host_code": True}, "host code")],
)
def test_plans_for_elsewhere(tmp_path, options, reason):
    bench = Bench(tmp_path, **options)
    assert bench.engine is None
    assert reason in reasons(bench)


def test_host_code_where_it_is_allowed(tmp_path):
    bench = Bench(tmp_path, host_code=True)
    runtime = bench.module.Runtime(bench.logger)
    runtime.engine_host_code_allowed = True
    assert runtime.deserialize_cuda_engine(encode_plan(bench.plan)) is not None


def test_memory_of_its_own_is_not_to_be_had(bench):
    strategy = bench.module.ExecutionContextAllocationStrategy.STATIC
    assert bench.engine.create_execution_context(strategy) is None
    assert bench.engine.create_execution_context() is None


def test_enums_of_another_module_are_others(bench, tmp_path):
    other = Bench(tmp_path)
    strategy = other.module.ExecutionContextAllocationStrategy.USER_MANAGED
    assert bench.engine.create_execution_context(strategy) is None
    assert bench.engine.get_tensor_mode("x") != other.module.TensorIOMode.INPUT


@pytest.mark.parametrize("shape", [(0, 4), (9, 4), (2, 5), (2,)])
def test_shapes_out_of_the_profile(bench, shape):
    assert not bench.context().set_input_shape("x", shape)
    assert "outside of profile 0" in reasons(bench)


def test_names_and_addresses_that_are_wrong(bench):
    context = bench.context()
    assert not context.set_input_shape("y", (2, 4))
    assert not context.set_tensor_address("z", 0)
    assert not context.set_tensor_address("x", 128)
    assert not context.set_output_allocator("x", None)


def test_a_profile_that_is_not_there(bench):
    with pytest.raises(RuntimeError, match="optimization profile"):
        bench.context().set_optimization_profile_async(1, bench.stream.handle)


def test_another_profile_forgets_the_shapes(tmp_path):
    wide, narrow = ((1, 4), (2, 4), (8, 4)), ((1, 4), (1, 4), (1, 4))
    context = Bench(tmp_path, shapes=[wide, narrow]).ready()
    assert context.set_optimization_profile_async(1, 1)
    assert context.infer_shapes() == ["x"]
    assert not context.set_input_shape("x", (2, 4))


def test_a_run_needs_shapes_places_and_memory(bench):
    context = bench.engine.create_execution_context(
        bench.module.ExecutionContextAllocationStrategy.USER_MANAGED
    )
    handle = bench.stream.handle
    assert not context.execute_async_v3(handle)
    assert context.set_input_shape("x", (2, 4))
    assert not context.execute_async_v3(handle)
    for name, place in (("x", bench.x), ("y", bench.y)):
        assert context.set_tensor_address(name, place.address)
    assert not context.execute_async_v3(handle)
    context.set_device_memory(bench.scratch.address, 127)  # one byte less than it needs
    assert not context.execute_async_v3(handle)
    context.set_device_memory(bench.scratch.address, 128)
    assert context.execute_async_v3(handle)


def test_a_run_after_a_change_can_not_be_recorded(bench):
    context = bench.ready()
    bench.stream.begin_capture()
    assert not context.execute_async_v3(bench.stream.handle)
    bench.stream.end_capture()
    assert context.execute_async_v3(bench.stream.handle)
    bench.stream.begin_capture()
    assert context.execute_async_v3(bench.stream.handle)
    graph = bench.stream.end_capture()
    bench.fill(np.ones(8, np.float32))
    graph.launch(bench.stream)
    np.testing.assert_array_equal(bench.found(), np.full((2, 4), 4, np.float32))


def test_a_plan_that_can_not_be_recorded(tmp_path):
    bench = Bench(tmp_path, "tensorrt_rtx", capturable=False)
    config = bench.engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(
        bench.module.ExecutionContextAllocationStrategy.USER_MANAGED
    )
    context = bench.engine.create_execution_context(config)
    assert not context.is_stream_capturable(bench.stream.handle)


def test_the_lean_runtime_has_no_names_for_formats(tmp_path):
    bench = Bench(tmp_path, "tensorrt_lean")
    assert not hasattr(bench.module, "TensorFormat")
    with pytest.raises(TypeError):
        bench.engine.get_tensor_format("x", 0)
    assert bench.engine.get_tensor_vectorized_dim("x", 0) == -1


def test_calls_fail_as_scripted(bench):
    bench.module.fail("execute_async_v3", "so be it", nth=2)
    context = bench.ready()
    handle = bench.stream.handle
    assert [context.execute_async_v3(handle) for _ in range(3)] == [True, False, True]
    assert "so be it" in reasons(bench)


def test_calls_are_noted_where_that_is_wished(tmp_path):
    device = FakeDevice(FakeClock())
    module = make_module(HostMachine(device), recording=True)
    logger = type("Log", (Logger, module.ILogger), {})()
    plan = make_plan(str(tmp_path / "a.plan"))
    engine = module.Runtime(logger).deserialize_cuda_engine(encode_plan(plan))
    module.calls.clear()
    engine.get_tensor_name(0)
    (call,) = module.calls
    assert (call.owner, call.method, call.arguments) == ("ICudaEngine", "get_tensor_name", (0,))


def test_values_are_given_by_the_profiles_index_first(tmp_path):
    bench = Bench(tmp_path)
    tensor = StandInTensor(name="s", shape=(1,), datatype="INT64", on_host=True)
    plan = type(bench.plan)(
        inputs=(tensor,), outputs=(),
        profiles=(StandInProfile({}, {"s": ((1,), (2,), (3,))}),), version="11.4.0.106",
    )
    engine = bench.module.Runtime(bench.logger).deserialize_cuda_engine(encode_plan(plan))
    assert engine.get_tensor_profile_values(0, "s") == [[1], [2], [3]]
    with pytest.raises(AssertionError, match="first"):
        engine.get_tensor_profile_values("s", 0)
