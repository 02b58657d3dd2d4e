"""A front end process: the gRPC server, its workers' links, and the supervisor's orders."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable

import grpc
import msgspec
import uvloop
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from trtserve.clock import NS_PER_S
from trtserve.config import Settings
from trtserve.errors import Unavailable
from trtserve.frontend import batch_service, debug_service, inference_service
from trtserve.frontend.admission import Admission
from trtserve.frontend.dispatch import Dispatcher
from trtserve.frontend.health import Health
from trtserve.frontend.link import WorkerLink
from trtserve.ipc import message as m
from trtserve.ipc.arena import Arena
from trtserve.ipc.channel import Channel
from trtserve.metrics import Recorder
from trtserve.model.catalog import Catalog, Placement
from trtserve.model.spec import ModelState
from trtserve.proto import pool, trtserve_pb2  # noqa: F401  (registers its messages)

log = logging.getLogger(__name__)

_HEARTBEAT_SECONDS = 1.0
_EXPIRY_SECONDS = 0.05
"""How often parked requests are looked at; only while there are any."""

LINGER_TURNS = 8
"""Turns of the loop that messages to workers wait for company, some 10 us each."""

COMPANY_FLUSHES = 32
"""Flushes for which two requests at once are remembered. A lone client never has two, and never
waits."""

_HEALTH_NAMES = ("", inference_service.SERVICE, batch_service.SERVICE)


def main(control: Channel, start: m.Start) -> int:
    """Run until the supervisor says Stop or dies. Returns the exit status."""
    settings = msgspec.json.decode(start.settings, type=Settings)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_tells_more_than_that_a_call_is_over)
    status: int = uvloop.run(FrontEnd(control, start, settings).run())
    return status


def _tells_more_than_that_a_call_is_over(record: logging.LogRecord) -> bool:
    """Drops what gRPC logs, with a traceback, where a call ended (its deadline, its client) in
    the moment that it was answered: nobody waits for that answer, and nothing is wrong."""
    return not str(record.msg).startswith("ExecuteBatchError raised in core")


class FrontEnd:
    """One front end. Constructed on its event loop's thread, run once."""

    def __init__(self, control: Channel, start: m.Start, settings: Settings) -> None:
        self._control = control
        self._start = start
        self._settings = settings
        self._arena = Arena.create(settings.arena_bytes, f"trtserve {start.name}")
        self._admission = Admission(settings.max_in_flight)
        self._dispatcher = Dispatcher(
            self._arena, self._admission, int(settings.replay_patience_seconds * NS_PER_S),
            self._want_flush,
        )
        self._catalog = Catalog()
        self._links: dict[str, WorkerLink] = {}
        self._workers = len(settings.devices.split(","))
        self._settled: set[str] = set()
        self._recorder = Recorder()
        self._flush_wanted = False
        self._company = 0
        self._turns = 0
        self._draining = False
        self._questions: dict[int, asyncio.Future[m.Statistics]] = {}
        self._next_token = 1
        self._health = Health()
        self._health_said: bool | None = None
        self._service = inference_service.InferenceService(
            self._dispatcher, lambda: self._ready, self._ask_statistics
        )
        self._debug = debug_service.DebugService(self._tell_workers)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Serve."""
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._control.fileno(), self._read_control)
        server = self._make_server()
        try:
            addresses = self._bind(server)
        except (RuntimeError, OSError) as error:
            self._control.send(m.Fatal(
                f"gRPC can not listen on {self._settings.host}:{self._settings.grpc_port}: "
                f"{error}", "Choose another --host or --grpc-port",
            ))
            self._control.flush()
            return 1
        await server.start()
        self._server = server
        self._control.send(m.Listening(tuple(addresses)))
        self._say_health()
        self._beat()
        self._expire()
        try:
            return await self._ended
        finally:
            self._loop.remove_reader(self._control.fileno())
            for link in self._links.values():
                link.close()
            self._arena.close()

    # --- gRPC ----------------------------------------------------------------------------

    def _make_server(self) -> grpc.aio.Server:
        limit = self._settings.max_message_bytes
        server = grpc.aio.server(options=(
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", limit),
            ("grpc.max_concurrent_streams", self._settings.max_in_flight),
        ))
        server.add_generic_rpc_handlers((
            self._service.handler(), batch_service.BatchService(self._dispatcher).handler(),
            self._debug.handler(),
        ))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        _describe_standard_services()
        reflection.enable_server_reflection(
            (
                inference_service.SERVICE, batch_service.SERVICE, debug_service.SERVICE,
                health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
                reflection.SERVICE_NAME,
            ),
            server, pool=pool.POOL,
        )
        return server

    def _bind(self, server: grpc.aio.Server) -> list[str]:
        host = self._settings.host
        address = f"[{host}]" if ":" in host else host
        wanted = f"{address}:{self._settings.grpc_port}"
        if server.add_insecure_port(wanted) == 0:
            raise OSError("the address is in use")
        addresses = [wanted]
        # A Unix socket has one listener, so one front end serves it.
        if self._settings.socket is not None and self._start.index == 1:
            path = os.path.abspath(self._settings.socket)
            if os.path.exists(path):
                os.unlink(path)  # what a front end before us left; the supervisor checked it
            server.add_insecure_port(f"unix:{path}")
            addresses.append(f"unix:{path}")
        return addresses

    @property
    def _ready(self) -> bool:
        """Whether every worker has tried its models, and every model that should serve does."""
        versions = self._catalog.versions()
        return (
            not self._draining
            and len(self._settled) == self._workers
            and all(version.state == ModelState.READY for version in versions)
        )

    def _say_health(self) -> None:
        ready = self._ready
        if ready != self._health_said:
            self._health_said = ready
            status = health_pb2.HealthCheckResponse
            value = status.SERVING if ready else status.NOT_SERVING
            for name in _HEALTH_NAMES:
                self._spawn(self._health.set(name, value))

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
                    self._control.send(m.Heartbeat(token, self._statistics()))
                case m.StatisticsReply(token, statistics):
                    question = self._questions.pop(token, None)
                    if question is not None and not question.done():
                        question.set_result(statistics)
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
        self._control.send(m.Heartbeat(0, self._statistics()))
        self._want_flush()
        self._loop.call_later(_HEARTBEAT_SECONDS, self._beat)

    def _statistics(self) -> m.Statistics:
        self._dispatcher.counts.write(self._recorder)
        self._recorder.gauge("requests_in_flight", (), self._dispatcher.in_flight)
        assert self._arena.allocator is not None  # made by create()
        arena = self._arena.allocator.statistics()
        self._recorder.gauge("arena_bytes", (self._start.name,), arena.capacity)
        self._recorder.gauge("arena_used_bytes", (self._start.name,), arena.used)
        return self._recorder.statistics()

    async def _ask_statistics(self) -> m.Statistics:
        token, self._next_token = self._next_token, self._next_token + 1
        question: asyncio.Future[m.Statistics] = self._loop.create_future()
        self._questions[token] = question
        self._control.send(m.StatisticsRequest(token))
        self._want_flush()
        return await question

    # --- the workers ---------------------------------------------------------------------

    def _connect(self, peer: str) -> None:
        link = WorkerLink(peer, Channel.from_fd(self._control.take_fd()))
        link.open(self._arena)
        self._links[peer] = link
        self._dispatcher.add_link(link)
        self._debug.greet(link)
        self._loop.add_reader(link.channel.fileno(), self._read_worker, link)
        self._want_flush()

    def _read_worker(self, link: WorkerLink) -> bool:
        """Handle one datagram. False: the worker is gone (Reaped will follow)."""
        messages = link.channel.receive()
        if messages is None:
            self._loop.remove_reader(link.channel.fileno())
            if link.alive:
                link.alive = False
                self._use(self._catalog.with_worker_away(link.peer))
            return False
        for message in messages:
            match message:
                case m.Done():
                    self._dispatcher.done(link, message)
                case m.Failed():
                    self._dispatcher.failed(message)
                case m.ModelUpdate():
                    self._model_update(link.peer, message)
                case m.Costs(entries):
                    self._use(self._catalog.with_costs(link.peer, entries))
                case m.Attach():
                    link.attach()
                case m.Traced():
                    self._debug.traced(message)
                case m.Settled():
                    self._settled.add(link.peer)
                    self._say_health()
                case _:
                    log.error("unexpected from a worker: %s", type(message).__name__)
        return bool(messages)

    def _tell_workers(self, message: m.AnyMessage) -> None:
        for link in self._links.values():
            link.channel.send(message)
        self._want_flush()

    def _model_update(self, peer: str, update: m.ModelUpdate) -> None:
        costs = {(variant, bucket): cost for variant, bucket, cost in update.costs}
        placement = Placement(
            peer, update.state, update.reason, update.variant_ids, costs, lanes=update.lanes
        )
        self._use(self._catalog.with_placement(
            update.model, update.version, update.spec, placement
        ))
        self._dispatcher.model_changed()

    def _use(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._dispatcher.templates.use(catalog)
        self._say_health()

    def _reaped(self, peer: str, hopeless: bool) -> None:
        link = self._links.pop(peer, None)
        if link is not None:
            # What it answered before it died still counts.
            while self._read_worker(link):
                pass
        self._settled.discard(peer)
        self._use(
            self._catalog.with_worker_lost(peer) if hopeless
            else self._catalog.with_worker_away(peer)
        )
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


def _describe_standard_services() -> None:
    """Put the health and reflection services into our descriptor pool, for reflection."""
    for source in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        file = descriptor_pb2.FileDescriptorProto()
        source.CopyToProto(file)
        pool.POOL.Add(file)
