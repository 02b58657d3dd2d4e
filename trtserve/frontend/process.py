"""A front end process: the gRPC server, its workers' links, and the supervisor's orders."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import uvloop

from trtserve.clock import NS_PER_S
from trtserve.config import Settings
from trtserve.errors import ConfigurationError, OperatorError, Unavailable
from trtserve.frontend import batch_service, debug_service, inference_service
from trtserve.frontend.admission import Admission
from trtserve.frontend.control import ControlCalls
from trtserve.frontend.dispatch import Dispatcher
from trtserve.frontend.health import Health
from trtserve.frontend.link import WorkerLink
from trtserve.frontend.roster import Roster
from trtserve.frontend.server import GrpcServer
from trtserve.frontend.telemetry import Telemetry
from trtserve.ipc import message as m
from trtserve.ipc.arena import Arena
from trtserve.ipc.channel import Channel
from trtserve.ipc.statistics import Statistics
from trtserve.metrics import Recorder
from trtserve.model.catalog import Catalog
from trtserve.proto import trtserve_pb2  # noqa: F401  (registers its messages)
from trtserve.security.keeper import kept

log = logging.getLogger(__name__)

_HEARTBEAT_SECONDS = 1.0
_EXPIRY_SECONDS = 0.05
"""How often parked requests are looked at; only while there are any."""

LINGER_TURNS = 8
"""Turns of the loop that messages to workers wait for company, some 10 us each."""

COMPANY_FLUSHES = 32
"""Flushes for which two requests at once are remembered. A lone client never has two, and never
waits."""

_MAX_UNREAD = 512
"""Datagrams of one worker that are read at once: more than a socket holds."""

_HEALTH_NAMES = ("", inference_service.SERVICE, batch_service.SERVICE)

_SERVICES = (inference_service.SERVICE, batch_service.SERVICE, debug_service.SERVICE)


def main(control: Channel, start: m.Start) -> int:
    """Run until the supervisor says Stop or dies. Returns the exit status."""
    settings = msgspec.json.decode(start.settings, type=Settings)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)
    try:
        front_end = FrontEnd(control, start, settings)
    except ConfigurationError as error:
        control.send(m.Fatal(error.problem, error.cure))
        control.flush()
        return 1
    status: int = uvloop.run(front_end.run())
    return status


_NO_NEWS = (
    "ExecuteBatchError raised in core",
    "Invalid encoding on",
    "Unexpected [UnicodeDecodeError] raised by servicer method",
)
"""How lines of gRPC's begin that come with a traceback and mean nothing: a call ended (its
deadline, its client) in the moment that it was answered, so that nobody waits for that answer; or
somebody sent metadata or a method's name that is not UTF-8, who could fill a disk with them."""


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_NO_NEWS)


class FrontEnd:
    """One front end. Constructed on its event loop's thread, run once."""

    def __init__(self, control: Channel, start: m.Start, settings: Settings) -> None:
        self._control = control
        self._start = start
        self._settings = settings
        self._arena = Arena.create(settings.arena_bytes, f"trtserve {start.name}")
        self._admission = Admission(settings.max_in_flight)
        self._recorder = Recorder()
        self._telemetry = Telemetry(settings, start.name, self._recorder)
        self._dispatcher = Dispatcher(
            self._arena, self._admission, int(settings.replay_patience_seconds * NS_PER_S),
            self._want_flush, tracer=self._telemetry.tracer,
        )
        self._roster = Roster(len(settings.devices.split(",")), self._use)
        self._links: dict[str, WorkerLink] = {}
        self._flush_wanted = False
        self._company = 0
        self._turns = 0
        self._draining = False
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self._next_token = 1
        self._health = Health()
        self._health_said: bool | None = None
        self._server = GrpcServer(
            settings, start.index, lambda: self._roster.catalog, self._dispatcher.refusals.note,
            kept(start.files),
        )
        make_call = self._server.make_call
        self._service = inference_service.InferenceService(
            self._dispatcher, lambda: self._ready, self._ask_statistics, make_call=make_call,
            control=ControlCalls(settings, self._ask_control),
        )
        self._batches = batch_service.BatchService(self._dispatcher, make_call=make_call)
        self._debug = debug_service.DebugService(self._tell_workers)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Serve."""
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._control.fileno(), self._read_control)
        handlers = (self._service.handler(), self._batches.handler(), self._debug.handler())
        try:
            addresses = self._server.open(_SERVICES, handlers, self._health)
        except OperatorError as error:
            self._control.send(m.Fatal(str(error), error.cure))
            self._control.flush()
            return 1
        except (RuntimeError, OSError) as error:
            self._control.send(m.Fatal(
                f"gRPC can not listen on {self._settings.host}:{self._settings.grpc_port}: "
                f"{error}", "Choose another --host or --grpc-port",
            ))
            self._control.flush()
            return 1
        await self._server.start()
        self._spawn(self._watch_server())
        self._control.send(m.Listening(tuple(addresses)))
        self._say_health()
        self._telemetry.start(self._loop)
        self._beat()
        self._expire()
        try:
            return await self._ended
        finally:
            self._loop.remove_reader(self._control.fileno())
            for link in self._links.values():
                link.close()
            self._arena.close()
            self._telemetry.close()

    async def _watch_server(self) -> None:
        """End with the server: a front end that lives and serves nobody would stay unnoticed."""
        try:
            await self._server.ended()
        except Exception:
            log.exception("the gRPC server has failed")
        if not self._draining and not self._ended.done():
            log.error("the gRPC server has ended by itself; this front end ends too")
            self._ended.set_result(1)

    # --- readiness -----------------------------------------------------------------------

    @property
    def _ready(self) -> bool:
        """Whether every model that should serve does, and will for a while."""
        return not self._draining and self._roster.ready

    def _say_health(self) -> None:
        ready = self._ready
        if ready != self._health_said:
            self._health_said = ready
            for name in _HEALTH_NAMES:
                self._health.set(name, ready)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- the supervisor ------------------------------------------------------------------

    def _read_control(self) -> None:
        messages = self._control.receive()
        if messages is None:
            # The supervisor is dead: nothing may outlive it.
            os._exit(1)
        for message in messages:
            match message:
                case m.Connect(peer):
                    self._connect(peer)
                case m.Reaped(peer, hopeless):
                    self._reaped(peer, hopeless)
                case m.Poll(token):
                    self._hear_workers()
                    self._control.send(m.Heartbeat(token, self._statistics()))
                case m.StatisticsReply(token, statistics):
                    self._answered(token, statistics)
                case m.ControlReply(token):
                    self._answered(token, message)
                case m.Wanted():
                    self._roster.wanted(message)
                case m.Drain():
                    self._draining = True
                    self._say_health()
                case m.Stop(grace):
                    self._draining = True
                    self._spawn(self._stop(grace))
                case _:
                    log.error("unexpected on the control channel: %s", type(message).__name__)
        self._want_flush()

    async def _stop(self, grace: float) -> None:
        stopped = asyncio.ensure_future(self._server.stop(grace))
        self._service.stop_reading()
        self._health.stop_watches()
        self._debug.stop()
        await stopped
        # Calls that outlast the grace were cancelled by gRPC; what they left goes here.
        self._dispatcher.fail_all(lambda: Unavailable("the server is shutting down"))
        self._control.send(m.Heartbeat(0, self._statistics()))
        self._control.flush()
        if not self._ended.done():
            self._ended.set_result(0)

    def _beat(self) -> None:
        self._dispatcher.refusals.flush()
        self._control.send(m.Heartbeat(0, self._statistics()))
        self._want_flush()
        self._loop.call_later(_HEARTBEAT_SECONDS, self._beat)

    def _statistics(self) -> Statistics:
        self._dispatcher.counts.write(self._recorder)
        self._server.look(self._recorder)
        self._recorder.errors = self._dispatcher.refusals.recent.samples()
        self._telemetry.write(self._recorder)
        self._recorder.gauge("requests_in_flight", (), self._dispatcher.in_flight)
        assert self._arena.allocator is not None  # made by create()
        arena = self._arena.allocator.statistics()
        self._recorder.gauge("arena_bytes", (self._start.name,), arena.capacity)
        self._recorder.gauge("arena_used_bytes", (self._start.name,), arena.used)
        return self._recorder.statistics()

    async def _ask_statistics(self) -> Statistics:
        token, question = self._question()
        self._control.send(m.StatisticsRequest(token))
        statistics: Statistics = await question
        return statistics

    async def _ask_control(self, request: m.ControlRequest, fd: int | None) -> m.ControlReply:
        token, question = self._question()
        self._control.send(msgspec.structs.replace(request, token=token), fd)
        reply: m.ControlReply = await question
        return reply

    def _question(self) -> tuple[int, asyncio.Future[Any]]:
        """A token for a question to the supervisor, and what will have its answer."""
        token, self._next_token = self._next_token, self._next_token + 1
        question: asyncio.Future[Any] = self._loop.create_future()
        self._questions[token] = question
        self._want_flush()
        return token, question

    def _answered(self, token: int, answer: object) -> None:
        question = self._questions.pop(token, None)
        if question is not None and not question.done():
            question.set_result(answer)

    # --- the workers ---------------------------------------------------------------------

    def _connect(self, peer: str) -> None:
        link = WorkerLink(peer, Channel.from_fd(self._control.take_fd()))
        link.open(self._arena)
        self._links[peer] = link
        self._dispatcher.add_link(link)
        self._debug.greet(link)
        self._loop.add_reader(link.channel.fileno(), self._read_worker, link)
        self._want_flush()

    def _hear_workers(self) -> None:
        """Read what they have sent: whoever polls may tell others afterwards that it counts."""
        for link in list(self._links.values()):
            for _ in range(_MAX_UNREAD):
                if not link.alive or not self._read_worker(link):
                    break

    def _read_worker(self, link: WorkerLink) -> bool:
        """Handle one datagram. False: the worker is gone (Reaped will follow)."""
        messages = link.channel.receive()
        if messages is None:
            self._loop.remove_reader(link.channel.fileno())
            if link.alive:
                link.alive = False
                self._roster.away(link.peer)
            return False
        for message in messages:
            match message:
                case m.Done():
                    self._dispatcher.done(link, message)
                case m.Failed():
                    self._dispatcher.failed(message)
                case m.ModelUpdate():
                    self._roster.update(link.peer, message)
                    self._dispatcher.model_changed()
                case m.Retire(variants):
                    # What came before this was adopted: nothing new is sent to these.
                    link.channel.send(m.Retired(variants))
                    self._want_flush()
                case m.Costs():
                    self._roster.costs(link.peer, message)
                case m.Attach():
                    link.attach()
                case m.Traced():
                    self._debug.traced(message)
                case m.Settled():
                    self._roster.settled(link.peer)
                    self._dispatcher.model_changed()
                case _:
                    log.error("unexpected from a worker: %s", type(message).__name__)
        return bool(messages)

    def _tell_workers(self, message: m.AnyMessage) -> None:
        for link in self._links.values():
            link.channel.send(message)
        self._want_flush()

    def _use(self, catalog: Catalog) -> None:
        self._dispatcher.templates.use(catalog)
        self._say_health()

    def _reaped(self, peer: str, hopeless: bool) -> None:
        link = self._links.pop(peer, None)
        if link is not None:
            # What it answered before it died still counts.
            while self._read_worker(link):
                pass
        if hopeless:
            self._roster.lost(peer)
        else:
            self._roster.away(peer)
        self._dispatcher.worker_reaped(peer)
        self._dispatcher.model_changed()

    # --- the outboxes --------------------------------------------------------------------

    def _want_flush(self) -> None:
        """Send what is queued once this turn of the loop is over: many messages, one datagram.

        While requests come side by side, a few turns later: gRPC hands over one call a turn, and
        every datagram saved is two system calls and two wake-ups of a process less.
        """
        if self._flush_wanted:
            return
        self._flush_wanted = True
        if self._dispatcher.in_flight > 1:
            self._company = COMPANY_FLUSHES
        elif self._company:
            self._company -= 1
        self._turns = LINGER_TURNS if self._company else 0
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._turns:
            self._turns -= 1
            self._loop.call_soon(self._flush)
            return
        self._flush_wanted = False
        for link in self._links.values():
            self._flush_one(link.channel.fileno(), link.flush)
        self._flush_one(self._control.fileno(), self._control.flush)

    def _flush_one(self, fd: int, flush: Callable[[], bool]) -> None:
        if fd >= 0 and not flush():
            self._loop.add_writer(fd, self._writable, fd, flush)

    def _writable(self, fd: int, flush: Callable[[], bool]) -> None:
        if flush():
            self._loop.remove_writer(fd)

    def _expire(self) -> None:
        if self._dispatcher.parked:
            self._dispatcher.expire()
        self._loop.call_later(_EXPIRY_SECONDS, self._expire)
