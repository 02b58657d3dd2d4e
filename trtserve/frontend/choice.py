"""Which of several workers a request goes to: where its batch should finish first. Pure.

A front end knows of each worker what it has lent to it itself, and from the worker's last answer
how much lane time all that waits or runs there should take, whoever asked for it. Where it has
requests itself the next answer is on its way, and until then nothing is taken to change. Where
it has none it would never hear again that a long backlog is gone: there what others have shrinks
as time passes, as if nothing were added.
"""

from collections.abc import Sequence
from typing import NamedTuple

UNMEASURED_NS = 1_000_000
"""What a row is taken to cost where that was never measured: the order of a small vision model.
The worker's own backlog tells what the rows that wait there really cost."""


class Backlog:
    """What one worker has to do, as one front end knows it. Nanoseconds of lane time.

    `lanes` is how many it has, as far as is known; `lent_ns` is what this front end has there
    itself.
    """

    __slots__ = ("_others_ns", "_told_ns", "lanes", "lent_ns")

    def __init__(self) -> None:
        self.lanes = 1
        self.lent_ns = 0
        self._others_ns = 0
        self._told_ns = 0

    def told(self, backlog_ns: int, now: int) -> None:
        """The worker says what all that it has should take. For when `lent_ns` is up to date:
        what remains is that of others."""
        self._others_ns = max(0, backlog_ns - self.lent_ns)
        self._told_ns = now

    def others_ns(self, now: int) -> int:
        """What the worker has to do for others by now."""
        if self.lent_ns:
            return self._others_ns
        return max(0, self._others_ns - (now - self._told_ns) * self.lanes)

    def lend(self, cost_ns: int, now: int) -> None:
        """A request that should cost so much goes there."""
        self._others_ns = self.others_ns(now)
        self._told_ns = now
        self.lent_ns += cost_ns


class Candidate(NamedTuple):
    """A worker that could take a request: the requests that it has of ours already, its name, on
    how many lanes the model may be there, and what the request would cost."""

    backlog: Backlog
    lent: int
    name: str
    lanes: int
    cost_ns: int

    def finish_ns(self, now: int) -> int:
        """How long until the request is done, if it is sent there: the model's lanes work on all
        that is before it, and one of them on the request itself."""
        before_ns = self.backlog.others_ns(now) + self.backlog.lent_ns
        return before_ns // self.lanes + self.cost_ns


def first_to_finish(candidates: Sequence[Candidate], now: int) -> int:
    """The index of the worker where the request should be done first; of equals the one with
    the fewest requests, then by name."""
    places = [(each.finish_ns(now), each.lent, each.name) for each in candidates]
    return places.index(min(places))
