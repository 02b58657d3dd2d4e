"""Requests that find the worker's door closed: refused with nothing copied, and never for long."""

from collections.abc import Iterator

import pytest

from tests.frontend.stand import Stand, WorkerSide, blocks, floats, request
from trtserve.clock import NS_PER_MS
from trtserve.errors import Overloaded
from trtserve.ipc.message import Closed, Failed, Submit

MS = NS_PER_MS


@pytest.fixture
def stand() -> Iterator[Stand]:
    found = Stand()
    yield found
    found.close()


def refuse(
    stand: Stand, worker: WorkerSide, submit: Submit, for_ms: int = 20, need_ms: int = 0
) -> None:
    """The worker has no room for it."""
    closed = Closed(for_ms * MS, need_ms * MS)
    worker.say(Failed((submit.id,), "overloaded", "no room", 30, closed))
    stand.pump()


def send(stand: Stand, left_ms: int = 0, rows: int = 1) -> bool:
    """Whether a request, with so much time until its deadline, was let in."""
    deadline = stand.clock.now_ns() + left_ms * MS if left_ms else 0
    let_in = stand.start(request(floats(rows, 2)), deadline) is not None
    stand.pump()
    return let_in


def test_after_a_refusal_others_are_refused_here_until_one_asks_again(stand):
    worker = stand.start_worker()
    assert send(stand)
    refuse(stand, worker, worker.submits()[0])
    stand.clock.advance(5 * MS)
    wanted = stand.flushes_wanted
    assert not send(stand)
    error = stand.reply.errors[1]
    assert isinstance(error, Overloaded)
    assert (str(error), error.retry_after_ms) == ("no room", 25)
    assert (worker.submits(), blocks(stand), stand.flushes_wanted) == ([], 0, wanted)
    assert stand.admission.statistics().in_flight == 0
    assert stand.dispatcher.counts.of("m", 1).outcomes == {"overloaded": 2}
    stand.clock.advance(15 * MS)
    assert send(stand)
    worker.done(*worker.submits())
    stand.pump()
    assert send(stand)  # there was room: the door is open
    worker.done(*worker.submits())
    stand.pump()
    assert set(stand.reply.answers) == {2, 3}


def test_only_those_without_the_time_are_kept_out(stand):
    worker = stand.start_worker()
    assert send(stand, left_ms=40)
    refuse(stand, worker, worker.submits()[0], need_ms=50)
    assert [send(stand, left_ms) for left_ms in (49, 50, 0)] == [False, True, True]
    # The time that a request names itself counts too.
    message = request(floats(1, 2))
    message.parameters["timeout"].int64_param = 20_000
    assert stand.start(message) is None
    worker.done(*worker.submits())
    stand.pump()


def test_other_failures_close_nothing(stand):
    worker = stand.start_worker()
    assert send(stand)
    worker.say(Failed((worker.submits()[0].id,), "overloaded", "the arena is full", 1))
    stand.pump()
    assert send(stand)
    worker.done(*worker.submits())
    stand.pump()


def test_where_one_worker_has_room_requests_go_there(stand):
    first, second = stand.start_worker("w1"), stand.start_worker("w2")
    assert send(stand)
    refuse(stand, first, first.submits()[0])
    for _ in range(4):
        assert send(stand)
    submits = second.submits()
    assert (len(first.submits()), len(submits)) == (0, 4)
    refuse(stand, second, submits[0], for_ms=10)
    assert not send(stand)
    assert stand.reply.errors[5].retry_after_ms == 30
    stand.clock.advance(10 * MS)
    assert send(stand)
    more = second.submits()
    assert (len(first.submits()), len(more)) == (0, 1)
    second.done(*submits[1:], *more)
    stand.pump()


def test_a_new_worker_process_has_an_open_door(stand):
    worker = stand.start_worker("w1")
    assert send(stand)
    refuse(stand, worker, worker.submits()[0], for_ms=1000)
    worker.die()
    stand.pump()
    stand.reap()
    stand.workers.clear()
    worker = stand.start_worker("w1")
    assert send(stand)
    worker.done(*worker.submits())
    stand.pump()


def test_what_a_dead_worker_had_is_sent_again_though_all_doors_are_closed(stand):
    first, *others = (stand.start_worker(name) for name in ("w1", "w2", "w3"))
    for _ in range(6):
        assert send(stand)
    kept = []
    for worker in others:
        refused, *rest = worker.submits()
        refuse(stand, worker, refused, for_ms=1000)
        kept.append(rest)
    lost = len(first.submits())
    first.die()
    stand.workers.remove(first)
    stand.pump()
    stand.reap("w1")
    stand.pump()
    for worker, rest in zip(others, kept, strict=True):
        rest += worker.submits()
        worker.done(*rest)
    stand.pump()
    assert lost
    assert sorted(stand.reply.answers | stand.reply.errors) == list(range(6))
    assert len(stand.reply.errors) == 2
