import numpy as np
import pytest

from tests.engine.tensorrt_stand import Stand, rows
from trtserve.engine.interface import Context, TensorMemory
from trtserve.errors import DeviceError, ExecutionFailed, InvalidRequest, ModelLoadError
from trtserve.testing.engine import read
from trtserve.testing.tensorrt_plan import StandInProfile, StandInTensor, make_plan, write_plan

X4 = StandInTensor(name="x", shape=(-1, 4))
TO_8 = StandInProfile({"x": ((1, 4), (4, 4), (8, 4))})


@pytest.fixture(params=["tensorrt", "tensorrt_lean", "tensorrt_rtx"])
def stand(request, tmp_path) -> Stand:
    stand = Stand(tmp_path, request.param, recording=True)
    make_plan(stand.path, module=request.param)
    return stand


def calls(stand: Stand) -> list[str]:
    """What was called since the last time."""
    found = [call.method for call in stand.module.calls if call.owner == "IExecutionContext"]
    stand.module.calls.clear()
    return found


# --- runs --------------------------------------------------------------------------------


def test_every_shape_of_its_profile(stand):
    context: Context = stand.context(stand.load())
    for count in (1, 8, 3, 3):
        (found,) = stand.run(context, rows(count))
        np.testing.assert_array_equal(found, 4 * rows(count))


def test_outputs_go_where_the_caller_wants_them(stand):
    context = stand.context(stand.load())
    source, target = stand.put(rows(2)), stand.place((2, 4))
    assert context.output_shapes([(2, 4)]) == [(2, 4)]
    assert context.enqueue(stand.stream, [source], [target]) == [target]
    np.testing.assert_array_equal(read(target), 4 * rows(2))


def test_a_place_of_another_shape_is_not_written(stand):
    context = stand.context(stand.load())
    small = stand.place((1, 4))
    (found,) = context.enqueue(stand.stream, [stand.put(rows(2))], [small])
    assert found.address != small.address
    np.testing.assert_array_equal(read(found), 4 * rows(2))


def test_only_what_changes_is_set_again(stand):
    context = stand.context(stand.load())
    source, target, other = stand.put(rows(2)), stand.place((2, 4)), stand.place((2, 4))
    context.enqueue(stand.stream, [source], [target])
    calls(stand)
    context.enqueue(stand.stream, [source], [target])
    assert calls(stand) == ["execute_async_v3"]
    context.enqueue(stand.stream, [source], [other])
    assert calls(stand) == ["set_tensor_address", "execute_async_v3"]
    context.output_shapes([(3, 4)])
    assert calls(stand) == ["set_input_shape", "infer_shapes", "get_tensor_shape"]
    context.enqueue(stand.stream, [stand.put(rows(3))], [stand.place((3, 4))])
    assert calls(stand) == ["set_tensor_address", "set_tensor_address", "execute_async_v3"]


def test_the_profile_is_chosen_once_and_on_the_lanes_stream(stand):
    make_plan(stand.path, shapes=[((1, 4), (2, 4), (2, 4)), ((1, 8), (2, 8), (4, 8))],
              module=stand.module.__name__)
    engine = stand.load()
    assert [variant.name for variant in engine.variants] == ["model.plan#0", "model.plan#1"]
    stand.module.calls.clear()
    context = stand.context(engine, variant=1)
    chosen = [call.arguments for call in stand.module.calls
              if call.method == "set_optimization_profile_async"]
    assert chosen == [(1, stand.stream.handle)]
    stand.module.calls.clear()
    stand.run(context, rows(4, 8))
    assert "set_optimization_profile_async" not in calls(stand)


def test_a_shape_that_no_profile_takes(stand):
    context = stand.context(stand.load())
    with pytest.raises(ExecutionFailed, match=r"does not take the shapes \[\[9, 4\]\]"):
        context.output_shapes([(9, 4)])


def test_one_made_for_its_shapes_takes_no_others(stand):
    context = stand.context(stand.load(), (2, 4))
    stand.run(context, rows(2))
    with pytest.raises(RuntimeError, match=r"a context for \(\(2, 4\),\) was given"):
        stand.run(context, rows(3))


def test_one_for_shapes_outside_is_not_made(stand):
    engine = stand.load()
    with pytest.raises(ModelLoadError, match="does not take the shapes"):
        stand.context(engine, (9, 4))
    assert stand.scratch.unshared == 0


def test_profiles_that_divide_the_batch_run_in_one_context(stand):
    make_plan(stand.path, module=stand.module.__name__,
              shapes=[((1, 4), (1, 4), (1, 4)), ((2, 4), (8, 4), (8, 4))])
    engine = stand.load()
    (variant,) = engine.variants
    assert variant.max_batch == 8
    context = stand.context(engine)
    chosen = [call.arguments[0] for call in stand.module.calls
              if call.method == "set_optimization_profile_async"]
    assert chosen[-2:] == [0, 1]
    for count in (1, 8, 2, 1):
        np.testing.assert_array_equal(stand.run(context, rows(count))[0], 4 * rows(count))


def test_contexts_of_a_lane_share_their_scratch_memory(stand):
    engine = stand.load()
    contexts = [stand.context(engine), stand.context(engine, (2, 4)), stand.context(engine)]
    assert stand.scratch.size == 8 * 4 * 4
    assert stand.scratch.unshared == 3 * 8 * 4 * 4
    given = {call.arguments for call in stand.module.calls if call.method == "set_device_memory"}
    assert len(given) == 1
    for context in contexts:
        np.testing.assert_array_equal(stand.run(context, rows(2))[0], 4 * rows(2))
        context.close()
        context.close()
    assert stand.scratch.size == 0


def test_without_a_lanes_scratch_memory_it_has_its_own(stand):
    engine = stand.load()
    context = engine.create_context(0, stand.stream)
    np.testing.assert_array_equal(stand.run(context, rows(2))[0], 4 * rows(2))
    context.close()
    assert stand.device.allocated_bytes == 2 * 4 * 4  # what the test itself put there


def test_no_names_of_layers_are_made_at_run_time(stand):
    make_plan(stand.path, module=stand.module.__name__, verbosity="DETAILED")
    stand.context(stand.load())
    make_plan(stand.path, module=stand.module.__name__, verbosity="NONE")
    stand.context(stand.load())  # it may not be raised above what it was built with


def test_a_context_keeps_running_after_a_failed_run(stand):
    context = stand.context(stand.load())
    stand.run(context, rows(2))
    stand.module.fail("execute_async_v3", "Error Code 1: Cask (no kernel)")
    with pytest.raises(ExecutionFailed, match=r"the run failed: TensorRT.* Cask \(no kernel\)"):
        stand.run(context, rows(2))
    np.testing.assert_array_equal(stand.run(context, rows(2))[0], 4 * rows(2))


@pytest.mark.parametrize(
    ("call", "problem"),
    [("set_input_shape", r"input 'x' does not take the shape \[3, 4\]"),
     ("infer_shapes", r"the shapes \[\[3, 4\]\] do not fit"),
     ("set_tensor_address", "tensor 'x' can not be at 0x")],
)
def test_every_call_that_fails_is_told(stand, call, problem):
    context = stand.context(stand.load())
    stand.module.fail(call, "Error Code 9: whatever")
    with pytest.raises(ExecutionFailed, match=f"{problem}.*: Error Code 9: whatever"):
        stand.run(context, rows(3))
    np.testing.assert_array_equal(stand.run(context, rows(3))[0], 4 * rows(3))


def test_an_address_that_tensorrt_does_not_take(stand):
    context = stand.context(stand.load())
    memory = stand.put(rows(3))
    crooked = TensorMemory(memory.address + 16, 16, (1, 4))
    with pytest.raises(ExecutionFailed, match="can not be at"):
        context.enqueue(stand.stream, [crooked], [None])


# --- outputs and inputs of other kinds ---------------------------------------------------


@pytest.fixture
def deciding(tmp_path) -> Stand:
    """The first element of `x` is the number of rows that `y` has."""
    stand = Stand(tmp_path, recording=True)
    y = StandInTensor(name="y", shape=(-1, 4), rule="data")
    write_plan(stand.path, inputs=(X4,), outputs=(y,), profiles=(TO_8,))
    return stand


def test_shapes_that_the_data_decide(deciding):
    stand = deciding
    engine = stand.load()
    assert (engine.pins, engine.captures) == (False, False)
    context = stand.context(engine)
    assert context.output_shapes([(3, 4)]) == [None]
    for count in (2, 3, 0, 1):
        data = rows(3)
        data[0, 0] = count
        (found,) = stand.run(context, data)
        np.testing.assert_array_equal(found, 4 * data[:count])


def test_outputs_with_rows_of_their_own_are_not_batched(deciding, caplog):
    engine = deciding.load()
    assert engine.variants[0].max_batch == 0
    assert engine.variants[0].ranges[0].max == (8, 4)
    assert "output 'y' of model.plan has other rows than the inputs" in caplog.text


def test_their_memory_is_taken_when_the_context_is_made(deciding):
    stand = deciding
    context = stand.context(stand.load())
    data = rows(8)
    data[0, 0] = 8
    source = stand.put(data)
    before = stand.device.allocated_bytes
    (found,) = context.enqueue(stand.stream, [source], [None])
    assert found.shape == (8, 4)
    assert stand.device.allocated_bytes == before
    context.close()
    assert stand.device.allocated_bytes < before


def test_more_than_there_can_be_is_still_given(deciding, caplog):
    """As where TensorRT knows no upper end."""
    stand = deciding
    context = stand.context(stand.load())
    data = rows(2)
    data[0, 0] = 9
    (found,) = context.enqueue(stand.stream, [stand.put(np.vstack([data] * 4))], [None])
    assert found.shape == (9, 4)
    assert "output y takes 144 bytes while it serves" in caplog.text


def test_no_memory_for_them_is_the_devices_error(deciding):
    stand = deciding
    context = stand.context(stand.load())
    data = np.vstack([rows(2)] * 4)
    data[0, 0] = 9
    source = stand.put(data)
    stand.device.fail("allocate", 1, DeviceError("none left"))
    with pytest.raises(DeviceError, match="none left"):
        context.enqueue(stand.stream, [source], [None])
    data[0, 0] = 2
    np.testing.assert_array_equal(stand.run(context, data)[0], 4 * data[:2])


@pytest.fixture(params=["INT64", "INT32"])
def reshaping(request, tmp_path) -> Stand:
    """`s`, on the host, is the shape of `y`."""
    stand = Stand(tmp_path)
    s = StandInTensor(name="s", shape=(2,), datatype=request.param, on_host=True)
    y = StandInTensor(name="y", shape=(-1, -1), rule="values")
    values = StandInProfile({"x": ((1, 4), (4, 4), (8, 4))}, {"s": ((1, 2), (2, 2), (4, 8))})
    write_plan(stand.path, inputs=(X4, s), outputs=(y,), profiles=(values,))
    return stand


def kind(stand: Stand) -> type:
    return np.int64 if stand.load().variants[0].inputs[1].datatype == "INT64" else np.int32


def test_values_that_shapes_depend_on(reshaping):
    stand, dtype = reshaping, kind(reshaping)
    engine = stand.load()
    assert (engine.pins, engine.captures) == (False, False)
    assert engine.variants[0].max_batch == 0
    context = stand.context(engine)
    assert context.output_shapes([(4, 4), (2,)]) == [None]
    for shape in ((4, 2), (1, 8), (4, 2)):
        (found,) = stand.run(context, rows(4), np.array(shape, dtype))
        assert found.shape == shape
        np.testing.assert_array_equal(found.reshape(-1), 4 * rows(4).reshape(-1)[: found.size])


def test_values_out_of_range_are_the_callers_mistake(reshaping):
    stand, dtype = reshaping, kind(reshaping)
    context = stand.context(stand.load())
    with pytest.raises(
        InvalidRequest, match=r"input 's' has the values \[5, 2\]; .* \[1, 2\] to \[4, 8\]"
    ):
        stand.run(context, rows(4), np.array([5, 2], dtype))


def test_zeros_which_warm_up_stand_for_the_opt_values(reshaping):
    stand, dtype = reshaping, kind(reshaping)
    (found,) = stand.run(stand.context(stand.load()), rows(4), np.zeros(2, dtype))
    assert found.shape == (2, 2)


def test_an_output_on_the_host(tmp_path):
    stand = Stand(tmp_path)
    shape = StandInTensor(name="s", shape=(2,), datatype="INT64", on_host=True, rule="shape")
    write_plan(stand.path, inputs=(X4,), outputs=(shape,), profiles=(TO_8,))
    context = stand.context(stand.load())
    assert context.output_shapes([(3, 4)]) == [None]
    (found,) = stand.run(context, rows(3), datatype="INT64")
    assert found.tolist() == [3, 4]
    context.close()
    assert stand.device.staging_bytes == 0


def test_data_that_decide_shapes_are_not_captured(deciding):
    stand = deciding
    context = stand.context(stand.load(), (2, 4))
    with pytest.raises(ExecutionFailed, match="depends on the data"):
        context.capture(stand.stream, [stand.put(rows(2))], [stand.place((1, 4))])
