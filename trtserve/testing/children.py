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
from trtserve.ipc.statistics import CounterSample, HistogramSample, Statistics
from trtserve.metrics import LATENCY_EDGES
from trtserve.model.spec import ModelState

HEARTBEAT_MS = 1000

STATISTICS = Statistics(
    counters=(
        CounterSample("requests", ("toy", "1", "ok"), 3),
        CounterSample("version_sums", ("toy", "1", "success"), 3),
        CounterSample("version_sums", ("toy", "1", "request_ns"), 6_000_000),
    ),
    gauges=(CounterSample("requests_in_flight", (), 2),),
    histograms=(
        HistogramSample(
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


def front_end_that_loads_good(control: Channel, start: m.Start) -> int:
    """Asks for the model `good` once it has a worker."""
    return _load(control, start, "good")


def front_end_that_loads_broken(control: Channel, start: m.Start) -> int:
    """Asks for the model `broken` once it has a worker."""
    return _load(control, start, "broken")


def front_end_that_loads_deadly(control: Channel, start: m.Start) -> int:
    """Asks for the model `deadly` once it has a worker."""
    return _load(control, start, "deadly")


def _load(control: Channel, start: m.Start, model: str) -> int:
    return _Child(control, start).live(
        [m.Listening(("here",))], on_connect=m.ControlRequest(7, model, True)
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


def loading_worker(control: Channel, start: m.Start) -> int:
    """Loads models as it is told. The second worker can not load `broken`, and dies of
    `deadly`."""
    child = _Child(control, start)
    models: dict[int, str] = {}

    def answer(message: m.AnyMessage) -> Sequence[m.AnyMessage] | None:
        match message:
            case m.LoadModel(order, model):
                models[order] = model
                if start.index and model == "deadly":
                    return None
                error = "it is broken" if start.index and model == "broken" else ""
                return [m.Staged(order, () if error else (1,), error)]
            case m.CommitModel(order):
                return [m.ModelUpdate(models[order], 1, ModelState.READY), m.Freed(order, 2, 1)]
            case m.AbandonModel(order):
                return [m.Freed(order, 2, 1)]
        return []

    child.say(f"starts with {', '.join(name for name, _ in start.models or ()) or 'nothing'}")
    return child.live([m.Settled(0)], answer=answer)


def choking_worker(control: Channel, start: m.Start) -> int:
    """Dies while it loads the model `choke`, which comes second, unless that is left out."""
    child = _Child(control, start)
    if start.models is not None and "choke" not in dict(start.models):
        child.say(f"loads {', '.join(name for name, _ in start.models)}")
        return child.live([READY, m.Settled(1)])
    child.say("chokes")
    for message in (READY, m.ModelUpdate("choke", 1, ModelState.LOADING),
                    m.ModelUpdate("next", 1, ModelState.LOADING)):
        control.send(message)
    control.flush()
    return 3


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
        answer: Callable[[m.AnyMessage], Sequence[m.AnyMessage] | None] = lambda _: (),
    ) -> int:
        """Say hello, then answer the supervisor until Stop, its death, or an answer of None."""
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
                        on_connect = None
                answers = answer(message)
                if answers is None:
                    return 3
                for reply in answers:
                    control.send(reply)
                if isinstance(message, m.Stop) and ends(message):
                    control.flush()
                    return 0


def _words(message: m.AnyMessage) -> str:
    match message:
        case m.Connect(peer=peer):
            return f"Connect {peer}"
        case m.Reaped(peer=peer, hopeless=hopeless):
            return f"Reaped {peer}{' hopeless' if hopeless else ''}"
        case m.LoadModel(model=model):
            return f"LoadModel {model}"
        case m.ControlReply(token=token, word=word, message=text):
            return f"ControlReply {token} {word or 'ok'}: {text}"
        case m.Stop(grace_seconds=grace):
            return f"Stop {grace:.0f}"
        case m.StatisticsReply(token=token, statistics=statistics):
            requests = sum(c.value for c in statistics.counters if c.name == "requests")
            return f"StatisticsReply {token} requests {requests:g}"
    return type(message).__name__
