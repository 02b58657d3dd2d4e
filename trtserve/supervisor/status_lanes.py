"""The batches of the last seconds, for the timeline of the status page. Pure.

Workers tell of their batches only while somebody looks, so that nobody else pays for it.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from trtserve.clock import NS_PER_S
from trtserve.ipc.recording import TracedBatch

LOOKS_NS = 10 * NS_PER_S
"""So long after the last look somebody is taken to be looking still."""

SPAN_NS = 10 * NS_PER_S
"""How long batches are kept."""

MAX_BATCHES = 8192
"""How many are kept at most: some 4 MiB. Beyond it the oldest go first."""


@dataclass(frozen=True, slots=True)
class LaneBatch:
    """One batch. `number` counts up over all devices, in the order in which they were heard of."""

    number: int
    device: str
    batch: TracedBatch

    @property
    def ended_ns(self) -> int:
        """When the lane was done with it."""
        batch = self.batch
        return (
            batch.began_ns + batch.stage_ns + batch.h2d_ns + batch.compute_ns + batch.d2h_ns
        )


class Lanes:
    """Who looks, whom to tell of it, and what was heard."""

    def __init__(self) -> None:
        self._looked_ns: int | None = None
        self._told: dict[str, int] = {}
        self._heard: deque[LaneBatch] = deque(maxlen=MAX_BATCHES)
        self._next = 1

    def looked(self, now: int) -> None:
        """Somebody looks."""
        self._looked_ns = now

    def looking(self, now: int) -> bool:
        """Whether somebody looked lately."""
        return self._looked_ns is not None and now - self._looked_ns < LOOKS_NS

    def wake_ns(self) -> int | None:
        """When to look here again, if nothing happens before."""
        return self._looked_ns + LOOKS_NS if self._told and self._looked_ns is not None else None

    def orders(self, workers: Mapping[str, int], now: int) -> Iterator[tuple[str, bool]]:
        """Which workers to tell to begin or to end. `workers` are the pids of those that live:
        a new process knows nothing of what the one before it was told."""
        on = self.looking(now)
        for name, pid in workers.items():
            if on != (self._told.get(name) == pid):
                yield name, on
        self._told = dict(workers) if on else {}
        if not on:
            self._heard.clear()

    def heard(self, device: str, batches: Iterable[TracedBatch], now: int) -> None:
        """A worker tells of batches that have finished."""
        for batch in batches:
            self._heard.append(LaneBatch(self._next, device, batch))
            self._next += 1
        while self._heard and self._heard[0].ended_ns < now - SPAN_NS:
            self._heard.popleft()

    def recent(self, now: int) -> Sequence[LaneBatch]:
        """The batches of the last seconds, in the order of their numbers."""
        return tuple(known for known in self._heard if known.ended_ns >= now - SPAN_NS)
