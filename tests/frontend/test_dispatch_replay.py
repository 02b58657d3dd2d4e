"""What becomes of requests when workers die, come back, or do not. See test_dispatch.py.

`Stand.close` proves at the end of every test that no block, permit or request is left over.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tests.frontend.stand import (
    PATIENCE_NS,
    Stand,
    blocks,
    catalog_of,
    floats,
    request,
    variant,
    version_spec,
)
from trtserve.clock import NS_PER_MS
from trtserve.errors import (
    Cancelled,
    DeadlineExceeded,
    ExecutionFailed,
    RequestError,
    Unavailable,
)
from trtserve.ipc.message import Failed, Release
from trtserve.model.catalog import Placement
from trtserve.model.spec import ModelState


@pytest.fixture
def stand() -> Iterator[Stand]:
    found = Stand()
    yield found
    found.close()



def test_a_request_in_flight_is_sent_once_more_to_the_next_worker(stand):
    worker = stand.start_worker()
    array = floats(1, 2)
    stand.start(request(array))
    stand.pump()
    assert len(worker.submits()) == 1
    worker.die()
    stand.pump()
    assert blocks(stand) == 1  # the dead process may still have it mapped
    stand.reap()
    assert stand.dispatcher.parked == 1
    assert not stand.reply.errors
    second = stand.start_worker()
    stand.pump()
    (submit,) = second.submits()
    assert second.bytes_of(submit) == [array.tobytes()]
    second.done(submit)
    stand.pump()
    assert stand.reply.answers[0].raw_output_contents[0] == array.tobytes()
    assert stand.dispatcher.counts.of("m", 1).replayed == 1


def test_a_request_in_flight_in_two_crashes_fails(stand):
    stand.start(request(floats(1, 2)))  # no model yet: an error at once
    assert isinstance(stand.reply.errors[0], Unavailable)
    worker = stand.start_worker()
    stand.start(request(floats(1, 2)))
    stand.pump()
    worker.die()
    stand.pump()
    stand.reap()
    second = stand.start_worker()
    stand.pump()
    assert len(second.submits()) == 1
    second.die()
    stand.pump()
    stand.reap()
    error = stand.reply.errors[1]
    assert type(error) is ExecutionFailed
    assert "two crashes" in str(error)
    assert blocks(stand) == 0


def test_a_request_that_no_worker_had_does_not_count_the_crash(stand):
    worker = stand.start_worker()
    worker.die()
    stand.pump()
    stand.start(request(floats(1, 2)))  # the worker is gone, and not yet reaped
    assert stand.dispatcher.parked == 1
    stand.reap()
    assert stand.dispatcher.counts.of("m", 1).replayed == 0
    second = stand.start_worker()
    stand.pump()
    assert len(second.submits()) == 1
    second.die()
    stand.pump()
    stand.reap()
    third = stand.start_worker()
    stand.pump()
    third.done(*third.submits())
    stand.pump()
    assert 0 in stand.reply.answers


def test_another_worker_that_serves_the_model_takes_over(stand):
    first = stand.start_worker("w1")
    second = stand.start_worker("w2")
    stand.serve("w1", "w2")
    stand.start(request(floats(1, 2)))
    stand.start(request(floats(1, 2)))
    stand.pump()
    (moved,) = first.submits()  # each has one: the less laden is chosen
    (stayed,) = second.submits()
    first.die()
    stand.pump()
    stand.reap("w1")
    stand.pump()
    (again,) = second.submits()
    assert again.id == moved.id
    second.done(stayed)
    second.done(again)
    stand.pump()
    assert len(stand.reply.answers) == 2


def expire_after(stand: Stand, ns: int) -> None:
    stand.clock.advance(ns)
    stand.dispatcher.expire()


def test_a_parked_request_waits_until_its_deadline(stand):
    worker = stand.start_worker()
    deadline = stand.clock.now_ns() + 40 * NS_PER_MS
    stand.start(request(floats(1, 2)), deadline_ns=deadline)
    stand.pump()
    worker.die()
    stand.pump()
    stand.reap()
    expire_after(stand, 40 * NS_PER_MS - 1)
    assert not stand.reply.errors
    expire_after(stand, 1)
    assert isinstance(stand.reply.errors[0], DeadlineExceeded)


def test_a_parked_request_without_a_deadline_has_patience(stand):
    worker = stand.start_worker()
    stand.start(request(floats(1, 2)))
    stand.pump()
    worker.die()
    stand.pump()
    stand.reap()
    expire_after(stand, PATIENCE_NS - 1)
    assert not stand.reply.errors
    expire_after(stand, 1)
    assert isinstance(stand.reply.errors[0], Unavailable)


def test_a_parked_request_can_be_cancelled(stand):
    worker = stand.start_worker()
    pending = stand.start(request(floats(1, 2)))
    stand.pump()
    worker.die()
    stand.pump()
    stand.reap()
    stand.dispatcher.cancel(pending)
    assert isinstance(stand.reply.errors[0], Cancelled)


def test_requests_wait_while_the_next_worker_loads_the_model(stand):
    stand.start_worker().die()
    stand.pump()
    stand.reap()
    worker = stand.start_worker(serve=False)
    catalog = stand.dispatcher.templates.catalog
    stand.use(catalog.with_placement("m", 1, None, Placement("w1", ModelState.LOADING)))
    stand.start(request(floats(1, 2)))
    assert stand.dispatcher.parked == 1
    stand.serve("w1")
    stand.pump()
    worker.done(*worker.submits())
    stand.pump()
    assert 0 in stand.reply.answers


def lost(stand: Stand) -> None:
    stand.use(stand.dispatcher.templates.catalog.with_worker_lost("w1"))


def gone(stand: Stand) -> None:
    stand.use(catalog_of(version_spec(model="other")))


def changed(stand: Stand) -> None:
    stand.use(catalog_of(version_spec(variant(row=(5,)))))


@pytest.mark.parametrize(("change", "text"), [
    (lost, "not served any more"), (gone, "not served any more"), (changed, "changed while"),
])
def test_what_is_parked_fails_when_its_model_does_not_come_back_as_it_was(
    stand, change: Callable[[Stand], None], text
):
    worker = stand.start_worker()
    stand.start(request(floats(1, 2)))
    stand.pump()
    worker.die()
    stand.pump()
    stand.reap()
    change(stand)
    assert isinstance(stand.reply.errors[0], Unavailable)
    assert text in str(stand.reply.errors[0])


def test_answers_to_nobody_are_passed_over_and_released(stand):
    worker = stand.start_worker()
    stand.start(request(floats(1, 2)))
    stand.start(request(floats(1, 2) * 5))
    stand.pump()
    first, second = worker.submits()
    worker.say(Failed((first.id,), "internal", "gone"))
    stand.pump()
    lease = worker.done(first, second)
    stand.pump()
    assert worker.read() == [Release((lease,))]
    expected = (floats(1, 2) * 5).tobytes()
    assert stand.reply.answers[1].raw_output_contents[0] == expected


def test_reaping_an_unknown_worker_is_nothing(stand):
    stand.dispatcher.worker_reaped("nobody")


def test_at_the_end_everything_is_answered(stand):
    stand.start_worker()
    for _ in range(3):
        stand.start(request(floats(1, 2)))

    def shutting_down() -> RequestError:
        return Unavailable("the server is shutting down")

    stand.dispatcher.fail_all(shutting_down)
    assert len(stand.reply.errors) == 3


def test_many_requests_of_many_sizes_leave_nothing_behind(stand):
    rng = np.random.default_rng(5)
    worker = stand.start_worker()
    expected: dict[int, bytes] = {}
    waiting = []
    for _ in range(300):
        array = rng.random((int(rng.integers(1, 4)), int(rng.integers(1, 40))), np.float32)
        expected[stand.slot] = array.tobytes()
        stand.start(request(array))
        if rng.random() < 0.5:
            stand.pump()
            waiting += worker.submits()
            rng.shuffle(waiting)
            while len(waiting) > 3:
                worker.next_block = 0  # read at once by the pump
                worker.done(waiting.pop())
                stand.pump()
    stand.pump()
    for submit in waiting + worker.submits():
        worker.next_block = 0
        worker.done(submit)
        stand.pump()
    assert {
        slot: answer.raw_output_contents[0] for slot, answer in stand.reply.answers.items()
    } == expected
