"""What the supervisor's loop does for those who look at the status page."""

from collections.abc import Sequence
from dataclasses import dataclass

from trtserve.clock import NS_PER_S
from trtserve.ipc.message import ModelUpdate, Trace, Traced
from trtserve.ipc.statistics import Statistics
from trtserve.supervisor.crew import Crew
from trtserve.supervisor.role import Kind
from trtserve.supervisor.status_lanes import LaneBatch, Lanes
from trtserve.supervisor.status_window import Window


@dataclass(frozen=True, slots=True)
class Watched:
    """What only the status page asks for, at the time `now_ns`.

    `placed` are the workers' models, each with the worker's name. `earlier` are the totals at
    the begin of the last seconds, and `seconds` how long ago that was: 0 where nothing is known.
    """

    now_ns: int
    placed: tuple[tuple[str, ModelUpdate], ...]
    seconds: float
    earlier: Statistics
    batches: Sequence[LaneBatch]


class StatusWatch:
    """One for the daemon; called by its loop."""

    def __init__(self) -> None:
        self._window = Window()
        self._lanes = Lanes()

    def turn(self, crew: Crew, now: int) -> None:
        """Remember the totals once a second, and tell workers whether somebody looks."""
        if self._window.due(now):
            self._window.note(now, crew.statistics_later())
        workers = {
            post.role.name: post for post in crew.of(Kind.WORKER) if post.child is not None
        }
        pids = {name: post.child.pid for name, post in workers.items() if post.child is not None}
        for name, on in self._lanes.orders(pids, now):
            crew.tell(workers[name], Trace(on))

    def wake_ns(self) -> int | None:
        """When there is something to do without anybody asking."""
        return self._lanes.wake_ns()

    def heard(self, message: Traced, now: int) -> None:
        """A worker tells of its batches."""
        self._lanes.heard(message.device, message.batches, now)

    def looked(self, now: int) -> None:
        """Somebody asks for the status."""
        self._lanes.looked(now)

    def view(self, crew: Crew, now: int) -> Watched:
        """What they get."""
        earlier = self._window.earlier(now)
        at, statistics = earlier if earlier is not None else (now, Statistics())
        return Watched(
            now_ns=now,
            placed=tuple(
                (post.role.name, update) for post in crew.posts for update in post.models.values()
            ),
            seconds=(now - at) / NS_PER_S,
            earlier=statistics,
            batches=self._lanes.recent(now),
        )
