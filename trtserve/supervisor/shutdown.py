"""The steps of stopping, each with its time limit: pure, it takes the time and gives orders.

1. Draining: not ready, front ends keep serving for the drain delay, so that balancers notice.
2. Front ends: they accept nothing new and finish what is in flight.
3. Workers: nobody needs them any more.
4. Done.

One deadline holds for 2 and 3 together; what is still alive then is killed.
"""

from collections.abc import Set
from dataclasses import dataclass
from enum import IntEnum

from trtserve.clock import NS_PER_S
from trtserve.ipc.message import Drain, Stop
from trtserve.supervisor.role import Kind

KILL_AFTER_NS = 5 * NS_PER_S
"""On top of the drain timeout: a child that obeys needs less to end after its grace."""

HURRY_NS = 2 * NS_PER_S
"""After a second signal everything is killed within this time."""


class Step(IntEnum):
    """Where the daemon is between serving and gone."""

    SERVING = 0
    DRAINING = 1
    FRONT_ENDS = 2
    WORKERS = 3
    DONE = 4


@dataclass(frozen=True, slots=True)
class Order:
    """What to do with all living children of a kind: send a message, or (None) kill them."""

    kind: Kind
    message: Drain | Stop | None


class Shutdown:
    """Knows which step is due and whom to tell.

    `turn` is called often, with the kinds that are still alive; each order comes once, except
    for killing, which comes again every second until nothing is alive.
    """

    def __init__(self, drain_delay_seconds: float, drain_timeout_seconds: float) -> None:
        self._delay_ns = int(drain_delay_seconds * NS_PER_S)
        self._timeout_ns = int(drain_timeout_seconds * NS_PER_S)
        self._step_ns = 0
        self._grace_ns = 0
        self._kill_ns: int | None = None
        self._hurried = False
        self._pending: list[Order] = []
        self.step = Step.SERVING

    @property
    def stopping(self) -> bool:
        """Whether the daemon is on its way out."""
        return self.step is not Step.SERVING

    def begin(self, now: int, *, at_once: bool = False) -> None:
        """Start stopping. `at_once` skips the drain delay. A second call changes nothing."""
        if self.step is Step.SERVING:
            self.step = Step.DRAINING
            self._step_ns = now if at_once else now + self._delay_ns
            self._pending.append(Order(Kind.FRONT_END, Drain()))

    def hurry(self, now: int) -> None:
        """Waste no more time: no grace for anybody, then kill."""
        if self._hurried or self.step is Step.DONE:
            return
        self.begin(now, at_once=True)
        self._hurried = True
        self._step_ns = self._grace_ns = now
        self._kill_ns = now + HURRY_NS
        if self.step is Step.FRONT_ENDS:
            self._pending.append(Order(Kind.FRONT_END, Stop(0.0)))
        elif self.step is Step.WORKERS:
            self._pending.append(Order(Kind.WORKER, Stop(0.0)))

    def turn(self, now: int, alive: Set[Kind]) -> list[Order]:
        """The orders that are due."""
        if self.step is Step.SERVING:
            return []
        if self.step is Step.DRAINING and (now >= self._step_ns or not alive):
            self.step = Step.FRONT_ENDS
            if self._kill_ns is None:
                self._grace_ns = now + self._timeout_ns
                self._kill_ns = self._grace_ns + KILL_AFTER_NS
            self._pending.append(self._stop(Kind.FRONT_END, now))
        if self.step is Step.FRONT_ENDS and Kind.FRONT_END not in alive:
            self.step = Step.WORKERS
            self._pending.append(self._stop(Kind.WORKER, now))
        if self.step is Step.WORKERS and not alive:
            self.step = Step.DONE
        orders, self._pending = [order for order in self._pending if order.kind in alive], []
        if self._kill_ns is not None and now >= self._kill_ns:
            orders += [Order(kind, None) for kind in sorted(alive)]
            self._kill_ns = now + NS_PER_S
        return orders

    def wake_ns(self) -> int | None:
        """When `turn` has something to do by itself, or None."""
        if self.step is Step.DRAINING:
            return self._step_ns
        return self._kill_ns if self.stopping else None

    def _stop(self, kind: Kind, now: int) -> Order:
        return Order(kind, Stop(max(0, self._grace_ns - now) / NS_PER_S))
