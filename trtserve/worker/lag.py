"""How long the worker's loop hears nobody: from its waking up to the end of its turn."""

import selectors
from collections.abc import Callable

from trtserve import clock
from trtserve.clock import NS_PER_S
from trtserve.metrics import Histogram


class MeasuredSelector(selectors.EpollSelector):
    """Linux's selector, which also measures: between two calls of `select` lies a turn.

    Two readings of the clock and one count for each turn: half a microsecond.
    """

    def __init__(self, turns: Histogram, now: Callable[[], int] = clock.now_ns) -> None:
        super().__init__()
        self._turns = turns
        self._now = now
        self._woke = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait, once the turn that ends here has been counted."""
        if self._woke:
            self._turns.observe((self._now() - self._woke) / NS_PER_S)
        ready = super().select(timeout)
        self._woke = self._now()
        return ready
