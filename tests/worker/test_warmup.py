"""Warming up: which buckets are run, with which sizes, and what is measured."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from trtserve.errors import DeviceError, ExecutionFailed
from trtserve.model.configuration import WarmupShapes
from trtserve.model.spec import ANY, ShapeRange, TensorSpec, VariantSpec
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.testing.engine import Arrays, FakeEngine, FakeScript, fake_variant
from trtserve.worker.latency import TRIALS
from trtserve.worker.output import OutputArena
from trtserve.worker.warmup import BUDGET_NS, Measured, WarmUp, known_buckets

Run = Callable[..., tuple[Measured, ...]]


def image(
    low: tuple[int, ...], high: tuple[int, ...], opt: tuple[int, ...] | None = None,
    max_batch: int = 8,
) -> VariantSpec:
    return VariantSpec(
        "v", (TensorSpec("x", "FP32", high),), (TensorSpec("y", "FP32", high),),
        (ShapeRange(low, high, opt),), max_batch,
    )


def warmup(rows: int, *shape: int, name: str = "x") -> WarmupShapes:
    return WarmupShapes("w", rows, (TensorSpec(name, "FP32", shape),))


# --- which buckets -----------------------------------------------------------------------


def test_a_profile_s_opt_then_its_ends():
    variant = image((1, 3, 8), (8, 3, 64), (4, 3, 32))
    assert list(known_buckets(variant, ())) == [
        (((3, 32),), ()), (((3, 64),), ()), (((3, 8),), ()),
    ]


def test_a_fixed_shape_is_run_once():
    assert list(known_buckets(image((1, 4), (8, 4), (1, 4)), ())) == [(((4,),), ())]
    assert list(known_buckets(image((2, 4), (2, 4), max_batch=0), ())) == [(((2, 4),), ())]


def test_nothing_is_known_of_open_shapes():
    assert list(known_buckets(image((1, 1), (8, ANY)), ())) == []


def test_the_configuration_s_shapes_come_first_with_their_rows():
    variant = image((1, 1), (8, ANY))
    warmups = (warmup(4, 50), warmup(2, 60))
    assert list(known_buckets(variant, warmups)) == [(((50,),), (4,)), (((60,),), (2,))]


def test_shapes_that_a_variant_does_not_take_are_another_s():
    variant = image((1, 4), (8, 64))
    warmups = (warmup(4, 65), warmup(9, 50), warmup(1, 5, 5), warmup(1, 9, name="z"))
    assert [bucket for bucket, rows in known_buckets(variant, warmups) if rows] == []


def test_unbatched_shapes_are_whole():
    variant = image((1, 4), (8, 64), max_batch=0)
    assert next(iter(known_buckets(variant, (warmup(1, 2, 5),)))) == (((2, 5),), (1,))


# --- running -----------------------------------------------------------------------------


@pytest.fixture
def run() -> Iterator[Run]:
    """Warms a variant of an engine up, and checks that nothing is left over."""
    device = FakeDevice(FakeClock(), unified=True)
    outputs = OutputArena.create(1 << 20)
    warm_up = WarmUp(device, outputs)

    def run_engine(
        engine: FakeEngine, warmups: tuple[WarmupShapes, ...] = ()
    ) -> tuple[Measured, ...]:
        context = engine.create_context(0)
        try:
            return warm_up.run(engine.variants[0], context, warmups)
        finally:
            assert context.closed
            assert outputs.statistics().blocks == 0

    yield run_engine
    warm_up.close()
    warm_up.close()
    outputs.close()


def per_batch(fixed_ns: int, row_ns: int = 0) -> FakeScript:
    return FakeScript(service_ns=lambda rows: fixed_ns + row_ns * rows)


def sizes(measured: tuple[Measured, ...]) -> list[int]:
    return list(dict.fromkeys(rows for _, rows, _ in measured))


def test_each_size_is_run_once_for_nothing_and_then_measured(run):
    engine = FakeEngine(fake_variant(max_batch=6), script=per_batch(1000, 10))
    measured = run(engine)
    assert sizes(measured) == [1, 2, 4, 6]
    assert measured[:TRIALS] == ((((4,),), 1, 1010),) * TRIALS
    assert engine.runs == 4 * (TRIALS + 1)


def test_it_stops_where_larger_batches_do_not_pay(run):
    measured = run(FakeEngine(fake_variant(max_batch=64), script=per_batch(0, 1000)))
    assert sizes(measured) == [1, 2]


def test_it_stops_when_its_time_is_spent(run):
    measured = run(FakeEngine(fake_variant(max_batch=64), script=per_batch(BUDGET_NS // 6)))
    assert sizes(measured) == [1, 2]


def test_an_unbatched_variant_is_run_alone(run):
    measured = run(FakeEngine(fake_variant(max_batch=0), script=per_batch(5000)))
    assert measured == ((((4,),), 1, 5000),) * TRIALS


def test_the_configuration_s_rows_are_run_as_they_are(run):
    engine = FakeEngine(image((1, 1), (8, ANY)), script=per_batch(1000))
    measured = run(engine, (warmup(4, 50), warmup(2, 60)))
    assert {(bucket, rows) for bucket, rows, _ in measured} == {(((50,),), 4), (((60,),), 2)}


def test_zeros_are_run_in_a_thread_of_its_own(run):
    seen: list[Any] = []
    threads: set[str] = set()

    def look(arrays: Arrays) -> Arrays:
        seen.append(np.array(arrays[0]))
        threads.add(threading.current_thread().name)
        return arrays

    run(FakeEngine(fake_variant(max_batch=2), script=FakeScript(look)))
    assert {array.shape for array in seen} == {(1, 4), (2, 4)}
    assert not any(array.any() for array in seen)
    assert threads == {"lane -1"}


def test_texts_are_empty(run):
    seen: list[Any] = []

    def look(arrays: Arrays) -> Arrays:
        seen.append(arrays[0].tolist())
        return arrays

    run(FakeEngine(fake_variant(row=(2,), max_batch=1, datatype="BYTES"), script=FakeScript(look)))
    assert seen[0] == [[b"", b""]]


@pytest.mark.parametrize("error", [
    ExecutionFailed("can not run zeros"), DeviceError("lost", sticky=True),
])
def test_what_fails_is_raised_and_everything_is_given_back(run, error):
    with pytest.raises(type(error), match=str(error)):
        run(FakeEngine(fake_variant(), script=FakeScript(failures={3: error})))
    assert run(FakeEngine(fake_variant(max_batch=1)))  # the next model is warmed up as usual
