"""The steps of stopping, without any process."""

import pytest

from trtserve.clock import NS_PER_S
from trtserve.ipc.message import Drain, Stop
from trtserve.supervisor.role import Kind
from trtserve.supervisor.shutdown import Order, Shutdown, Step

FRONT, WORKER = Kind.FRONT_END, Kind.WORKER
BOTH = {FRONT, WORKER}


def seconds(value):
    return int(value * NS_PER_S)


@pytest.fixture
def shutdown():
    return Shutdown(drain_delay_seconds=3, drain_timeout_seconds=10)


def test_nothing_happens_while_serving(shutdown):
    assert shutdown.turn(0, BOTH) == []
    assert shutdown.turn(0, set()) == []
    assert not shutdown.stopping
    assert shutdown.wake_ns() is None


def test_the_steps_come_in_order(shutdown):
    shutdown.begin(0)
    assert shutdown.turn(0, BOTH) == [Order(FRONT, Drain())]
    assert shutdown.turn(seconds(2.9), BOTH) == []
    assert shutdown.wake_ns() == seconds(3)
    assert shutdown.turn(seconds(3), BOTH) == [Order(FRONT, Stop(10))]
    assert shutdown.turn(seconds(9), BOTH) == []
    assert shutdown.turn(seconds(9), {WORKER}) == [Order(WORKER, Stop(4))]
    assert shutdown.turn(seconds(9), set()) == []
    assert shutdown.step is Step.DONE


def test_no_delay_at_once(shutdown):
    shutdown.begin(0, at_once=True)
    assert shutdown.turn(0, BOTH) == [Order(FRONT, Drain()), Order(FRONT, Stop(10))]


def test_whoever_outlives_the_deadline_is_killed_again_and_again(shutdown):
    shutdown.begin(0, at_once=True)
    shutdown.turn(0, BOTH)
    assert shutdown.wake_ns() == seconds(15)
    assert shutdown.turn(seconds(14.9), BOTH) == []
    assert shutdown.turn(seconds(15), BOTH) == [Order(FRONT, None), Order(WORKER, None)]
    assert shutdown.turn(seconds(15.5), BOTH) == []
    assert shutdown.turn(seconds(16), BOTH) == [Order(FRONT, None), Order(WORKER, None)]


@pytest.mark.parametrize(
    ("turns", "orders"),
    [
        ([], [Order(FRONT, Drain()), Order(FRONT, Stop(0))]),
        ([(0, BOTH)], [Order(FRONT, Stop(0))]),
        ([(0, BOTH), (4, BOTH)], [Order(FRONT, Stop(0))]),
        ([(0, BOTH), (4, BOTH), (4, {WORKER})], [Order(WORKER, Stop(0))]),
    ],
)
def test_hurrying_leaves_no_grace_at_any_step(shutdown, turns, orders):
    shutdown.begin(0)
    for at, alive in turns:
        shutdown.turn(seconds(at), alive)
    alive = turns[-1][1] if turns else BOTH
    shutdown.hurry(seconds(4))
    assert shutdown.turn(seconds(4), alive) == orders
    assert shutdown.turn(seconds(5.9), alive) == []
    assert shutdown.turn(seconds(6), alive) == [Order(kind, None) for kind in sorted(alive)]


def test_everybody_gone_while_draining_is_the_end(shutdown):
    shutdown.begin(0)
    shutdown.turn(0, set())
    assert shutdown.step is Step.DONE
