"""How a batch goes through streams, buffers and blocks: on a device that shares its memory with
the host, and on one that does not."""

from collections.abc import Iterator

import numpy as np
import pytest

from tests.worker.runner_bench import Bench, rows
from trtserve.clock import now_ns
from trtserve.errors import DeviceError, ExecutionFailed, Overloaded, ProtocolError
from trtserve.ipc.message import OutputBlock
from trtserve.model.spec import TensorSpec, VariantSpec
from trtserve.testing.engine import (
    Arrays,
    FakeEngine,
    FakeScript,
    doubling,
    fake_variant,
    identity,
)
from trtserve.worker.job import LaneJob


@pytest.fixture(params=[True, False], ids=["unified", "separate"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(unified=request.param)
    yield bench
    bench.close()


# --- what comes out ----------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("counts", [(1,), (3,), (1, 1, 1), (2, 1, 4)])
def test_each_request_gets_its_rows(bench, known, counts):
    engine = FakeEngine(script=FakeScript(doubling, shapes_known=known))
    requests = [rows(count, 100 * index) for index, count in enumerate(counts)]
    result = bench.runner.run(bench.job(engine, *requests))
    assert result.error is None
    assert (result.batch_id, result.lane) == (7, 3)
    assert result.outputs[0].shape == (4,)
    assert result.outputs[0].sizes == tuple(16 * count for count in counts)
    for found, given in zip(bench.read(result), requests, strict=True):
        np.testing.assert_array_equal(found, 2 * given.reshape(-1))
    assert bench.outputs.statistics().blocks == 1
    for block in result.blocks:
        bench.outputs.free(block)
    assert bench.outputs.statistics().blocks == 0


def test_unbatched_shapes_are_whole(bench):
    engine = FakeEngine(fake_variant(row=(2, 3), max_batch=0))
    given = np.arange(6, dtype=np.float32).reshape(2, 3)
    result = bench.runner.run(bench.job(engine, given, rows=1))
    assert result.outputs == (OutputBlock(0, (2, 3), result.blocks[0], (24,)),)
    np.testing.assert_array_equal(bench.read(result)[0], given.reshape(-1))


def test_a_scalar_and_an_empty_tensor(bench):
    for given, size in ((np.float32(5), 4), (np.empty((0, 3), np.float32), 0)):
        engine = FakeEngine(fake_variant(row=given.shape, max_batch=0))
        result = bench.runner.run(bench.job(engine, np.asarray(given), rows=1))
        assert result.outputs[0].shape == given.shape
        assert result.outputs[0].sizes == (size,)


@pytest.mark.parametrize("known", [True, False])
def test_only_wanted_outputs_take_blocks(bench, known):
    two = (TensorSpec("y", "FP32", (-1, 4)), TensorSpec("z", "FP32", (-1, 4)))
    base = fake_variant()
    variant = VariantSpec("two", base.inputs, two, base.ranges, 8)

    def both(arrays: Arrays) -> Arrays:
        return [arrays[0], -arrays[0]]

    engine = FakeEngine(variant, script=FakeScript(both, shapes_known=known))
    result = bench.runner.run(bench.job(engine, rows(2), rows(1), wanted=(1,)))
    assert [block.index for block in result.outputs] == [1]
    assert len(result.blocks) == 1
    np.testing.assert_array_equal(bench.read(result)[0], -rows(2).reshape(-1))
    nothing = bench.runner.run(bench.job(FakeEngine(), rows(1), wanted=()))
    assert (nothing.error, nothing.outputs, nothing.blocks) == (None, (), ())


def test_pieces_of_text_differ_in_size():
    bench = Bench(unified=True)
    engine = FakeEngine(
        fake_variant(row=(2,), datatype="BYTES"), script=FakeScript(shapes_known=False)
    )
    requests = [
        np.array([[b"a", b"bcd"]], np.object_), np.array([[b"", b""], [b"long one", b"e"]], object)
    ]
    result = bench.runner.run(bench.job(engine, *requests))
    assert result.outputs[0].shape == (2,)
    assert result.outputs[0].sizes == (12, 25)
    one, other = bench.read(result, "BYTES")
    assert one.tolist() == [b"a", b"bcd"]
    assert other.tolist() == [b"", b"", b"long one", b"e"]


# --- the way it goes ---------------------------------------------------------------------


def works(bench: Bench) -> list[tuple[str, int]]:
    return [(entry.work, entry.stream) for entry in bench.device.log]


def test_separate_memory_is_copied_in_and_out_on_streams_of_their_own():
    bench = Bench(unified=False)
    engine = FakeEngine(script=FakeScript(service_ns=lambda count: 500 * count))
    result = bench.runner.run(bench.job(engine, rows(2), rows(1)))
    assert works(bench) == [("copy 48", 1), ("compute 3", 2), ("copy 48", 3)]
    spans = [(entry.start_ns, entry.end_ns) for entry in bench.device.log]
    assert spans == [(0, 1000), (1000, 2500), (2500, 3500)]
    assert (result.stage_ns, result.h2d_ns, result.compute_ns, result.d2h_ns) == (
        result.stage_ns, 1000, 1500, 1000,
    )
    assert result.stage_ns > 0  # of this machine's own time
    assert result.service_ns == result.stage_ns + 3500


def test_shared_memory_lets_a_lone_request_through_without_a_copy():
    bench = Bench(unified=True)
    result = bench.runner.run(bench.job(FakeEngine(), rows(3)))
    assert works(bench) == [("compute 3", 2)]
    assert result.service_ns == result.compute_ns == 1_000_000


def test_shared_memory_gathers_a_batch_and_places_its_outputs():
    bench = Bench(unified=True)
    result = bench.runner.run(bench.job(FakeEngine(), rows(2), rows(1)))
    assert works(bench) == [("copy 48", 1), ("compute 3", 2)]
    assert (result.stage_ns, result.h2d_ns, result.d2h_ns) == (1000, 0, 0)


def test_outputs_that_the_engine_places_are_copied():
    bench = Bench(unified=True)
    engine = FakeEngine(script=FakeScript(shapes_known=False))
    result = bench.runner.run(bench.job(engine, rows(1)))
    assert works(bench) == [("compute 1", 2), ("copy 16", 3)]
    assert result.d2h_ns == 1000


@pytest.mark.parametrize("more", [-1, 1])
def test_a_prediction_that_proves_wrong(bench, more):
    def other_width(arrays: Arrays) -> Arrays:
        return [np.ones((len(arrays[0]), 4 + 64 * more if more > 0 else 3), np.float32)]

    result = bench.runner.run(bench.job(FakeEngine(script=FakeScript(other_width)), rows(2)))
    width = 68 if more > 0 else 3
    assert result.outputs[0].shape == (width,)
    assert (bench.read(result)[0] == 1).all()
    assert len(result.blocks) == bench.outputs.statistics().blocks == 1


def test_a_shape_that_nobody_foresaw_gets_its_memory(bench, caplog):
    large = rows(5000)
    engine = FakeEngine(fake_variant(max_batch=20_000))
    before = bench.runner.buffers.size
    result = bench.runner.run(bench.job(engine, large, rows(1)))
    np.testing.assert_array_equal(bench.read(result)[0], large.reshape(-1))
    assert bench.runner.buffers.size >= before + large.nbytes
    assert ("while it serves" in caplog.text) is not bench.device.unified


# --- failures ----------------------------------------------------------------------------


def fails(bench: Bench, job: LaneJob) -> Exception:
    """The error of a batch that leaves nothing behind; the next one succeeds."""
    result = bench.runner.run(job)
    assert result.error is not None
    assert (result.outputs, result.blocks) == ((), ())
    assert bench.outputs.statistics().blocks == 0
    assert bench.runner.run(bench.job(FakeEngine(), rows(1), rows(2))).error is None
    return result.error


def test_outputs_that_do_not_keep_the_batch(bench):
    def summed(arrays: Arrays) -> Arrays:
        return [arrays[0].sum(axis=0)]

    for known in (True, False):
        job = bench.job(FakeEngine(script=FakeScript(summed, shapes_known=known)), rows(2))
        error = bench.runner.run(job).error
        assert isinstance(error, ExecutionFailed)
        assert "'y' has shape [4] for a batch of 2" in str(error)
        assert "max_batch_size: 0" in str(error)
    assert bench.outputs.statistics().blocks == 0


def test_a_failing_engine(bench):
    scripted = ExecutionFailed("scripted")
    engine = FakeEngine(script=FakeScript(failures={1: scripted}))
    assert fails(bench, bench.job(engine, rows(1))) is scripted


def test_what_nobody_foresaw_is_told_and_logged(bench, caplog):
    engine = FakeEngine(script=FakeScript(failures={1: ZeroDivisionError("surprise")}))
    error = fails(bench, bench.job(engine, rows(1)))
    assert isinstance(error, ExecutionFailed)
    assert "ZeroDivisionError: surprise" in str(error)
    assert "nobody foresaw" in caplog.text


@pytest.mark.parametrize("call", ["copy", "record", "wait", "synchronize"])
def test_a_device_error_passes_as_itself(call):
    bench = Bench(unified=False)
    lost = DeviceError("lost", sticky=True)
    bench.device.fail(call, 1, lost)
    assert fails(bench, bench.job(FakeEngine(), rows(1))) is lost


def test_a_failure_tells_when_its_own_batch_began(bench):
    assert bench.runner.run(bench.job(FakeEngine(), rows(1))).error is None
    before = now_ns()
    job = bench.job(FakeEngine(), rows(2))
    wrong = LaneJob(
        job.batch_id, job.context, job.variant, True, job.bucket, (3,), job.inputs, job.wanted
    )
    result = bench.runner.run(wrong)
    assert result.error is not None
    assert before <= result.began_ns <= result.finished_ns


def test_the_copy_out_fails():
    bench = Bench(unified=False)
    bench.device.fail("copy", 2, DeviceError("scripted"))
    assert isinstance(fails(bench, bench.job(FakeEngine(), rows(1))), DeviceError)


def test_a_failed_batch_waits_for_its_streams_before_its_blocks_go_back():
    bench = Bench(unified=False)
    engine = FakeEngine(script=FakeScript(failures={1: ExecutionFailed("scripted")}))
    bench.runner.run(bench.job(engine, rows(1)))
    # The copy in was still under way when the engine failed.
    assert bench.device.clock.now_ns() == 1000


def test_a_full_arena_refuses_the_batch_before_any_device_time():
    bench = Bench(unified=True, arena_bytes=4096)
    taken = bench.outputs.allocate(4096)
    engine = FakeEngine()
    assert isinstance(bench.runner.run(bench.job(engine, rows(1))).error, Overloaded)
    assert engine.runs == 0
    bench.outputs.free(taken)


def test_a_second_output_without_room_frees_the_first():
    bench = Bench(unified=True, arena_bytes=4096)
    base = fake_variant(row=(512,))
    variant = VariantSpec("two", base.inputs, (*base.outputs, *base.outputs), base.ranges, 8)
    engine = FakeEngine(variant, script=FakeScript(lambda arrays: [arrays[0], arrays[0]]))
    job = bench.job(engine, np.ones((2, 512), np.float32), wanted=(0, 1))
    assert isinstance(bench.runner.run(job).error, Overloaded)
    assert bench.outputs.statistics().blocks == 0


def test_sizes_that_do_not_fit_the_bucket_never_reach_the_engine(bench):
    engine = FakeEngine()
    job = bench.job(engine, rows(2))
    short = LaneJob(
        job.batch_id, job.context, job.variant, True, job.bucket, (3,), job.inputs, job.wanted
    )
    error = bench.runner.run(short).error
    assert isinstance(error, ProtocolError)
    assert "needs 48" in str(error)
    assert engine.runs == 0


def test_unbatched_requests_never_run_together(bench):
    engine = FakeEngine(fake_variant(max_batch=0))
    given = np.ones(4, np.float32)
    error = bench.runner.run(bench.job(engine, given, given, rows=1)).error
    assert isinstance(error, ProtocolError)


def test_a_second_user_is_refused(bench):
    second: list[Exception] = []

    def within(arrays: Arrays) -> Arrays:
        with pytest.raises(ProtocolError, match="lane 3 got batch 7 while") as caught:
            bench.runner.run(bench.job(FakeEngine(), rows(1)))
        second.append(caught.value)
        return identity(arrays)

    result = bench.runner.run(bench.job(FakeEngine(script=FakeScript(within)), rows(1)))
    assert result.error is None
    assert len(second) == 1
