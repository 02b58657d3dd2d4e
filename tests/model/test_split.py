"""Turns by weight: exact over a full cycle, and evenly spread."""

from collections import Counter
from itertools import pairwise

import pytest

from trtserve.model.split import Turns


def test_one_in_ten_comes_every_tenth_time():
    turns = Turns(((1, 90), (2, 10)))
    taken = [turns.next() for _ in range(100)]
    second = [index for index, version in enumerate(taken) if version == 2]
    assert len(second) == 10
    assert {later - earlier for earlier, later in pairwise(second)} == {10}


def test_the_heavier_does_not_come_in_one_row():
    turns = Turns(((1, 5), (2, 1), (3, 1)))
    assert [turns.next() for _ in range(7)] == [1, 1, 2, 1, 3, 1, 1]


def test_alone_it_is_always_its_turn():
    turns = Turns(((4, 10),))
    assert [turns.next() for _ in range(5)] == [4] * 5


@pytest.mark.parametrize("weights", [(1,), (1, 1), (7, 3), (90, 10), (40, 33, 1, 9), (1, 2, 3, 4)])
def test_over_a_full_cycle_each_has_its_weight(weights):
    shares = tuple(enumerate(weights, 1))
    turns = Turns(shares)
    for _ in range(2):
        assert Counter(turns.next() for _ in range(sum(weights))) == dict(shares)
