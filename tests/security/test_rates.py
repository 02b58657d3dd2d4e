"""What a caller has left, driven by a clock of its own."""

from trtserve.clock import NS_PER_MS, NS_PER_S
from trtserve.security.rates import MAX_PUSHBACK_MS, Allowance, Rate


def test_a_burst_then_the_rate():
    allowance = Allowance(Rate(10, 3))
    assert [allowance.take(0) for _ in range(3)] == [0, 0, 0]
    wait = allowance.take(0)
    assert 100 <= wait <= 102
    assert allowance.take(99 * NS_PER_MS) > 0
    assert allowance.take(wait * NS_PER_MS) == 0


def test_a_refusal_costs_nothing_and_the_wait_is_exact():
    allowance = Allowance(Rate(1, 1))
    assert allowance.take(0) == 0
    assert [bool(allowance.take(now)) for now in (1, NS_PER_S - 1, NS_PER_S)] == [True, True, False]


def test_it_fills_up_to_the_burst_and_no_further():
    allowance = Allowance(Rate(10, 2))
    assert [allowance.take(0) for _ in range(3)][:2] == [0, 0]
    assert [bool(allowance.take(3600 * NS_PER_S)) for _ in range(4)] == [False, False, True, True]


def test_over_a_long_time_the_rate_is_exact():
    allowance = Allowance(Rate(100, 1))
    let_in = sum(allowance.take(now * NS_PER_MS) == 0 for now in range(10_000))
    assert let_in == 1000


def test_pushback_is_bounded():
    allowance = Allowance(Rate(0.001, 1))
    assert allowance.take(0) == 0
    assert allowance.take(0) == MAX_PUSHBACK_MS
