"""Making contexts and warming them up: what is run, measured, captured, held and given back."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.worker.workshop import BUCKET, Workshop, pinning
from trtserve.errors import DeviceError, ExecutionFailed, TrtserveError
from trtserve.testing.engine import (
    Arrays,
    FakeContext,
    FakeEngine,
    FakeScript,
    doubling,
    fake_variant,
)
from trtserve.worker.contexts import LaneContexts
from trtserve.worker.job import LaneJob
from trtserve.worker.latency import TRIALS
from trtserve.worker.prepare import BUDGET_NS, Measured


@pytest.fixture
def shop() -> Iterator[Workshop]:
    found = Workshop()
    yield found
    found.close()


@pytest.fixture
def unified() -> Iterator[Workshop]:
    found = Workshop(unified=True)
    yield found
    found.close()


def per_batch(fixed_ns: int, row_ns: int = 0) -> FakeScript:
    return FakeScript(service_ns=lambda rows: fixed_ns + row_ns * rows)


def sizes(measured: list[Measured]) -> list[int]:
    return list(dict.fromkeys(rows for _, rows, _ in measured))


# --- contexts for any shape --------------------------------------------------------------


def test_each_size_is_run_once_for_nothing_and_then_measured(unified):
    engine = FakeEngine(fake_variant(max_batch=6), script=per_batch(1000, 10))
    measured = unified.warm(engine, 1, 2, 4, 6)
    assert sizes(measured) == [1, 2, 4, 6]
    assert measured[:TRIALS] == [(BUCKET, 1, 1010)] * TRIALS
    assert engine.runs == 4 * (TRIALS + 1)


def test_it_stops_where_larger_batches_do_not_pay(unified):
    engine = FakeEngine(fake_variant(max_batch=64), script=per_batch(0, 1000))
    assert sizes(unified.warm(engine, 1, 2, 4, 8)) == [1, 2]


def test_it_stops_when_its_time_is_spent(unified):
    engine = FakeEngine(fake_variant(max_batch=64), script=per_batch(BUDGET_NS // 6))
    assert sizes(unified.warm(engine, 1, 2, 4, 8)) == [1, 2]


def test_an_unbatched_variant_is_run_alone(unified):
    measured = unified.warm(FakeEngine(fake_variant(max_batch=0), script=per_batch(5000)), 1)
    assert measured == [(BUCKET, 1, 5000)] * TRIALS


@pytest.mark.parametrize("shop_name", ["shop", "unified"])
def test_zeros_are_run(request, shop_name):
    seen: list[Any] = []

    def look(arrays: Arrays) -> Arrays:
        seen.append(np.array(arrays[0]))
        return arrays

    shop = request.getfixturevalue(shop_name)
    shop.warm(FakeEngine(fake_variant(max_batch=2), script=FakeScript(look)), 1, 2)
    assert [array.shape for array in seen] == [(1, 4)] * 4 + [(2, 4)] * 4
    assert not any(array.any() for array in seen)


def test_texts_are_empty(unified):
    seen: list[Any] = []

    def look(arrays: Arrays) -> Arrays:
        seen.append(arrays[0].tolist())
        return arrays

    variant = fake_variant(row=(4,), max_batch=1, datatype="BYTES")
    unified.warm(FakeEngine(variant, script=FakeScript(look)), 1)
    assert seen[0] == [[b""] * 4]


@pytest.mark.parametrize("error", [
    ExecutionFailed("can not run zeros"), DeviceError("lost", sticky=True),
])
@pytest.mark.parametrize("shop_name", ["shop", "unified"])
def test_what_fails_is_raised_and_everything_is_given_back(request, shop_name, error):
    shop = request.getfixturevalue(shop_name)
    engine = FakeEngine(script=FakeScript(failures={6: error}))
    with pytest.raises(type(error), match=str(error)):
        shop.warm(engine, 1, 2, 4)
    assert engine.contexts[0].closed
    assert shop.device.allocated_bytes == 0
    assert shop.warm(FakeEngine(), 1)  # the next model is warmed up as usual


def test_what_was_warmed_up_keeps_its_places(shop, caplog):
    engine = FakeEngine(fake_variant(max_batch=64))
    preparation = shop.prepare(engine)
    contexts = LaneContexts(preparation.any_shape())
    preparation.warm(contexts, [(BUCKET, (1, 64))])
    # 256 bytes for a row and 1,024 for 64, for the input and for the output.
    assert shop.device.allocated_bytes == 2 * (256 + 1024)
    assert not caplog.records
    preparation.strip(contexts)
    assert shop.device.allocated_bytes == 0


def test_a_lane_without_a_context_for_any_shape_can_not_be_warmed_up(shop):
    with pytest.raises(LookupError, match="no context"):
        shop.prepare(FakeEngine()).warm(LaneContexts(None), [(BUCKET, (1,))])


# --- contexts for one shape --------------------------------------------------------------


def test_each_size_has_its_context(shop):
    engine = pinning()
    preparation = shop.prepare(engine)
    pinned, measured = preparation.pin(BUCKET, (1, 2, 4), measure=True)
    assert pinned.sizes == (1, 2, 4)
    assert pinned.contexts == tuple(engine.contexts)
    assert [context.shapes for context in engine.contexts] == [((1, 4),), ((2, 4),), ((4, 4),)]
    assert [(bucket, rows) for bucket, rows, _ in measured] == [
        (BUCKET, rows) for rows in (1, 2, 4) for _ in range(TRIALS)
    ]
    preparation.unpin(pinned)
    assert all(context.closed for context in engine.contexts)
    assert shop.device.allocated_bytes == 0


def test_an_unbatched_variant_has_whole_shapes(shop):
    engine = pinning(max_batch=0)
    pinned, _ = shop.prepare(engine).pin(BUCKET, (1,), measure=True)
    assert pinned.sizes == (1,)
    assert engine.contexts[0].shapes == ((4,),)
    assert engine.contexts[0].places is not None


def test_sizes_beyond_which_nothing_pays_are_not_made_unless_asked_for(shop):
    script = per_batch(0, 100_000_000)
    pinned, _ = shop.prepare(pinning(script)).pin(BUCKET, (1, 2, 4, 8), measure=True)
    assert pinned.sizes == (1, 2)
    asked, measured = shop.prepare(pinning(script)).pin(
        BUCKET, (1, 2, 4, 8), measure=True, asked={8}
    )
    assert asked.sizes == (1, 2, 8)
    assert sizes(measured) == [1, 2, 8]


def test_without_measuring_all_sizes_are_made(shop):
    engine = pinning(per_batch(0, 100_000_000))
    pinned, measured = shop.prepare(engine).pin(BUCKET, (1, 2, 4), measure=False)
    assert pinned.sizes == (1, 2, 4)
    assert measured == []


# --- memory ------------------------------------------------------------------------------


def pinned_beside(shop: Workshop) -> tuple[FakeEngine, FakeContext]:
    """A captured context of another model that holds places of the same classes of size."""
    engine = pinning(FakeScript(doubling))
    shop.prepare(engine).pin(BUCKET, (2,), measure=False)
    return engine, engine.contexts[0]


@pytest.mark.parametrize("nth", range(1, 7))
def test_memory_that_runs_out_half_way_is_all_given_back(shop, nth):
    neighbour, context = pinned_beside(shop)
    before = shop.device.allocated_bytes
    # Rows of 1, 64, 256 and 1,024 take two places each; those for one row are there already.
    shop.device.fail("allocate", nth, DeviceError("no memory"))
    engine = pinning(max_batch=1024)
    with pytest.raises(DeviceError, match="no memory"):
        shop.prepare(engine).pin(BUCKET, (1, 64, 256, 1024), measure=False)
    assert engine.contexts
    assert all(context.closed for context in engine.contexts)
    assert shop.device.allocated_bytes == before
    # Nothing was taken from under the other's feet either.
    given = np.ones((2, 4), np.float32)
    assert shop.run(neighbour, context, given) == (2 * given).tobytes()


@pytest.mark.parametrize("error", [ExecutionFailed("no"), DeviceError("no"), KeyError("no")])
@pytest.mark.parametrize("where", ["run", "context"])
def test_a_failure_half_way_is_all_given_back(shop, where, error):
    neighbour, context = pinned_beside(shop)
    before = shop.device.allocated_bytes
    failures = {3: error}
    script = FakeScript(failures=failures) if where == "run" else FakeScript(
        context_failures=failures
    )
    engine = pinning(script)
    engine.script.captures = False
    with pytest.raises((TrtserveError, KeyError), match="no"):
        shop.prepare(engine).pin(BUCKET, (1, 32, 64), measure=False)
    assert len(engine.contexts) == (3 if where == "run" else 2)
    assert all(context.closed for context in engine.contexts)
    assert shop.device.allocated_bytes == before
    given = np.ones((2, 4), np.float32)
    assert shop.run(neighbour, context, given) == (2 * given).tobytes()


class Distrusted(FakeEngine):
    """Finds out at its first run that the shapes it predicts are wrong."""

    def __init__(self) -> None:
        super().__init__(script=FakeScript(self._compute, pins=True))

    def _compute(self, arrays: Arrays) -> Arrays:
        self.script.shapes_known = False
        return arrays


def test_what_was_held_is_given_back_though_predictions_have_changed(shop):
    preparation = shop.prepare(Distrusted())
    pinned, _ = preparation.pin(BUCKET, (1, 2), measure=False)
    preparation.unpin(pinned)
    assert shop.device.allocated_bytes == 0


def test_small_pieces_get_a_place_to_be_gathered_in(shop, caplog):
    shop.device.gather_bytes = 17
    engine = pinning()
    preparation = shop.prepare(engine)
    pinned, _ = preparation.pin(BUCKET, (4,), measure=False)
    assert ("staging", 0, 64) in pinned.places
    requests = [np.full((1, 4), value, np.float32) for value in (1, 2, 3)]
    with caplog.at_level(logging.WARNING):
        result = shop.runner.run(LaneJob(
            1, engine.contexts[0], engine.variants[0], True, BUCKET, (1, 1, 1),
            tuple(((array.ctypes.data, 16),) for array in requests), frozenset([0]), 4,
        ))
    assert result.error is None
    assert shop.device.copies[-2] == ((shop.runner.buffers.take("input", 0, 64),
                                       shop.runner.buffers.take("staging", 0, 64), 48),)
    assert not caplog.records
    for block in result.blocks:
        shop.outputs.free(block)


def test_large_rows_need_no_such_place(shop):
    shop.device.gather_bytes = 16
    pinned, _ = shop.prepare(pinning()).pin(BUCKET, (4,), measure=False)
    assert {kind for kind, _, _ in pinned.places} == {"input", "output"}
