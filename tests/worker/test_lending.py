"""The free lanes: a lane is lent when no batch is on it, and the batcher's count stays true."""

from collections.abc import Iterator

import pytest

from tests.worker.batcher_traffic import add, batcher, start
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.worker.batcher import Batcher
from trtserve.worker.lane import Lane
from trtserve.worker.lending import Borrow, LanePool
from trtserve.worker.output import OutputArena


class Desk:
    """Two lanes, of which none is ever started, their pool and the batcher."""

    def __init__(self, outputs: OutputArena) -> None:
        device = FakeDevice(FakeClock())
        self.lanes = [Lane(index, device, outputs, lambda _: None) for index in range(2)]
        self.batcher: Batcher = batcher(lanes=2, max_batch=1)
        self.pool = LanePool(self.lanes, self.batcher)
        self.lent: list[Lane] = []

    def borrow(self, lane: int) -> None:
        self.pool.borrow(Borrow(lane, self.lent.append))


@pytest.fixture
def desk() -> Iterator[Desk]:
    outputs = OutputArena.create(4096)
    yield Desk(outputs)
    outputs.close()


def test_every_lane_is_free_at_first(desk):
    assert {desk.pool.take(), desk.pool.take()} == set(desk.lanes)


@pytest.mark.parametrize("index", [0, 1])
def test_a_free_lane_is_lent_at_once(desk, index):
    desk.borrow(index)
    assert desk.lent == [desk.lanes[index]]
    assert (desk.batcher.lanes, desk.batcher.lanes_in_all) == (1, 2)
    assert desk.pool.take() is desk.lanes[1 - index]


def test_a_lane_that_comes_back_is_free_again(desk):
    desk.borrow(0)
    desk.pool.give_back(desk.lanes[0])
    assert (desk.batcher.lanes, desk.batcher.lanes_in_all) == (2, 2)
    assert {desk.pool.take(), desk.pool.take()} == set(desk.lanes)


def test_a_lane_with_a_batch_on_it_is_lent_when_the_batch_is_done(desk):
    busy = desk.pool.take()
    desk.borrow(busy.index)
    assert desk.lent == []
    assert desk.batcher.lanes == 2
    desk.pool.put(busy)
    assert desk.lent == [busy]
    assert desk.batcher.lanes == 1
    assert desk.pool.take() is not busy


def test_another_lane_s_batch_changes_nothing(desk):
    one, other = desk.pool.take(), desk.pool.take()
    desk.borrow(one.index)
    desk.pool.put(other)
    assert desk.lent == []
    assert desk.pool.take() is other
    desk.pool.put(one)
    assert desk.lent == [one]


def test_a_lane_wanted_twice_is_lent_in_turn(desk):
    desk.borrow(0)
    desk.borrow(0)
    assert desk.lent == [desk.lanes[0]]
    desk.pool.give_back(desk.lanes[0])
    assert desk.lent == [desk.lanes[0]] * 2
    assert desk.batcher.lanes == 1
    desk.pool.give_back(desk.lanes[0])
    assert desk.batcher.lanes == 2


def test_with_all_lanes_lent_requests_wait(desk):
    add(desk.batcher, 0, times=3)
    start(desk.batcher, 0)
    running = desk.pool.take()
    desk.borrow(1 - running.index)
    assert desk.batcher.next_batch(0) is None  # the other lane is lent
    desk.borrow(running.index)
    desk.pool.put(running)
    assert [lane.index for lane in desk.lent] == [1 - running.index, running.index]
    assert desk.batcher.lanes == 0
    assert desk.batcher.next_batch(0) is None


def test_a_lent_lane_s_return_starts_the_next_batch(desk):
    desk.borrow(0)
    desk.borrow(1)
    add(desk.batcher, 0)
    assert desk.batcher.next_batch(0) is None
    desk.pool.give_back(desk.lanes[0])
    batch = start(desk.batcher, 0)
    lane = desk.pool.take()
    assert lane is desk.lanes[0]
    desk.pool.put(lane)
    desk.batcher.finished(batch, 5, 5)
    assert desk.batcher.lanes_in_all == 2
