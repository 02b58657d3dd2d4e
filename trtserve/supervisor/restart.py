"""When a dead child is started again: pure, it takes the time and answers with one."""

from collections import deque
from dataclasses import dataclass

from trtserve.clock import NS_PER_MS, NS_PER_S

FIRST_DELAY_NS = 250 * NS_PER_MS
"""The second restart in a row waits this long; each further one twice as long."""

MAX_DELAY_NS = 15 * NS_PER_S
"""The slow pace: rare enough to cost nothing, often enough to notice a cause that went away."""

HEALTHY_NS = 60 * NS_PER_S
"""A child that lived this long was healthy: whatever came before is forgotten."""

HOPELESS_DEATHS = 5
"""Deaths within HEALTHY_NS after which nobody should wait for the next try."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Start again at `at_ns`. `hopeless`: requests should not wait for it."""

    at_ns: int
    hopeless: bool


class RestartPolicy:
    """The restarts of one child: at once the first time, then after 0.25 s, doubling to 15 s.

    After five deaths within a minute it is hopeless until it has lived a minute; it is still
    tried at the slow pace.
    """

    def __init__(self) -> None:
        self._started_ns = 0
        self._in_a_row = 0
        self._recent: deque[int] = deque(maxlen=HOPELESS_DEATHS)
        self._hopeless = False

    def started(self, now: int) -> None:
        """A new process was started."""
        self._started_ns = now

    def died(self, now: int) -> Restart:
        """The process is dead: when to start the next one."""
        if now - self._started_ns >= HEALTHY_NS:
            self._in_a_row = 0
            self._recent.clear()
            self._hopeless = False
        self._recent.append(now)
        if len(self._recent) == HOPELESS_DEATHS and now - self._recent[0] <= HEALTHY_NS:
            self._hopeless = True
        if self._hopeless:
            delay = MAX_DELAY_NS
        elif self._in_a_row == 0:
            delay = 0
        else:
            delay = min(FIRST_DELAY_NS << (self._in_a_row - 1), MAX_DELAY_NS)
        self._in_a_row += 1
        return Restart(now + delay, self._hopeless)
