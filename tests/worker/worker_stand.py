"""A whole worker in threads of this process, with the supervisor and front ends played by tests."""

import os
import select
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from trtserve.clock import now_ns
from trtserve.errors import ModelLoadError
from trtserve.ipc import message as m
from trtserve.ipc.arena import Arena
from trtserve.ipc.channel import Channel
from trtserve.ipc.statistics import Statistics
from trtserve.model.configuration import ModelConfiguration
from trtserve.model.repository import ModelFolder, Repository
from trtserve.model.version_folder import VersionFolder
from trtserve.proto.model_config_pb2 import ModelConfig
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.testing.engine import Arrays, FakeEngine, FakeRuntime
from trtserve.worker.batcher import Batcher
from trtserve.worker.equip import Equipper
from trtserve.worker.lane import Lane
from trtserve.worker.loader import Loader
from trtserve.worker.loop import WorkerLoop
from trtserve.worker.output import OutputArena
from trtserve.worker.runner import BatchRunner

PATIENCE_SECONDS = 30
"""After which a test fails instead of hanging."""

LOADER_SECONDS = 1
"""A loader that waits for a lane when the loop ends waits for ever."""

Kind = TypeVar("Kind", bound=m.Message)


VOUCHED = ModelConfiguration(ModelConfig(max_batch_size=64))
"""A configuration that vouches for the batch: none of it need be tried."""


def model_folder(
    name: str, *files: str, version: int = 1, configuration: ModelConfiguration = VOUCHED
) -> ModelFolder:
    """A model whose engines a FakeRuntime hands out."""
    path = Path("/repository") / name
    folder = path / str(version)
    return ModelFolder(
        name, path, configuration,
        (VersionFolder(version, folder, tuple(folder / file for file in files)),),
    )


class Gate:
    """Holds engines up: `compute` for a FakeScript waits while the gate is closed."""

    def __init__(self, compute: Callable[[Arrays], Arrays] = lambda arrays: arrays) -> None:
        self._compute = compute
        self._permits: threading.Semaphore | None = None
        self._entered = threading.Semaphore(0)

    def compute(self, arrays: Arrays) -> Arrays:
        """What the engine runs."""
        permits = self._permits
        if permits is not None:
            self._entered.release()
            assert permits.acquire(timeout=PATIENCE_SECONDS)
        return self._compute(arrays)

    def close(self) -> None:
        """Hold up runs from now on."""
        self._permits = threading.Semaphore(0)

    def let_one_go(self) -> None:
        """Let one run that is held up finish."""
        assert self._permits is not None
        self._permits.release()

    def open(self) -> None:
        """Let all go on."""
        permits, self._permits = self._permits, None
        if permits is not None:
            permits.release(1000)

    def wait_for_a_run(self) -> None:
        """Until one more run than before was held up."""
        assert self._entered.acquire(timeout=PATIENCE_SECONDS)


class End:
    """A channel's end that a test plays: waits on the socket for what it wants."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._seen: list[m.AnyMessage] = []

    def say(self, message: m.AnyMessage, fd: int | None = None) -> None:
        """Send a message now."""
        self.channel.send(message, fd)
        while not self.channel.flush():
            select.select([], [self.channel], [], PATIENCE_SECONDS)

    def expect(self, kind: type[Kind], wanted: Callable[[Kind], bool] = lambda _: True) -> Kind:
        """The first message of that kind that is wanted and was not taken before."""
        while True:
            for index, message in enumerate(self._seen):
                if isinstance(message, kind) and wanted(message):
                    del self._seen[index]
                    return message
            self._read()

    def waiting(self) -> list[m.AnyMessage]:
        """What has come and was not expected yet."""
        while messages := self.channel.receive():
            self._seen += messages
        return self._seen

    def wait_for_end(self) -> None:
        """Until the other end is closed."""
        while True:
            self._readable()
            messages = self.channel.receive()
            if messages is None:
                return
            self._seen += messages

    def _read(self) -> None:
        self._readable()
        messages = self.channel.receive()
        assert messages is not None, f"the other end is gone; it said {self._seen}"
        self._seen += messages

    def _readable(self) -> None:
        found, _, _ = select.select([self.channel], [], [], PATIENCE_SECONDS)
        assert found, f"nothing came; before: {self._seen}"


class FrontEndSide(End):
    """A front end as the worker sees it."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self.arena = Arena.create(1 << 20, "test front end")
        self.outputs: Arena | None = None
        self._next_id = 1
        self.say(m.Attach(self.arena.size), self.arena.fd)

    def greet(self) -> None:
        """Take the worker's arena, and wait until it has told of all its models."""
        self.expect(m.Attach)
        self.outputs = Arena.attach(self.channel.take_fd())
        self.expect(m.Settled)

    def submit(
        self, array: np.ndarray[Any, Any], variant: int = 1, **fields: Any
    ) -> int:
        """Send a request for a batched variant with one input. Returns its id."""
        ident, self._next_id = self._next_id, self._next_id + 1
        assert self.arena.allocator is not None
        block = self.arena.allocator.allocate(array.nbytes)
        assert block is not None
        self.arena.view[block : block + array.nbytes] = array.tobytes()
        self.say(m.Submit(
            ident, variant, (array.shape[1:],), array.shape[0], ((block, array.nbytes),), (0,),
            now_ns(), **fields,
        ))
        return ident

    def answer(self, ident: int) -> tuple[m.Done, np.ndarray[Any, Any]]:
        """The Done of a request and its output, which stays lent."""
        done = self.expect(m.Done, lambda message: ident in message.ids)
        if len(done.ids) > 1:
            self._seen.append(done)  # its others may be asked for
        place = done.ids.index(ident)
        (block,) = done.outputs
        start = block.offset + sum(block.sizes[:place])
        assert self.outputs is not None
        data = bytes(self.outputs.view[start : start + block.sizes[place]])
        return done, np.frombuffer(data, np.float32).reshape(done.rows[place], *block.shape)

    def failure(self, ident: int) -> m.Failed:
        """The Failed of a request."""
        return self.expect(m.Failed, lambda message: ident in message.ids)

    def die(self) -> None:
        """The process ends."""
        self.channel.close()
        self.arena.close()
        if self.outputs is not None:
            self.outputs.close()


class WorkerStand:
    """A worker on a FakeDevice whose loop runs in a thread. Unless it is given, the device shares
    its memory with the host."""

    def __init__(
        self, engines: Mapping[str, FakeEngine | ModelLoadError | Callable[[], FakeEngine]], *,
        lanes: int = 1, inline: bool = False, folders: tuple[ModelFolder, ...] | None = None,
        device: FakeDevice | None = None,
    ) -> None:
        ours, theirs = Channel.pair()
        self.supervisor = End(ours)
        self.device = device or FakeDevice(FakeClock(), unified=True)
        self.outputs = OutputArena.create(1 << 20)
        self.front_ends: list[FrontEndSide] = []
        self.status: int | None = None
        self._lanes = lanes
        self._inline = inline
        self._control = theirs
        self._loop = WorkerLoop(theirs, "worker fake", self.device, self.outputs,
                                Batcher(lanes, 4096))
        models = folders if folders is not None else tuple(
            model_folder(name.removesuffix(".fake"), name) for name in engines
        )
        self._loader = Loader(
            Repository(Path("/repository"), models), (FakeRuntime(engines),), self.device,
            Equipper(self.device, self.outputs, lanes + inline),
        )
        self._thread = threading.Thread(target=self._run, name="worker loop", daemon=True)

    def start(self) -> "WorkerStand":
        """Begin; orders to the worker may be queued before."""
        self._thread.start()
        return self

    def _run(self) -> None:
        lanes = [
            Lane(index, self.device, self.outputs, self._loop.post) for index in range(self._lanes)
        ]
        for lane in lanes:
            lane.start()
        inline = BatchRunner(self._lanes, self.device, self.outputs) if self._inline else None
        if inline is not None:
            inline.open()
        self._loop.open(lanes, inline, self._loader)
        self.status = self._loop.run()
        for lane in lanes:
            lane.close()

    def connect(self, peer: str = "front end 1", *, greet: bool = True) -> FrontEndSide:
        """A new front end; by default once all models were tried."""
        ours, theirs = Channel.pair()
        self.supervisor.say(m.Connect(peer), theirs.fileno())
        theirs.close()
        front_end = FrontEndSide(ours)
        self.front_ends.append(front_end)
        if greet:
            front_end.greet()
        return front_end

    def statistics(self) -> Statistics:
        """What the worker counts and measures now."""
        self.supervisor.say(m.Poll(77))
        beat = self.supervisor.expect(m.Heartbeat, lambda message: message.token == 77)
        return beat.statistics

    def gauges(self) -> dict[str, float]:
        """What the worker measures now, by name (the last labels win)."""
        return {sample.name: sample.value for sample in self.statistics().gauges}

    def until(self, condition: Callable[[dict[str, float]], bool]) -> None:
        """Ask for the gauges until something is so."""
        for _ in range(20_000):
            if condition(self.gauges()):
                return
        raise AssertionError(f"it never came to be: {self.gauges()}")

    def join(self) -> int:
        """Wait for the worker's end. Returns its exit status."""
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        assert self.status is not None
        return self.status

    def stop(self) -> None:
        """Stop the worker as the supervisor does, if it still runs, and clean up."""
        if self._thread.is_alive():
            self.supervisor.say(m.Stop(1.0))
            self.join()
        self._loader.close()
        for front_end in self.front_ends:
            front_end.die()
        # What the end of a process does by itself. The worker's end of the control channel
        # first: the end of the supervisor would be the end of this process.
        for link in self._loop._front_ends:
            link.close()
        self._loop._selector.close()
        self._loader._thread.join(LOADER_SECONDS)
        if not self._loader._thread.is_alive():
            os.close(self._loop._wake_fd)  # nobody posts any more
        self.outputs.close()
        self._control.close()
        self.supervisor.channel.close()
