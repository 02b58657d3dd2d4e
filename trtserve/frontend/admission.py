"""Who may come in: a permit for each request, taken without waiting and held until the answer.

Pure. Bytes are bounded by the arena; here requests are.
"""

from dataclasses import dataclass

from trtserve.errors import Overloaded

_MIN_PUSHBACK_MS = 1
_MAX_PUSHBACK_MS = 2000


@dataclass(frozen=True, slots=True)
class AdmissionStatistics:
    """Requests in flight, and how many may be."""

    in_flight: int
    limit: int


class Admission:
    """Counts requests in flight against a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_flight = 0
        self._typical_ns = 10_000_000.0

    def take(self) -> None:
        """Let one request in. Raises Overloaded, with when to try again."""
        if self._in_flight >= self._limit:
            raise Overloaded(
                f"{self._in_flight} requests are in flight, which is the limit (max_in_flight)",
                self.pushback_ms(),
            )
        self._in_flight += 1

    def release(self, duration_ns: int) -> None:
        """A request was answered after that time."""
        self._in_flight -= 1
        # A moving average over about the last hundred requests.
        self._typical_ns += (duration_ns - self._typical_ns) * 0.01

    def pushback_ms(self) -> int:
        """When a refused request should come again: after about one typical duration."""
        return max(_MIN_PUSHBACK_MS, min(_MAX_PUSHBACK_MS, int(self._typical_ns / 1e6)))

    def statistics(self) -> AdmissionStatistics:
        """How full it is."""
        return AdmissionStatistics(self._in_flight, self._limit)
