"""Scripted children for tests of the supervisor: real processes with the simplest behaviour.

Each tells a test what happens to it: one datagram for each event, "PID NAME: EVENT", to the
Unix datagram socket `events` in the directory that the setting `repository` names.
"""

import os
import select
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from trtserve.config import Settings
from trtserve.ipc import message as m
from trtserve.ipc.channel import Channel
from trtserve.metrics import LATENCY_EDGES
from trtserve.model.spec import ModelState

HEARTBEAT_MS = 1000

STATISTICS = m.Statistics(
    counters=(
        m.CounterSample("requests", ("toy", "1", "ok"), 3),
        m.CounterSample("version_sums", ("toy", "1", "success"), 3),
        m.CounterSample("version_sums", ("toy", "1", "request_ns"), 6_000_000),
    ),
    gauges=(m.CounterSample("requests_in_flight", (), 2),),
    histograms=(
        m.HistogramSample(
            "request_duration_seconds", ("toy", "1"),
            (0, 0, 0, 0, 3, *(0 for _ in LATENCY_EDGES[4:])), 0.006,
        ),
    ),
)
"""What every scripted child reports from its first heartbeat on."""

READY = m.ModelUpdate("toy", 1, ModelState.READY, load_seconds=0.5)
BROKEN = m.ModelUpdate("broken", 1, ModelState.UNAVAILABLE, "its file is <empty>")


def front_end(control: Channel, start: m.Start) -> int:
    """Listens nowhere, and ends at Stop."""
    settings = msgspec.json.decode(start.settings, type=Settings)
    listening = m.Listening((f"{settings.host}:{settings.grpc_port}",))
    return _Child(control, start).live([listening])


def asking_front_end(control: Channel, start: m.Start) -> int:
    """Asks for everybody's statistics once it has a worker."""
    child = _Child(control, start)
    ask = m.StatisticsRequest(7)
    return child.live([m.Listening(("here",))], on_connect=ask)


def patient_front_end(control: Channel, start: m.Start) -> int:
    """Ends only when it is told to at once."""
    return _Child(control, start).live(
        [m.Listening(("here",))], ends=lambda stop: stop.grace_seconds == 0
    )


def stubborn_front_end(control: Channel, start: m.Start) -> int:
    """Ignores Stop."""
    return _Child(control, start).live([m.Listening(("here",))], ends=lambda _: False)


def worker(control: Channel, start: m.Start) -> int:
    """Serves one model, and ends at Stop."""
    child = _Child(control, start)
    child.say(f"has {start.device}")
    return child.live([READY, m.Settled(1)])


def broken_worker(control: Channel, start: m.Start) -> int:
    """Serves one model and fails at another."""
    return _Child(control, start).live([READY, BROKEN, m.Settled(2)])


def silent_worker(control: Channel, start: m.Start) -> int:
    """Hangs without a word."""
    _Child(control, start).say("started")
    poller = select.poll()
    poller.register(control, select.POLLHUP)
    poller.poll()
    return 0


def dying_worker(control: Channel, start: m.Start) -> int:
    """Dies at once."""
    _Child(control, start).say("dies")
    return 3


def fatal_worker(control: Channel, start: m.Start) -> int:
    """Can not go on, and says why."""
    control.send(m.Fatal("there is no such device", "Use --devices cpu"))
    control.flush()
    return 1


class _Child:
    """What they have in common."""

    def __init__(self, control: Channel, start: m.Start) -> None:
        self._control = control
        self._name = start.name
        settings = msgspec.json.decode(start.settings, type=Settings)
        self._events = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._events.connect(str(Path(settings.repository) / "events"))

    def say(self, event: str) -> None:
        """Tell the test."""
        self._events.send(f"{os.getpid()} {self._name}: {event}".encode())

    def live(
        self,
        hello: Sequence[m.AnyMessage],
        *,
        ends: Callable[[m.Stop], bool] = lambda _: True,
        on_connect: m.AnyMessage | None = None,
    ) -> int:
        """Say hello, then answer the supervisor until Stop or its death."""
        self.say("started")
        control = self._control
        control.send(m.Heartbeat(0, STATISTICS))
        for message in hello:
            control.send(message)
        poller = select.poll()
        poller.register(control, select.POLLIN)
        while True:
            control.flush()
            poller.poll(HEARTBEAT_MS)
            control.send(m.Heartbeat(0, STATISTICS))
            messages = control.receive()
            if messages is None:
                return 0
            for message in messages:
                if isinstance(message, m.Poll):
                    control.send(m.Heartbeat(message.token, STATISTICS))
                    continue
                self.say(_words(message))
                if isinstance(message, m.Connect):
                    os.close(control.take_fd())
                    if on_connect is not None:
                        control.send(on_connect)
                if isinstance(message, m.Stop) and ends(message):
                    control.flush()
                    return 0


def _words(message: m.AnyMessage) -> str:
    match message:
        case m.Connect(peer=peer):
            return f"Connect {peer}"
        case m.Reaped(peer=peer, hopeless=hopeless):
            return f"Reaped {peer}{' hopeless' if hopeless else ''}"
        case m.Stop(grace_seconds=grace):
            return f"Stop {grace:.0f}"
        case m.StatisticsReply(token=token, statistics=statistics):
            requests = sum(c.value for c in statistics.counters if c.name == "requests")
            return f"StatisticsReply {token} requests {requests:g}"
    return type(message).__name__
