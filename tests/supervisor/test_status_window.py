"""The last seconds out of totals, and quantiles out of buckets."""

from functools import partial

import pytest

from trtserve.clock import NS_PER_S
from trtserve.ipc.statistics import CounterSample, Statistics
from trtserve.supervisor.status_window import STEP_NS, WINDOW_NS, Window, quantile


def totals(value: float) -> Statistics:
    return Statistics((CounterSample("requests", ("m", "1", "ok"), value),))


def test_the_begin_of_the_window_moves_along():
    window = Window()
    for second in range(30):
        now = second * NS_PER_S
        assert window.due(now)
        window.note(now, partial(totals, second))
        assert not window.due(now + STEP_NS - 1)
    begin = 29 * NS_PER_S - WINDOW_NS
    assert window.earlier(29 * NS_PER_S + 5) == (begin, totals(19))


def test_while_it_is_young_it_is_shorter():
    window = Window()
    assert window.earlier(0) is None
    window.note(0, lambda: totals(1))
    assert window.earlier(STEP_NS // 4) is None
    assert window.earlier(2 * NS_PER_S) == (0, totals(1))


def test_adding_up_is_left_until_somebody_wants_it():
    window = Window()

    def read() -> Statistics:
        raise AssertionError("nobody asked")

    window.note(0, read)
    window.note(NS_PER_S, read)
    with pytest.raises(AssertionError):
        window.earlier(NS_PER_S)


@pytest.mark.parametrize(("counts", "part", "value"), [
    ((4, 0, 0), 0.5, 0.5), ((4, 0, 0), 1.0, 1.0), ((2, 2, 0), 0.75, 1.5), ((0, 4, 0), 0.5, 1.5),
    ((0, 0, 4), 0.5, 2.0), ((0, 0, 0), 0.5, None), ((), 0.5, None), ((99, 0, 1), 0.99, 1.0),
])
def test_quantiles_lie_within_their_bucket(counts, part, value):
    assert quantile((1.0, 2.0), counts, part) == value
