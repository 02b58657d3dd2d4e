"""A real worker process, with the supervisor and one front end played by this process.

No gRPC: images lie in a real arena, requests go over the real channel, results are read from the
worker's arena. What is measured is the worker and the device alone.
"""

import contextlib
import select
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from trtserve.clock import NS_PER_S, now_ns
from trtserve.config import Settings
from trtserve.ipc import message as m
from trtserve.ipc.arena import Arena
from trtserve.ipc.channel import Channel
from trtserve.ipc.recording import TracedBatch
from trtserve.ipc.statistics import Statistics
from trtserve.model.spec import ModelState
from trtserve.supervisor.child import Child
from trtserve.supervisor.role import Kind, Targets, roles

OnDone = Callable[[m.Done, memoryview], None]
"""Called with each answer and the worker's arena, before the lease goes back."""

_GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where images of one size go."""

    variant: int
    bucket: m.Bucket


@dataclass(frozen=True, slots=True)
class Load:
    """What one window found. Latencies are from sending to the answer, in milliseconds."""

    rate: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    batches: int
    mean_rows: float
    failures: int
    first_failure: str
    h2d_us: float
    compute_us: float
    d2h_us: float


def settings_for(
    repository: Path, device: str, lanes: int = 0, arena_bytes: int = 1 << 29
) -> Settings:
    """A worker's settings, with no queue limit that the benchmarks could meet."""
    return Settings(
        repository=str(repository), devices=device, lanes=lanes, arena_bytes=arena_bytes,
        max_queue_size=1 << 22, log_level="warning",
    )


class WorkerProcess:
    """One worker, started as the supervisor starts it, and its data channel.

    `open` starts it; `wait_ready` waits until it has tried all models; `close` ends it. `updates`
    are its models, `statistics` those of its last heartbeat.
    """

    def __init__(self, settings: Settings, device: str) -> None:
        self._settings = settings
        self._device = device
        self._child: Child | None = None
        self._outputs: Arena | None = None
        self._poller = select.poll()
        self.arena = Arena.create(settings.arena_bytes, "benchmark front end")
        self.updates: dict[tuple[str, int], m.ModelUpdate] = {}
        self.statistics = Statistics()

    def open(self) -> None:
        """Start it and connect to it."""
        role = next(
            role for role in roles(1, self._device, Targets()) if role.kind is Kind.WORKER
        )
        self._child = Child.spawn(role, msgspec.json.encode(self._settings), now_ns())
        self.channel, theirs = Channel.pair()
        self._control = self._child.control
        self._control.send(m.Connect("front end 1"), theirs.fileno())
        self._control.flush()
        theirs.close()
        self.channel.send(m.Attach(self.arena.size), self.arena.fd)
        self.flush()
        self._poller.register(self._control, select.POLLIN)
        self._poller.register(self.channel, select.POLLIN)

    @property
    def pid(self) -> int:
        """The process."""
        assert self._child is not None
        return self._child.pid

    @property
    def view(self) -> memoryview:
        """The worker's arena."""
        assert self._outputs is not None
        return self._outputs.view

    def wait_ready(self, patience_s: float) -> None:
        """Until all models were tried. Raises RuntimeError if one does not serve."""
        end = now_ns() + int(patience_s * NS_PER_S)
        settled = False
        while not settled:
            if now_ns() > end:
                raise RuntimeError(f"the worker was not ready after {patience_s:.0f} s")
            for message in self.receive(1000):
                settled = settled or isinstance(message, m.Settled)
        bad = [u for u in self.updates.values() if u.state != ModelState.READY]
        if bad or not self.updates:
            raise RuntimeError("; ".join(f"{u.model}: {u.full_reason}" for u in bad) or "no model")

    def target(self, model: str, shape: Sequence[int]) -> Target:
        """The variant that takes an input of that shape, without the batch dimension."""
        update = next(u for u in self.updates.values() if u.model == model)
        assert update.spec is not None
        for number, variant in zip(update.variant_ids, update.spec.variants, strict=True):
            if variant.ranges[0].takes((1, *shape)):
                return Target(number, (tuple(shape),))
        raise RuntimeError(f"no engine of {model} takes {list(shape)}")

    def receive(self, wait_ms: int = 0) -> list[m.AnyMessage]:
        """The messages of one datagram, without those that are about models or memory only.

        Sends nothing: another thread may do that meanwhile. [] when none came within the time.
        Raises RuntimeError when the worker is gone.
        """
        messages = self.channel.receive()
        if messages == [] and wait_ms:
            for fd, _ in self._poller.poll(wait_ms):
                if fd == self._control.fileno():
                    self._read_control()
            messages = self.channel.receive()
        if messages is None:
            raise RuntimeError(f"the worker ended: {self._end()}")
        if messages and type(messages[0]) is m.Done and len(messages) == 1:
            return messages
        return [message for message in messages if not self._about_itself(message)]

    def flush(self) -> None:
        """Send what is queued, waiting while the socket is full."""
        while not self.channel.flush():
            select.select([], [self.channel], [], 1.0)

    def close(self) -> None:
        """Stop it and free everything. Twice is harmless."""
        child, self._child = self._child, None
        if child is not None:
            child.control.send(m.Stop(_GRACE_S))
            child.control.flush()
            if not select.select([child.pidfd], [], [], _GRACE_S + 5)[0]:
                child.kill()
            child.reap()
            self.channel.close()
        self.arena.close()
        if self._outputs is not None:
            self._outputs.close()

    def _about_itself(self, message: m.AnyMessage) -> bool:
        if isinstance(message, m.Attach):
            self._outputs = Arena.attach(self.channel.take_fd())
        elif isinstance(message, m.ModelUpdate):
            self.updates[message.model, message.version] = message
        elif not isinstance(message, m.Costs):
            return False
        return True

    def _read_control(self) -> None:
        for message in self._control.receive() or []:
            if isinstance(message, m.Heartbeat):
                self.statistics = message.statistics
            elif isinstance(message, m.Fatal):
                raise RuntimeError(f"{message.problem} {message.cure}")

    def _end(self) -> str:
        self._read_control()
        child, self._child = self._child, None
        self.channel.close()
        if child is None:
            return "closed"
        if not select.select([child.pidfd], [], [], _GRACE_S)[0]:
            child.kill()
        return child.reap()


@contextlib.contextmanager
def worker(settings: Settings, device: str, patience_s: float) -> Iterator[WorkerProcess]:
    """A worker that serves, until the end of the block."""
    process = WorkerProcess(settings, device)
    try:
        process.open()
        process.wait_ready(patience_s)
        yield process
    finally:
        process.close()


@dataclass(frozen=True, slots=True)
class Picture:
    """One image in the arena, and where it goes."""

    target: Target
    inputs: tuple[tuple[int, int], ...]
    size: int
    number: int


def place(
    process: WorkerProcess, model: str, pictures: dict[int, np.ndarray],
    order: Sequence[tuple[int, int]],
) -> list[Picture]:
    """Copy images into the arena; the pictures in the given order of (size, image)."""
    allocator = process.arena.allocator
    assert allocator is not None
    offsets: dict[tuple[int, int], int] = {}
    for size, array in pictures.items():
        for number, image in enumerate(array):
            offset = allocator.allocate(image.nbytes)
            if offset is None:
                raise RuntimeError("the arena is too small for so many images")
            process.arena.view[offset : offset + image.nbytes] = image.tobytes()
            offsets[size, number] = offset
    targets = {
        size: process.target(model, array.shape[1:]) for size, array in pictures.items()
    }
    return [
        Picture(targets[size], ((offsets[size, number], pictures[size][number].nbytes),),
                size, number)
        for size, number in order
    ]


@dataclass(slots=True)
class _Seen:
    """What one window has collected."""

    latencies: list[int] = field(default_factory=list)
    batches: int = 0
    rows: int = 0
    h2d: int = 0
    compute: int = 0
    d2h: int = 0
    failures: int = 0
    first_failure: str = ""


class Driver:
    """Keeps a number of requests with the worker, going round the pictures. One thread.

    `traced` gathers what the worker tells while tracing is on.
    """

    def __init__(self, process: WorkerProcess, pictures: Sequence[Picture]) -> None:
        self._process = process
        self._pictures = pictures
        self._next_id = 1
        self._sent: dict[int, int] = {}
        self.traced: list[TracedBatch] = []

    def picture(self, ident: int) -> Picture:
        """The picture that was sent under that id."""
        return self._pictures[ident % len(self._pictures)]

    def trace(self, on: bool) -> None:
        """Ask the worker for traces, or for no more."""
        self._process.channel.send(m.Trace(on))
        self._process.flush()

    def run(
        self, outstanding: int, start_ns: int, seconds: float, on_done: OnDone | None = None,
        deadline_ns: int = 0,
    ) -> Load:
        """Load from now on; what is answered within `seconds` from `start_ns` on counts.

        Returns when all is answered. With `deadline_ns`, each request gets that long.
        """
        seen = _Seen()
        end_ns = start_ns + int(seconds * NS_PER_S)
        self._submit(outstanding, deadline_ns)
        self._process.flush()
        while self._sent:
            messages = self._process.receive(1000)
            now = now_ns()
            if now > end_ns + 60 * NS_PER_S:
                raise RuntimeError(f"{len(self._sent)} requests were never answered")
            answered = 0
            for message in messages:
                answered += self._take(message, now, seen if start_ns <= now < end_ns else None,
                                       on_done)
            if answered and now < end_ns:
                self._submit(answered, deadline_ns)
            self._process.flush()
        return _summary(seen, seconds)

    def _submit(self, count: int, deadline_ns: int) -> None:
        pictures, sent, send = self._pictures, self._sent, self._process.channel.send
        now = now_ns()
        first = self._next_id
        self._next_id += count
        deadline = now + deadline_ns if deadline_ns else 0
        for ident in range(first, first + count):
            picture = pictures[ident % len(pictures)]
            sent[ident] = now
            send(m.Submit(ident, picture.target.variant, picture.target.bucket, 1,
                          picture.inputs, (0,), now, deadline))

    def _take(
        self, message: m.AnyMessage, now: int, seen: _Seen | None, on_done: OnDone | None
    ) -> int:
        """One message: how many requests it answers."""
        if isinstance(message, m.Done):
            view = self._process.view
            for block in message.outputs:
                # What every front end does with a result: read it once.
                bytes(view[block.offset : block.offset + sum(block.sizes)])
            if on_done is not None:
                on_done(message, view)
            self._process.channel.send(m.Release((message.lease,)))
        elif isinstance(message, m.Failed):
            if seen is not None:
                seen.failures += len(message.ids)
                seen.first_failure = seen.first_failure or f"{message.word}: {message.message}"
        elif isinstance(message, m.Traced):
            self.traced += message.batches
            return 0
        else:
            return 0
        times = [self._sent.pop(ident) for ident in message.ids]
        if seen is not None and isinstance(message, m.Done):
            seen.latencies += [now - sent for sent in times]
            timing = message.timing
            # The batch's other requests, if any, come in a Done of another front end.
            seen.batches += 1
            seen.rows += timing.rows
            seen.h2d += timing.stage_ns + timing.h2d_ns
            seen.compute += timing.compute_ns
            seen.d2h += timing.d2h_ns
        return len(times)


def _summary(seen: _Seen, seconds: float) -> Load:
    sorted_ms = np.sort(np.asarray(seen.latencies, np.float64)) / 1e6
    batches = max(1, seen.batches)
    found = len(sorted_ms) > 0
    return Load(
        rate=len(sorted_ms) / seconds,
        p50_ms=float(sorted_ms[len(sorted_ms) // 2]) if found else 0.0,
        p99_ms=float(sorted_ms[int(len(sorted_ms) * 0.99)]) if found else 0.0,
        max_ms=float(sorted_ms[-1]) if found else 0.0,
        batches=seen.batches, mean_rows=seen.rows / batches, failures=seen.failures,
        first_failure=seen.first_failure, h2d_us=seen.h2d / batches / 1e3,
        compute_us=seen.compute / batches / 1e3, d2h_us=seen.d2h / batches / 1e3,
    )
