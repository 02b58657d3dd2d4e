"""How often somebody may call: so many at once, and so many a second. Pure."""

from dataclasses import dataclass

from trtserve.clock import NS_PER_MS, NS_PER_S

MAX_PUSHBACK_MS = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests, or what else comes, a second in the long run, and how many at once."""

    requests_per_second: float
    burst: float


class Allowance:
    """What one caller, or one kind of log lines, has left. Full at the start."""

    __slots__ = ("_all_ns", "_each_ns", "_full_ns", "rate")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._each_ns = max(1, round(NS_PER_S / rate.requests_per_second))
        self._all_ns = round(self._each_ns * rate.burst)
        # When it is full again: one number that says how much is left.
        self._full_ns = 0

    def take(self, now: int) -> int:
        """Take one request: 0, or the milliseconds until there is one."""
        full = max(self._full_ns, now) + self._each_ns
        missing = full - now - self._all_ns
        if missing > 0:
            return min(MAX_PUSHBACK_MS, missing // NS_PER_MS + 1)
        self._full_ns = full
        return 0
