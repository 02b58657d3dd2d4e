"""Which of a lane's contexts runs a batch."""

import pytest

from trtserve.engine.interface import Context
from trtserve.ipc.message import Bucket
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.testing.engine import FakeEngine
from trtserve.worker.contexts import LaneContexts, Pinned

SQUARE: Bucket = ((4,),)
OTHER: Bucket = ((5,),)

ENGINE = FakeEngine()
STREAM = FakeDevice(FakeClock()).create_stream()


def context() -> Context:
    return ENGINE.create_context(0, STREAM)


def pinned(contexts: LaneContexts, *sizes: int) -> tuple[Context, ...]:
    made = tuple(context() for _ in sizes)
    contexts.pinned[SQUARE] = Pinned(sizes, made)
    return made


@pytest.mark.parametrize(("rows", "which", "padded"), [
    (1, 0, 0), (2, 1, 0), (3, 2, 4), (4, 2, 0), (5, 3, 12), (11, 3, 12), (12, 3, 0),
])
def test_a_batch_runs_in_the_next_larger_size(rows, which, padded):
    contexts = LaneContexts(context())
    made = pinned(contexts, 1, 2, 4, 12)
    assert contexts.find(SQUARE, rows) == (made[which], padded)


def test_what_is_larger_than_all_sizes_runs_as_it_is():
    contexts = LaneContexts(context())
    pinned(contexts, 1, 2)
    assert contexts.find(SQUARE, 3) == (contexts.any_shape, 0)


def test_buckets_without_contexts_of_their_own_run_as_they_are():
    contexts = LaneContexts(context())
    pinned(contexts, 1, 2)
    assert contexts.find(OTHER, 1) == (contexts.any_shape, 0)


@pytest.mark.parametrize(("bucket", "rows"), [(SQUARE, 3), (OTHER, 1)])
def test_what_nothing_takes_is_an_error(bucket, rows):
    contexts = LaneContexts(None)
    made = pinned(contexts, 1, 2)
    assert contexts.find(SQUARE, 2) == (made[1], 0)
    with pytest.raises(LookupError, match=f"no context for {rows} rows"):
        contexts.find(bucket, rows)


def test_exact_is_never_padded():
    contexts = LaneContexts(context())
    made = pinned(contexts, 1, 2, 4)
    assert contexts.find(SQUARE, 2, exact=True) == (made[1], 0)
    assert contexts.find(SQUARE, 3, exact=True) == (contexts.any_shape, 0)
    contexts.any_shape = None
    with pytest.raises(LookupError):
        contexts.find(SQUARE, 3, exact=True)
