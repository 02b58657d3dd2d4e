"""Arithmetic of time intervals: pure functions over (start, end) pairs of whole numbers.

A *span* is a list of intervals that are in order, apart from one another, and not empty.
"""

from collections.abc import Iterable

Interval = tuple[int, int]
Span = list[Interval]


def union(intervals: Iterable[Interval]) -> Span:
    """The time that is in at least one of the intervals, which may lie in any way."""
    span: Span = []
    for start, end in sorted(intervals):
        if start >= end:
            continue
        if span and start <= span[-1][1]:
            span[-1] = (span[-1][0], max(span[-1][1], end))
        else:
            span.append((start, end))
    return span


def intersection(one: Span, other: Span) -> Span:
    """The time that is in both."""
    span: Span = []
    here = there = 0
    while here < len(one) and there < len(other):
        start = max(one[here][0], other[there][0])
        end = min(one[here][1], other[there][1])
        if start < end:
            span.append((start, end))
        # The one that ends first meets nothing more.
        if one[here][1] < other[there][1]:
            here += 1
        else:
            there += 1
    return span


def length(span: Span) -> int:
    """How much time it is."""
    return sum(end - start for start, end in span)
