"""Batches whose inputs are not just copied: padded ones, small pieces, captured graphs."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from tests.worker.runner_bench import Array, Bench, rows
from trtserve.errors import DeviceError, ExecutionFailed, ProtocolError
from trtserve.model.spec import ShapeRange, TensorSpec, VariantSpec
from trtserve.testing.engine import (
    Arrays,
    FakeContext,
    FakeEngine,
    FakeScript,
    doubling,
    fake_variant,
)
from trtserve.worker.job import LaneJob


@pytest.fixture(params=[True, False], ids=["unified", "separate"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(unified=request.param)
    yield bench
    bench.close()


@pytest.fixture
def separate() -> Iterator[Bench]:
    bench = Bench(unified=False)
    yield bench
    bench.close()


# --- padding -----------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("counts", [(3,), (1, 1), (2, 1, 4)])
def test_only_the_requests_rows_of_a_padded_batch_come_out(bench, known, counts):
    seen: list[tuple[int, ...]] = []

    def look(arrays: Arrays) -> Arrays:
        seen.append(arrays[0].shape)
        return doubling(arrays)

    engine = FakeEngine(script=FakeScript(look, shapes_known=known))
    requests = [rows(count, 100 * index) for index, count in enumerate(counts)]
    result = bench.runner.run(bench.job(engine, *requests, padded=8))
    assert result.error is None
    assert seen == [(8, 4)]
    assert result.outputs[0].sizes == tuple(16 * count for count in counts)
    for found, given in zip(bench.read(result), requests, strict=True):
        np.testing.assert_array_equal(found, 2 * given.reshape(-1))


def test_padding_is_neither_copied_nor_lent(separate):
    before = separate.outputs.statistics().used
    engine = FakeEngine(fake_variant(row=(256,)))
    requests = [np.ones((count, 256), np.float32) for count in (2, 1)]
    result = separate.runner.run(separate.job(engine, *requests, padded=8))
    assert [(entry.work, entry.stream) for entry in separate.device.log] == [
        ("copy 3072", 1), ("compute 8", 2), ("copy 3072", 3),
    ]
    # A padded output would take 8192 bytes.
    assert separate.outputs.statistics().used - before == 4096
    assert len(result.blocks) == 1


def test_a_lone_padded_request_does_not_run_in_its_own_block():
    # Behind its rows lies what is not its own, and the engine would write beyond its output.
    bench = Bench(unified=True)
    bench.runner.run(bench.job(FakeEngine(), rows(3), padded=4))
    assert [entry.work for entry in bench.device.log] == ["copy 48", "compute 4", "copy 48"]
    bench.close()


def test_padded_rows_must_come_out_too(bench):
    def cut(arrays: Arrays) -> Arrays:
        return [arrays[0][:3]]

    result = bench.runner.run(bench.job(FakeEngine(script=FakeScript(cut)), rows(3), padded=4))
    assert isinstance(result.error, ExecutionFailed)
    assert "for a batch of 4" in str(result.error)
    assert bench.outputs.statistics().blocks == 0


def test_a_padded_batch_of_the_wrong_size_never_reaches_the_engine(bench):
    engine = FakeEngine()
    job = bench.job(engine, rows(2), padded=4)
    wrong = LaneJob(
        job.batch_id, job.context, job.variant, True, job.bucket, (3,), job.inputs, job.wanted, 4
    )
    error = bench.runner.run(wrong).error
    assert isinstance(error, ProtocolError)
    assert "has 32 bytes for 3 rows" in str(error)
    assert engine.runs == 0


# --- small pieces ------------------------------------------------------------------------


def sizes(copies: Sequence[tuple[int, int, int]]) -> list[int]:
    return [size for _, _, size in copies]


def test_small_pieces_are_gathered_on_the_cpu_and_copied_at_once(separate):
    separate.device.gather_bytes = 33
    requests = [rows(2), rows(1, 50), rows(2, 90)]
    result = separate.runner.run(separate.job(FakeEngine(), *requests))
    assert sizes(separate.device.copies[0]) == [80]
    assert separate.device.staging_bytes
    for found, given in zip(separate.read(result), requests, strict=True):
        np.testing.assert_array_equal(found, given.reshape(-1))


@pytest.mark.parametrize("counts", [(2, 2), (1, 3), (1,)])
def test_pieces_that_are_large_enough_are_copied_from_their_places(separate, counts):
    # On average 32 bytes a piece, or a lone one: nothing to gather.
    separate.device.gather_bytes = 32
    separate.runner.run(separate.job(FakeEngine(), *map(rows, counts)))
    assert sizes(separate.device.copies[0]) == [16 * count for count in counts]
    assert not separate.device.staging_bytes


def test_each_input_is_gathered_as_its_own_pieces_want():
    bench = Bench(unified=False)
    bench.device.gather_bytes = 64
    spec = [TensorSpec(name, "FP32", (-1, size)) for name, size in (("small", 2), ("big", 64))]
    variant = VariantSpec(
        "two", tuple(spec), (spec[1],),
        (ShapeRange((1, 2), (8, 2)), ShapeRange((1, 64), (8, 64))), 8,
    )

    def add(arrays: Arrays) -> Arrays:
        return [arrays[1] + arrays[0][:, :1]]

    engine = FakeEngine(variant, script=FakeScript(add))
    small = [np.full((1, 2), value, np.float32) for value in (1, 2)]
    big = [np.full((1, 64), 10 * value, np.float32) for value in (1, 2)]
    context = engine.create_context(0, bench.runner.compute_stream)
    result = bench.runner.run(LaneJob(
        1, context, variant, True, ((2,), (64,)), (1, 1),
        tuple(
            ((one.ctypes.data, 8), (other.ctypes.data, 256))
            for one, other in zip(small, big, strict=True)
        ),
        frozenset([0]),
    ))
    assert sizes(bench.device.copies[0]) == [16, 256, 256]
    assert [piece.tolist() for piece in bench.read(result)] == [[11] * 64, [22] * 64]
    bench.close()


def test_a_padded_batch_of_small_pieces(separate):
    separate.device.gather_bytes = 1024
    requests = [rows(1), rows(2, 50)]
    result = separate.runner.run(separate.job(FakeEngine(), *requests, padded=8))
    assert sizes(separate.device.copies[0]) == [48]
    for found, given in zip(separate.read(result), requests, strict=True):
        np.testing.assert_array_equal(found, given.reshape(-1))


# --- graphs ------------------------------------------------------------------------------


def pinned(bench: Bench, engine: FakeEngine, count: int) -> FakeContext:
    return engine.create_context(0, bench.runner.compute_stream, [(count, 4)])


def two_outputs() -> VariantSpec:
    base = fake_variant()
    more = TensorSpec("z", "FP32", (-1, 4))
    return VariantSpec("two", base.inputs, (*base.outputs, more), base.ranges, 8)


def both(arrays: Arrays) -> Arrays:
    return [arrays[0], -arrays[0]]


def test_a_captured_batch_runs_in_the_places_it_was_captured_on(separate: Bench):
    engine = FakeEngine(two_outputs(), script=FakeScript(both))
    context = pinned(separate, engine, 4)

    def job(*requests: Array, wanted: Sequence[int]) -> LaneJob:
        padded = 4 if sum(map(len, requests)) < 4 else 0
        return separate.job(engine, *requests, wanted=wanted, padded=padded, context=context)

    separate.runner.capture(job(rows(4), wanted=()))
    assert context.places is not None
    assert engine.runs == 0
    # The fake engine looks whether the places are the same, whatever is wanted.
    for requests in ([rows(4)], [rows(1), rows(2, 9)], [rows(3), rows(1, 7)]):
        for wanted in ((0,), (1,), (0, 1), ()):
            result = separate.runner.run(job(*requests, wanted=wanted))
            assert result.error is None
            assert [block.index for block in result.outputs] == list(wanted)
            for place, index in enumerate(wanted):
                for piece, given in zip(
                    separate.read(result, output=place), requests, strict=True
                ):
                    np.testing.assert_array_equal(piece, both([given])[index].reshape(-1))


def test_an_output_of_unknown_shape_is_not_captured(separate):
    engine = FakeEngine(script=FakeScript(shapes_known=False))
    context = pinned(separate, engine, 2)
    with pytest.raises(ExecutionFailed, match="'y' depends on the data"):
        separate.runner.capture(separate.job(engine, rows(2), context=context))
    assert context.places is None


@pytest.mark.parametrize("error", [ExecutionFailed("no graph"), DeviceError("lost", sticky=True)])
def test_a_capture_that_fails_says_so(separate, error):
    engine = FakeEngine(script=FakeScript(capture=error))
    with pytest.raises(type(error)) as caught:
        separate.runner.capture(separate.job(engine, rows(2), context=pinned(separate, engine, 2)))
    assert caught.value is error
