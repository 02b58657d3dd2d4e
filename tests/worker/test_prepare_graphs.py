"""Capturing contexts: a graph is kept if it computes what the engine does, in the same places."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.worker.workshop import BUCKET, Workshop, pinning
from trtserve.errors import DeviceError, ExecutionFailed
from trtserve.testing.engine import Arrays, FakeEngine, FakeScript, doubling, fake_variant


@pytest.fixture
def shop() -> Iterator[Workshop]:
    found = Workshop()
    yield found
    found.close()


def test_captured_contexts_keep_their_places_whatever_comes_and_goes(shop):
    engine = pinning(FakeScript(doubling))
    preparation = shop.prepare(engine)
    pinned, _ = preparation.pin(BUCKET, (1, 2, 64), measure=True)
    assert all(context.places is not None for context in engine.contexts)
    kept = list(engine.contexts)
    others = [
        preparation.pin(((row,),), (1, 2, 64), measure=True)[0]
        for row in (3, 4, 5)  # of the same classes of size, and of others
    ]
    for other in others:
        preparation.unpin(other)
    given = np.arange(8, dtype=np.float32).reshape(2, 4)
    # The fake context looks whether its places are still the same.
    for context in kept[1:]:
        assert shop.run(engine, context, given) == (2 * given).tobytes()
    preparation.unpin(pinned)
    assert shop.device.allocated_bytes == 0


@pytest.mark.parametrize("datatype", [
    "FP32", "FP16", "BF16", "FP64", "UINT8", "INT32", "INT64", "BOOL",
])
def test_a_graph_that_computes_the_same_is_kept(shop, datatype, caplog):
    engine = FakeEngine(
        fake_variant(datatype=datatype, max_batch=4), script=FakeScript(pins=True, captures=True)
    )
    shop.prepare(engine).pin(BUCKET, (1, 4), measure=False)
    assert all(context.places is not None for context in engine.contexts)
    assert not caplog.records


def test_a_graph_may_round_otherwise(shop):
    engine = pinning(FakeScript(capture=lambda arrays: [arrays[0] * np.float32(1 + 1e-5)]))
    shop.prepare(engine).pin(BUCKET, (1,), measure=False)
    assert engine.contexts[0].places is not None


def zeros(arrays: Arrays) -> Arrays:
    return [np.zeros_like(arrays[0])]


class Stuck:
    """A graph that gives again and again what it gave first."""

    def __init__(self) -> None:
        self._first: list[Any] = []

    def __call__(self, arrays: Arrays) -> Arrays:
        if not self._first:
            self._first = [np.array(array) for array in arrays]
        return self._first


def refuse_what_is_not_zero(arrays: Arrays) -> Arrays:
    if any(array.any() for array in arrays):
        raise ExecutionFailed("only zeros")
    return arrays


@pytest.mark.parametrize(("script", "reason"), [
    (lambda: FakeScript(capture=zeros), "computes something else"),
    (lambda: FakeScript(capture=Stuck()), "computes something else"),
    (lambda: FakeScript(capture=ExecutionFailed("it synchronises")), "it synchronises"),
    (lambda: FakeScript(capture=DeviceError("invalidated")), "invalidated"),
    (lambda: FakeScript(refuse_what_is_not_zero), "only zeros"),
    (lambda: FakeScript(shapes_known=False), "depends on the data"),
])
def test_a_model_that_can_not_be_captured_serves_without(shop, caplog, script, reason):
    engine = pinning(script())
    preparation = shop.prepare(engine)
    first, _ = preparation.pin(BUCKET, (1, 2, 4), measure=True)
    second, _ = preparation.pin(((5,),), (1, 2), measure=True)
    assert (first.sizes, second.sizes) == ((1, 2, 4), (1, 2))
    assert all(context.places is None for context in engine.contexts)
    (warning,) = [
        record.getMessage() for record in caplog.records if "captured" in record.getMessage()
    ]  # said once, and not tried again
    assert reason in warning
    assert "fake is not captured" in warning
    for pinned in (first, second):
        preparation.unpin(pinned)
    given = np.zeros((1, 4), np.float32)
    pinned, _ = preparation.pin(BUCKET, (1,), measure=False)
    assert shop.run(engine, engine.contexts[-1], given) == given.tobytes()
    preparation.unpin(pinned)


def test_a_lost_device_is_told_at_once(shop, caplog):
    lost = DeviceError("lost", sticky=True)
    engine = pinning(FakeScript(capture=lost))
    with pytest.raises(DeviceError) as caught:
        shop.prepare(engine).pin(BUCKET, (1,), measure=False)
    assert caught.value is lost
    assert not caplog.records
    assert engine.contexts[0].closed
    assert shop.device.allocated_bytes == 0


def test_engines_that_are_not_captured_are_left_alone(shop):
    engine = pinning(FakeScript(capture=AssertionError("nobody asked")))
    engine.script.captures = False
    shop.prepare(engine).pin(BUCKET, (1, 2), measure=False)
    assert all(context.places is None for context in engine.contexts)
