"""Asking all children for fresh statistics: pure, it takes the time and says who is answered.

One round runs at a time and serves everybody who asked before it began, so that any number of
scrapes costs the children no more than one answer each round.
"""

from collections.abc import Iterable
from typing import Generic, TypeVar

from trtserve.clock import NS_PER_MS

PATIENCE_NS = 500 * NS_PER_MS
"""A round ends without the children that have not answered by then; their last values count."""

T = TypeVar("T")


class Polls(Generic[T]):
    """Rounds of polls. T is whoever asks."""

    def __init__(self) -> None:
        self._waiting: list[T] = []
        self._served: list[T] = []
        self._missing: set[str] = set()
        self._token = 0
        self._until_ns: int | None = None

    def ask(self, asker: T) -> None:
        """Somebody wants the statistics after the next round."""
        self._waiting.append(asker)

    def begin(self, names: Iterable[str], now: int) -> int | None:
        """Begin a round if somebody waits and none is running: its token, to send to `names`."""
        if self._until_ns is not None or not self._waiting:
            return None
        self._served, self._waiting = self._waiting, []
        self._missing = set(names)
        self._until_ns = now + PATIENCE_NS
        self._token += 1
        return self._token

    def answered(self, name: str, token: int) -> None:
        """A child's heartbeat came; token 0 is one that nobody asked for."""
        if token == self._token:
            self._missing.discard(name)

    def gone(self, name: str) -> None:
        """A child died."""
        self._missing.discard(name)

    def finished(self, now: int) -> list[T]:
        """Those whose round is over; [] while it runs."""
        if self._until_ns is None or (self._missing and now < self._until_ns):
            return []
        self._until_ns = None
        served, self._served = self._served, []
        return served

    def wake_ns(self) -> int | None:
        """When the running round ends at the latest."""
        return self._until_ns
