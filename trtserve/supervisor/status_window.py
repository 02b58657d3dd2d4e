"""Rates and latencies of the last seconds, from totals that only grow. Pure."""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate

from trtserve.clock import NS_PER_S
from trtserve.ipc.statistics import Statistics

WINDOW_NS = 10 * NS_PER_S
"""What "the last seconds" are."""

STEP_NS = NS_PER_S
"""How often the totals are remembered: as often as heartbeats bring new ones."""

Read = Callable[[], Statistics]
"""Adds up the totals of one moment. Costs something, so it is done only when somebody looks."""


class Window:
    """The totals of the last seconds, one a second."""

    def __init__(self) -> None:
        self._known: deque[tuple[int, Read]] = deque()

    def due(self, now: int) -> bool:
        """Whether it is time to remember again."""
        return not self._known or now - self._known[-1][0] >= STEP_NS

    def note(self, now: int, read: Read) -> None:
        """Remember the totals of this moment. Those from before the window go, but for one."""
        self._known.append((now, read))
        while len(self._known) > 1 and self._known[1][0] <= now - WINDOW_NS:
            self._known.popleft()

    def earlier(self, now: int) -> tuple[int, Statistics] | None:
        """The totals at the window's begin, and when that was; None where only a moment is
        known."""
        if not self._known or now - self._known[0][0] < STEP_NS // 2:
            return None
        at, read = self._known[0]
        return at, read()


def quantile(edges: Sequence[float], counts: Sequence[int], part: float) -> float | None:
    """The value below which that part of the observations lies; None without observations.

    `counts` are of each bucket, the last one of what is above all edges. Within a bucket values
    are taken to be spread evenly; above the last edge nothing is known, and that edge is given.
    """
    cumulative = list(accumulate(counts))
    if not cumulative or cumulative[-1] <= 0:
        return None
    wanted = part * cumulative[-1]
    at = bisect_left(cumulative, wanted)
    if at >= len(edges):
        return edges[-1]
    low = edges[at - 1] if at else 0.0
    below = cumulative[at - 1] if at else 0
    return low + (edges[at] - low) * (wanted - below) / max(counts[at], 1)
