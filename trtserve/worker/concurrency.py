"""How many lanes are worth using at once, learned from how much batches slow one another down.

Lanes of one device share its compute. Once that is busy, one more batch beside the others makes
all of them slower and hardly any of them sooner: the rate rises by what the new lane hides of its
copies, and every request waits longer. On a CPU whose lanes have cores of their own each lane
counts in full. So lanes beyond the useful ones are given full batches: where those wait, the rate
is what matters; else a batch had better wait and grow. A batch that has waited as long as it will
run takes such a lane too: others may hold the useful ones for long.
"""

from trtserve.errors import ProtocolError

PAYS = 0.5
"""One more lane has to raise the rate by at least half of what the lanes before it do each."""

SAMPLES = 24
"""Batches at a level before it is judged."""

WEIGHT = 1 / 16
"""What one batch adds to a level's mean."""

REFRESH = 512
"""Batches after which the level beyond the best is tried again, for SAMPLES batches: models and
traffic change."""

_NEAR = 0.25
"""A batch counts for a level if the lanes that were busy while it ran, averaged, are this near."""


class Concurrency:
    """Learns, and says in `useful` how many lanes to use at most. `lanes`: how many there are.

    The measure is the rate of `k` lanes against one that runs alone: k times the time a batch
    takes alone over the time it had its lane. That includes what the lane waits for, since more
    lanes fill each other's gaps. Two lanes are used in any case. Until something is learned all
    are.
    """

    __slots__ = ("_batches", "_rates", "_samples", "lanes", "useful")

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.useful = lanes
        self._rates = [0.0] * (lanes + 1)
        self._samples = [0] * (lanes + 1)
        self._batches = 0

    def record(self, busy: float, alone_ns: int, taken_ns: int) -> None:
        """A batch had its lane for `taken_ns` while `busy` lanes were busy on average, itself
        included; by itself it would have run for `alone_ns`."""
        level = round(busy)
        if not 2 <= level <= self.lanes or abs(busy - level) > _NEAR or taken_ns <= 0:
            return
        rate = level * alone_ns / taken_ns
        self._samples[level] += 1
        weight = max(WEIGHT, 1 / self._samples[level])
        self._rates[level] += (rate - self._rates[level]) * weight
        self._batches += 1
        if self._batches >= REFRESH and self.useful < self.lanes:
            self._batches = 0
            self._samples[self.useful + 1] = 0
        self.useful = self._find_useful()

    def _find_useful(self) -> int:
        """The level beyond which one more lane does not pay. One that was not judged is tried."""
        for level in range(2, self.lanes + 1):
            if self._samples[level] < SAMPLES:
                return level
            worth = 1 + PAYS / (level - 1)
            if level > 2 and self._rates[level] < self._rates[level - 1] * worth:
                return level - 1
        return self.lanes


class LaneBudget:
    """How many batches may run at once: of all lanes those that are not lent, and for batches that
    are not full those that pay."""

    __slots__ = ("_busy", "_integral", "_learner", "_since", "lanes", "reserved")

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.reserved = 0
        self._learner = Concurrency(lanes)
        self._busy = 0
        self._integral = 0
        self._since = 0

    @property
    def in_all(self) -> int:
        """All lanes, the reserved ones too."""
        return self.lanes + self.reserved

    @property
    def room(self) -> bool:
        """Whether one more batch may start, if it is full or overdue."""
        return self._busy < self.lanes

    @property
    def useful_room(self) -> bool:
        """Whether one more batch may start in any case."""
        return self._busy < self.lanes and self._busy < self._learner.useful

    def reserve(self) -> None:
        """Take a lane out. Raises ProtocolError where none is left."""
        if not self.lanes:
            raise ProtocolError("a lane is reserved, but none is left in the pool")
        self.lanes -= 1
        self.reserved += 1

    def give_back(self) -> None:
        """Put a reserved lane back. Raises ProtocolError where none is reserved."""
        if not self.reserved:
            raise ProtocolError("a lane is returned, but none is reserved: returned twice?")
        self.reserved -= 1
        self.lanes += 1

    def started(self, now: int) -> int:
        """A batch starts. Returns a mark to say when it has finished."""
        self._pass(now)
        self._busy += 1
        return self._integral

    def finished(self, now: int, mark: int, started_ns: int, alone_ns: int | None) -> None:
        """It has finished. `alone_ns`: what it takes alone; None: unknown, nothing is learned."""
        self._pass(now)
        self._busy -= 1
        taken_ns = now - started_ns
        if alone_ns and taken_ns > 0:
            self._learner.record((self._integral - mark) / taken_ns, alone_ns, taken_ns)

    def _pass(self, now: int) -> None:
        if now > self._since:
            self._integral += self._busy * (now - self._since)
            self._since = now
