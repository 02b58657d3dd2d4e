"""The supervisor's loop: one thread that waits for children, signals and questions, and acts.

The decisions are made elsewhere: when to restart (restart.py), the steps of stopping
(shutdown.py), the rounds of polls (polls.py).
"""

import logging
import selectors
import signal
from collections.abc import Callable
from dataclasses import dataclass

from trtserve.clock import NS_PER_S, now_ns
from trtserve.config import Settings
from trtserve.errors import OperatorError
from trtserve.ipc.message import (
    AnyMessage,
    Fatal,
    Heartbeat,
    Poll,
    StatisticsReply,
    StatisticsRequest,
)
from trtserve.supervisor import snapshot as views
from trtserve.supervisor.crew import Crew
from trtserve.supervisor.desk import Desk, Question
from trtserve.supervisor.listen import netloc
from trtserve.supervisor.polls import Polls
from trtserve.supervisor.post import Post
from trtserve.supervisor.shutdown import Shutdown, Step
from trtserve.supervisor.signals import Signals
from trtserve.supervisor.snapshot import Addresses, Snapshot

_log = logging.getLogger(__name__)

TICK_NS = NS_PER_S
"""The loop turns at least this often: to see hung children, and to prove that it lives."""


@dataclass(frozen=True, slots=True)
class _FrontEndAsks:
    """A front end's StatisticsRequest, from the process `pid` in a post."""

    post: Post
    pid: int
    token: int


class _OperatorAsks:
    """Everything has settled: the report wants statistics that know the lanes."""


_Asker = Question | _FrontEndAsks | _OperatorAsks


class Supervisor:
    """Keeps the crew alive until it is told to stop.

    `settled` is called once, when all front ends listen and all workers have tried all models.
    The selector's entries hold what to call, with the time, when their descriptor is ready.
    """

    def __init__(
        self,
        settings: Settings,
        crew: Crew,
        signals: Signals,
        desk: Desk,
        settled: Callable[[Snapshot], None],
    ) -> None:
        self._crew = crew
        self._signals = signals
        self._desk = desk
        self._settled = settled
        self._was_settled = False
        self._not_ready: tuple[str, ...] = ("it has not started",)
        self._failure: OperatorError | None = None
        self._polls: Polls[_Asker] = Polls()
        self._shutdown = Shutdown(settings.drain_delay_seconds, settings.drain_timeout_seconds)
        self._addresses = Addresses(
            netloc(settings.host, settings.grpc_port),
            netloc(settings.host, settings.http_port),
            settings.socket,
        )

    def run(self, selector: selectors.BaseSelector) -> None:
        """Loop until everybody has gone. Raises OperatorError for a child's Fatal at start."""
        self._turn(now_ns())
        while self._shutdown.step is not Step.DONE:
            for key, _ in selector.select(self._patience(now_ns())):
                key.data(now_ns())
            self._turn(now_ns())
        if self._failure is not None:
            raise self._failure

    def _turn(self, now: int) -> None:
        self._desk.turned_ns = now
        for number in self._signals.take():
            self._signalled(number, now)
        while self._crew.news:
            self._heard(*self._crew.news.popleft(), now)
        while self._crew.gone:
            self._polls.gone(self._crew.gone.popleft().role.name)
        self._crew.winding_down = self._shutdown.stopping
        self._crew.turn(now)
        self._note_readiness()
        self._answer(now)
        self._carry_out(now)

    def _patience(self, now: int) -> float:
        """Seconds until something is due by itself."""
        due = (self._crew.wake_ns(), self._polls.wake_ns(), self._shutdown.wake_ns())
        wake = min((at for at in due if at is not None), default=now + TICK_NS)
        return max(0, min(wake - now, TICK_NS)) / NS_PER_S

    def _signalled(self, number: int, now: int) -> None:
        name = signal.Signals(number).name
        if self._shutdown.stopping:
            _log.warning("%s again: hurrying", name)
            self._shutdown.hurry(now)
        else:
            _log.info("%s: stopping", name)
            self._shutdown.begin(now, at_once=number == signal.SIGINT)

    def _heard(self, post: Post, message: AnyMessage, now: int) -> None:
        """Act on what a child said; what it said about itself is noted already."""
        match message:
            case Heartbeat(token=token):
                self._polls.answered(post.role.name, token)
            case StatisticsRequest(token=token):
                if post.child is not None:
                    self._polls.ask(_FrontEndAsks(post, post.child.pid, token))
            case Fatal(problem=problem, cure=cure):
                error = OperatorError(problem, where=post.role.name, cure=cure)
                if self._was_settled or self._shutdown.stopping:
                    _log.error("%s", error)
                else:
                    self._failure = error
                    self._shutdown.hurry(now)

    def _note_readiness(self) -> None:
        """Log changes, and have it reported once that everything has settled."""
        posts = self._crew.posts
        before = self._not_ready
        self._not_ready = views.not_ready(posts, stopping=self._shutdown.stopping)
        turned = bool(self._not_ready) != bool(before)
        if self._was_settled and turned and not self._shutdown.stopping:
            _log.info("%s", "; ".join(("not ready", *self._not_ready))
                      if self._not_ready else "ready again")
        if not self._was_settled and not self._shutdown.stopping and views.settled(posts):
            self._was_settled = True
            self._polls.ask(_OperatorAsks())

    def _answer(self, now: int) -> None:
        """Answer questions: at once, or after a round of polls."""
        for question in self._desk.take():
            if question.fresh:
                self._polls.ask(question)
            else:
                question.answer.set_result(self._snapshot())
        self._reply(self._polls.finished(now))
        living = self._crew.living()
        token = self._polls.begin((post.role.name for post in living), now)
        if token is not None:
            self._crew.tell_all(living, Poll(token))
            self._reply(self._polls.finished(now))  # at once if nobody lives

    def _reply(self, askers: list[_Asker]) -> None:
        if not askers:
            return
        snapshot = self._snapshot()
        for asker in askers:
            if isinstance(asker, Question):
                asker.answer.set_result(snapshot)
            elif isinstance(asker, _OperatorAsks):
                self._settled(snapshot)
            elif asker.post.child is not None and asker.post.child.pid == asker.pid:
                self._crew.tell(
                    asker.post, StatisticsReply(asker.token, snapshot.statistics)
                )

    def _carry_out(self, now: int) -> None:
        """Give the orders of stopping that are due."""
        for order in self._shutdown.turn(now, self._crew.alive()):
            posts = self._crew.of(order.kind)
            if order.message is None:
                _log.error("a %s does not stop: killed", order.kind)
                self._crew.kill(posts)
            else:
                self._crew.tell_all(posts, order.message)

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            addresses=self._addresses,
            settled=self._was_settled,
            not_ready=self._not_ready,
            processes=tuple(map(views.view, self._crew.posts)),
            models=views.models(self._crew.posts),
            statistics=self._crew.statistics(),
        )
