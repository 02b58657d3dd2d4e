"""The free lanes, and lending one to the loader."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trtserve.worker.batcher import Batcher
from trtserve.worker.lane import Lane


@dataclass(frozen=True, slots=True)
class Borrow:
    """The loader needs a lane, as soon as no batch is on it. `take` is called with it."""

    lane: int
    take: Callable[[Lane], None]


@dataclass(frozen=True, slots=True)
class GiveBack:
    """The loader has done with a lane."""

    lane: Lane


class LanePool:
    """All lanes: free, with a batch on them, or lent. Keeps the batcher's count of them true."""

    def __init__(self, lanes: Sequence[Lane], batcher: Batcher) -> None:
        self._batcher = batcher
        self._free = list(lanes)
        self._wanted: dict[int, list[Callable[[Lane], None]]] = {}

    def take(self) -> Lane:
        """A free lane. The batcher starts no batch without one."""
        return self._free.pop()

    def put(self, lane: Lane) -> None:
        """Its batch is done."""
        waiting = self._wanted.get(lane.index)
        if waiting:
            self._lend(lane, waiting.pop(0))
        else:
            self._free.append(lane)

    def borrow(self, order: Borrow) -> None:
        """Lend the lane now, or when its batch is done."""
        for lane in self._free:
            if lane.index == order.lane:
                self._free.remove(lane)
                self._lend(lane, order.take)
                return
        self._wanted.setdefault(order.lane, []).append(order.take)

    def give_back(self, lane: Lane) -> None:
        """Take a lent lane back."""
        self._batcher.return_lane()
        self.put(lane)

    def _lend(self, lane: Lane, take: Callable[[Lane], None]) -> None:
        self._batcher.reserve_lane()
        take(lane)
