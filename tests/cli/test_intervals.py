"""Arithmetic of intervals: by hand, and against sets of whole moments."""

import random

import pytest

from trtserve.cli.intervals import intersection, length, union


@pytest.mark.parametrize(
    ("intervals", "span"),
    [
        ([], []),
        ([(3, 3)], []),
        ([(5, 2)], []),
        ([(1, 4)], [(1, 4)]),
        ([(1, 4), (4, 6)], [(1, 6)]),
        ([(4, 6), (1, 3)], [(1, 3), (4, 6)]),
        ([(1, 9), (2, 3), (8, 12)], [(1, 12)]),
    ],
)
def test_union(intervals, span):
    assert union(intervals) == span


@pytest.mark.parametrize(
    ("one", "other", "span"),
    [
        ([], [(0, 9)], []),
        ([(0, 9)], [(0, 9)], [(0, 9)]),
        ([(0, 4)], [(4, 9)], []),
        ([(0, 9)], [(1, 2), (3, 4), (8, 12)], [(1, 2), (3, 4), (8, 9)]),
        ([(0, 3), (5, 8)], [(2, 6), (7, 9)], [(2, 3), (5, 6), (7, 8)]),
    ],
)
def test_intersection(one, other, span):
    assert intersection(one, other) == span
    assert intersection(other, one) == span


def moments(span):
    """The same as a set of moments, each one unit long."""
    return {moment for start, end in span for moment in range(start, end)}


def is_span(span):
    ends = [end for pair in span for end in pair]
    return all(start < end for start, end in span) and ends == sorted(set(ends))


@pytest.mark.parametrize("seed", range(50))
def test_it_agrees_with_sets(seed):
    generator = random.Random(seed)

    def intervals():
        return [
            (start, start + generator.randrange(12))
            for start in generator.choices(range(100), k=generator.randrange(15))
        ]

    one, other = intervals(), intervals()
    a, b = union(one), union(other)
    assert moments(a) == moments(one)
    assert length(a) == len(moments(one))
    both = intersection(a, b)
    assert moments(both) == moments(one) & moments(other)
    assert is_span(a)
    assert is_span(both)
    # The whole is its parts.
    assert length(union([*one, *other])) == length(a) + length(b) - length(both)
