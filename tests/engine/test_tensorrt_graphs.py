import numpy as np
import pytest

from tests.engine.tensorrt_stand import Stand, rows
from trtserve.engine.interface import Context, TensorMemory
from trtserve.errors import DeviceError, ExecutionFailed
from trtserve.testing.engine import read
from trtserve.testing.tensorrt_plan import make_plan


@pytest.fixture(params=["tensorrt", "tensorrt_lean", "tensorrt_rtx"])
def stand(request, tmp_path) -> Stand:
    stand = Stand(tmp_path, request.param, recording=True)
    make_plan(stand.path, module=request.param)
    return stand


def captured(stand: Stand, count: int = 2) -> tuple[Context, TensorMemory, TensorMemory]:
    context = stand.context(stand.load(), (count, 4))
    source, target = stand.put(rows(count)), stand.place((count, 4))
    context.capture(stand.stream, [source], [target])
    return context, source, target


def test_a_captured_run_is_replayed(stand):
    context, source, target = captured(stand)
    stand.write(source, rows(2) + 1)
    stand.write(target, np.zeros((2, 4), np.float32))
    stand.module.calls.clear()
    assert context.output_shapes([(2, 4)]) == [(2, 4)]
    assert context.enqueue(stand.stream, [source], [target]) == [target]
    assert not stand.module.calls
    np.testing.assert_array_equal(read(target), 4 * (rows(2) + 1))
    assert len(stand.device.graphs[0].work) == 2


def test_a_captured_run_has_to_be_given_its_places(stand):
    context, source, target = captured(stand)
    with pytest.raises(RuntimeError, match="other places"):
        context.enqueue(stand.stream, [source], [stand.place((2, 4))])
    context.release_graph()
    context.release_graph()
    other = stand.place((2, 4))
    context.enqueue(stand.stream, [source], [other])
    np.testing.assert_array_equal(read(other), 4 * rows(2))
    assert stand.device.graphs[0].closed
    assert target != other


def test_scratch_memory_that_grows_later_is_still_the_graphs(stand):
    context, source, target = captured(stand)
    make_plan(stand.path, module=stand.module.__name__, scratch=(1 << 20,))
    stand.context(stand.load())
    stand.write(source, rows(2) + 2)
    context.enqueue(stand.stream, [source], [target])
    np.testing.assert_array_equal(read(target), 4 * (rows(2) + 2))


def test_closing_frees_the_graph(stand):
    context, _, _ = captured(stand)
    context.close()
    assert stand.device.graphs[0].closed


def test_capturing_again_forgets_the_first_graph(stand):
    context, source, target = captured(stand)
    context.capture(stand.stream, [source], [target])
    assert [graph.closed for graph in stand.device.graphs] == [True, False]


def test_a_context_for_any_shape_is_not_captured(stand):
    context = stand.context(stand.load())
    with pytest.raises(ExecutionFailed, match="any shape"):
        context.capture(stand.stream, [stand.put(rows(2))], [stand.place((2, 4))])


def test_a_plan_that_can_not_be_captured_runs_as_before(stand):
    make_plan(stand.path, module=stand.module.__name__, capturable=False)
    context = stand.context(stand.load(), (2, 4))
    source, target = stand.put(rows(2)), stand.place((2, 4))
    problem = (
        "does not let its runs be captured" if stand.module.__name__ == "tensorrt_rtx"
        else "its run can not be captured: .*operation not permitted"
    )
    with pytest.raises(ExecutionFailed, match=problem):
        context.capture(stand.stream, [source], [target])
    stand.write(source, rows(2) + 1)
    context.enqueue(stand.stream, [source], [target])
    np.testing.assert_array_equal(read(target), 4 * (rows(2) + 1))
    assert all(graph.closed for graph in stand.device.graphs)
    assert not stand.stream.capturing


@pytest.mark.parametrize("call", ["begin_capture", "end_capture"])
def test_what_the_device_does_not_capture(stand, call):
    context = stand.context(stand.load(), (2, 4))
    source, target = stand.put(rows(2)), stand.place((2, 4))
    stand.device.fail(call, 1, DeviceError("unjoined work", name="cudaErrorStreamCapture"))
    with pytest.raises(ExecutionFailed, match="unjoined work"):
        context.capture(stand.stream, [source], [target])
    context.enqueue(stand.stream, [source], [target])
    np.testing.assert_array_equal(read(target), 4 * rows(2))


def test_a_lost_device_is_not_taken_for_a_run_without_graphs(stand):
    context = stand.context(stand.load(), (2, 4))
    stand.device.fail("end_capture", 1, DeviceError("lost", sticky=True))
    with pytest.raises(DeviceError, match="lost"):
        context.capture(stand.stream, [stand.put(rows(2))], [stand.place((2, 4))])
