"""Answers: each front end gets its part of a batch; the dead get nothing."""

from collections.abc import Iterator

import pytest

from trtserve.errors import DeviceError, ExecutionFailed, Overloaded, ProtocolError, TrtserveError
from trtserve.ipc.channel import Channel
from trtserve.ipc.message import Closed, Done, Failed, OutputBlock, Submit, Timing
from trtserve.worker.answer import answer, failed
from trtserve.worker.job import LaneResult
from trtserve.worker.leases import Leases
from trtserve.worker.link import FrontEndLink
from trtserve.worker.no_room import NoRoom
from trtserve.worker.output import OutputArena
from trtserve.worker.request import Batch, Request


class Desk:
    """Two front ends and the leases."""

    def __init__(self) -> None:
        self.outputs = OutputArena.create(1 << 16)
        self.leases = Leases(self.outputs)
        pairs = [Channel.pair() for _ in range(2)]
        self.links = [FrontEndLink(f"f{index}", ours) for index, (ours, _) in enumerate(pairs)]
        self.theirs = [theirs for _, theirs in pairs]

    def batch(self, *owners: int) -> Batch:
        """A batch of a request of 1 row, one of 2 and so on, with these owners."""
        requests = []
        for index, owner in enumerate(owners):
            submit = Submit(100 + index, 1, ((4,),), index + 1, (), (0,), 0)
            requests.append(Request(submit, self.links[owner]))
            self.links[owner].requests[submit.id] = requests[-1]
        rows = sum(request.submit.rows for request in requests)
        return Batch(5, 1, ((4,),), requests, rows, started_ns=50)

    def heard(self, link: int) -> list[object]:
        """What a front end was told."""
        self.links[link].channel.flush()
        return list(self.theirs[link].receive() or ())

    def close(self) -> None:
        for channel in (*self.theirs, *(link.channel for link in self.links)):
            channel.close()
        self.outputs.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    found = Desk()
    yield found
    found.close()


def result(desk: Desk, sizes: tuple[int, ...]) -> LaneResult:
    block = desk.outputs.allocate(sum(sizes))
    return LaneResult(
        5, 3, 99, None, (OutputBlock(0, (4,), block, sizes),), (block,), 10, 20, 30, 40, 55
    )


def failure(error: TrtserveError) -> LaneResult:
    return LaneResult(5, 3, 99, error)


def test_a_batch_of_one_front_end_is_one_message(desk):
    batch = desk.batch(0, 0)
    found = result(desk, (16, 32))
    assert answer(batch, found, desk.leases) == [desk.links[0]]
    assert desk.heard(0) == [
        Done(1, (100, 101), (1, 2), found.outputs, Timing(3, 2, 3, 50, 10, 20, 30, 40, began_ns=55))
    ]
    assert not desk.links[0].requests
    assert len(desk.leases) == 1


def test_what_still_waits_is_told_along(desk):
    answer(desk.batch(0, 1), result(desk, (16, 32)), desk.leases, 777)
    for link in (0, 1):
        (done,) = desk.heard(link)
        assert isinstance(done, Done)
        assert done.timing.backlog_ns == 777


def test_each_front_end_gets_its_part_under_one_lease(desk):
    batch = desk.batch(0, 1, 1)
    found = result(desk, (16, 32, 48))
    (block,) = found.outputs
    assert answer(batch, found, desk.leases) == desk.links
    (first,), (second,) = desk.heard(0), desk.heard(1)
    assert isinstance(first, Done)
    assert isinstance(second, Done)
    assert (first.ids, first.rows) == ((100,), (1,))
    assert first.outputs == (OutputBlock(0, (4,), block.offset, (16,)),)
    assert (second.ids, second.rows) == ((101, 102), (2, 3))
    assert second.outputs == (OutputBlock(0, (4,), block.offset + 16, (32, 48)),)
    assert first.lease == second.lease
    desk.leases.release(first.lease, desk.links[0])
    assert desk.outputs.statistics().blocks == 1
    desk.leases.release(first.lease, desk.links[1])
    assert desk.outputs.statistics().blocks == 0


def test_the_dead_are_told_nothing_and_hold_no_lease(desk):
    batch = desk.batch(0, 1)
    desk.links[0].alive = False
    assert answer(batch, result(desk, (16, 32)), desk.leases) == desk.links
    (done,) = desk.heard(1)
    assert isinstance(done, Done)
    assert desk.heard(0) == []
    desk.leases.release(done.lease, desk.links[1])
    assert desk.outputs.statistics().blocks == 0


def test_a_batch_of_the_dead_frees_its_blocks(desk):
    batch = desk.batch(0)
    desk.links[0].alive = False
    answer(batch, result(desk, (16,)), desk.leases)
    assert desk.outputs.statistics().blocks == 0


@pytest.mark.parametrize(("error", "word", "message", "retry_after_ms"), [
    (ExecutionFailed("bad index"), "execution", "bad index", None),
    (Overloaded("no room for outputs", 30), "overloaded", "no room for outputs", 30),
    (DeviceError("at 0x7f12"), "execution", "the device failed on this batch", None),
    (ProtocolError("our bug"), "execution", "the batch failed", None),
])
def test_a_failure_reaches_all_and_keeps_our_own_secrets(
    desk, error, word, message, retry_after_ms
):
    batch = desk.batch(0, 0, 1)
    answer(batch, failure(error), desk.leases)
    assert desk.heard(0) == [Failed((100, 101), word, message, retry_after_ms)]
    assert desk.heard(1) == [Failed((102,), word, message, retry_after_ms)]
    assert not desk.links[0].requests
    assert len(desk.leases) == 0


def test_a_refusal_for_want_of_room_says_who_else_need_not_ask():
    refusal = failed((7,), NoRoom("full", 25, Closed(4, 9)))
    assert refusal == Failed((7,), "overloaded", "full", 25, Closed(4, 9))
    assert failed((7,), Overloaded("full", 25)).closed is None
