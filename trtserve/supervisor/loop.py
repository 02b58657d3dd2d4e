"""The supervisor's loop: one thread that waits for children, signals and questions, and acts.

The decisions are made elsewhere: when to restart (restart.py), the steps of stopping
(shutdown.py), the rounds of polls (polls.py).
"""

import logging
import selectors
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace

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
    Traced,
)
from trtserve.supervisor import snapshot as views
from trtserve.supervisor.control import ModelControl
from trtserve.supervisor.crew import Crew
from trtserve.supervisor.desk import Desk, Question
from trtserve.supervisor.job import Confirmation
from trtserve.supervisor.listen import netloc
from trtserve.supervisor.polls import Polls
from trtserve.supervisor.post import Post
from trtserve.supervisor.shutdown import Shutdown, Step
from trtserve.supervisor.signals import Signals
from trtserve.supervisor.snapshot import Addresses, Snapshot
from trtserve.supervisor.status_watch import StatusWatch

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


_Asker = Question | _FrontEndAsks | _OperatorAsks | Confirmation


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
        control: ModelControl,
        settled: Callable[[Snapshot], None],
    ) -> None:
        self._crew = crew
        self._control = control
        self._signals = signals
        self._desk = desk
        self._settled = settled
        self._was_settled = False
        self._not_ready: tuple[str, ...] = ("it has not started",)
        self._failure: OperatorError | None = None
        self._polls: Polls[_Asker] = Polls()
        self._watch = StatusWatch()
        self._shutdown = Shutdown(settings.drain_delay_seconds, settings.drain_timeout_seconds)
        self._addresses = Addresses(
            netloc(settings.host, settings.grpc_port),
            netloc(settings.http_host or settings.host, settings.http_port),
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
            post = self._crew.gone.popleft()
            self._polls.gone(post.role.name)
            self._control.died(post)
        self._crew.winding_down = self._shutdown.stopping
        self._crew.turn(now)
        while self._crew.started:
            self._control.started(self._crew.started.popleft())
        if self._shutdown.stopping:
            self._control.stop()
        self._control.turn(now)
        self._watch.turn(self._crew, now)
        self._note_readiness()
        self._answer(now)
        self._carry_out(now)

    def _patience(self, now: int) -> float:
        """Seconds until something is due by itself."""
        due = (self._crew.wake_ns(), self._polls.wake_ns(), self._shutdown.wake_ns(),
               self._control.wake_ns(), self._watch.wake_ns())
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
        self._control.heard(post, message)
        match message:
            case Heartbeat(token=token):
                self._polls.answered(post.role.name, token)
            case Traced():
                self._watch.heard(message, now)
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
        self._not_ready = views.not_ready(
            posts, stopping=self._shutdown.stopping, wanted=self._control.counted
        )
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
            if question.watching:
                self._watch.looked(now)
            if question.fresh:
                self._polls.ask(question)
            else:
                question.answer.set_result(self._watched(question, self._snapshot()))
        while self._control.confirmations:
            self._polls.ask(self._control.confirmations.popleft())
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
                asker.answer.set_result(self._watched(asker, snapshot))
            elif isinstance(asker, Confirmation):
                if not self._control.confirmed(asker):
                    self._polls.ask(asker)
            elif isinstance(asker, _OperatorAsks):
                self._settled(snapshot)
            elif asker.post.child is not None and asker.post.child.pid == asker.pid:
                self._crew.tell(
                    asker.post, StatisticsReply(asker.token, snapshot.statistics)
                )

    def _watched(self, question: Question, snapshot: Snapshot) -> Snapshot:
        if not question.watching:
            return snapshot
        return replace(snapshot, watched=self._watch.view(self._crew, now_ns()))

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
