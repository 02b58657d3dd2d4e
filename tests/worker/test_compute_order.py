"""The order that keeps one lane copying while the others compute."""

from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice, FakeEvent
from trtserve.worker.compute_order import ComputeOrder


def events(count: int) -> list[FakeEvent]:
    device = FakeDevice(FakeClock())
    return [device.create_event() for _ in range(count)]


def test_the_first_ones_wait_for_nobody() -> None:
    order = ComputeOrder(2)
    one, two = events(2)
    assert order.before() is None
    order.entered(one)
    assert order.before() is None
    order.entered(two)
    assert order.before() is one


def test_each_waits_for_the_one_so_many_places_before() -> None:
    order = ComputeOrder(2)
    entered = events(6)
    waited_for = []
    for event in entered:
        waited_for.append(order.before())
        order.entered(event)
    assert waited_for == [None, None, *entered[:4]]


def test_one_or_two_lanes_need_no_order() -> None:
    assert ComputeOrder.of(1) is None
    assert ComputeOrder.of(2) is None
    assert ComputeOrder.of(3) is not None
