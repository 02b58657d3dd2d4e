"""What the front end's tests share: specs, requests, and the worker's side of a real channel."""

from typing import Any

import numpy as np

from trtserve.clock import NS_PER_S
from trtserve.errors import RequestError
from trtserve.frontend.admission import Admission
from trtserve.frontend.call import NO_CALL, Call
from trtserve.frontend.dispatch import Dispatcher
from trtserve.frontend.link import WorkerLink
from trtserve.frontend.pending import Pending
from trtserve.frontend.reply import Parts
from trtserve.frontend.tracing import Tracer
from trtserve.ipc.arena import Arena
from trtserve.ipc.channel import Channel
from trtserve.ipc.message import (
    AnyMessage,
    Attach,
    Cancel,
    Done,
    Failed,
    OutputBlock,
    Release,
    Submit,
    Timing,
)
from trtserve.model.catalog import Catalog, Placement
from trtserve.model.spec import (
    ANY,
    ModelState,
    QueuePolicy,
    ShapeRange,
    TensorSpec,
    VariantSpec,
    VersionSpec,
)
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.testing.clock import FakeClock

PATIENCE_NS = 30 * NS_PER_S


def variant(
    inputs: dict[str, str] | None = None, *, row: tuple[int, ...] = (ANY,), max_batch: int = 8,
    name: str = "v",
) -> VariantSpec:
    """A variant whose outputs `y...` mirror its inputs `x...` (datatype by name)."""
    inputs = inputs or {"x": "FP32"}
    shape = (ANY, *row) if max_batch else row
    low = tuple(1 if dim == ANY else dim for dim in row)
    fits = ShapeRange((1, *low), (max_batch, *row)) if max_batch else ShapeRange(low, row)
    return VariantSpec(
        name,
        tuple(TensorSpec(key, datatype, shape) for key, datatype in inputs.items()),
        tuple(TensorSpec(key.replace("x", "y"), datatype, shape)
              for key, datatype in inputs.items()),
        (fits,) * len(inputs), max_batch,
    )


def version_spec(
    *variants: VariantSpec, model: str = "m", version: int = 1, queue: QueuePolicy | None = None
) -> VersionSpec:
    """A version of those variants; one with the input x FP32[1..8, any] without any."""
    return VersionSpec(model, version, "fake", variants or (variant(),), queue or QueuePolicy())


def catalog_of(*specs: VersionSpec, worker: str = "w1") -> Catalog:
    """All READY on one worker; the first spec's variants have the ids 10, 11 and so on."""
    catalog = Catalog()
    for index, spec in enumerate(specs):
        ids = tuple(10 * (index + 1) + number for number in range(len(spec.variants)))
        catalog = catalog.with_placement(
            spec.model, spec.version, spec, Placement(worker, ModelState.READY, "", ids)
        )
    return catalog


def request(
    *arrays: np.ndarray[Any, Any], model: str = "m", request_id: str = "", **fields: Any
) -> Any:
    """A request with FP32 inputs x, x1, x2 ... in raw contents."""
    message = pb.ModelInferRequest(model_name=model, id=request_id, **fields)
    for index, array in enumerate(arrays):
        message.inputs.add(name=f"x{index or ''}", datatype="FP32", shape=array.shape)
        message.raw_input_contents.append(array.tobytes())
    return message


def floats(*shape: int) -> np.ndarray[Any, Any]:
    """1, 2, 3 ... in that shape."""
    return np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).reshape(shape)


class RecordingReply:
    """Keeps what each slot was answered, and refuses a second answer."""

    def __init__(self, call: Call = NO_CALL) -> None:
        self.call = call
        self.answers: dict[int, Any] = {}
        self.errors: dict[int, RequestError] = {}
        self.ids: dict[int, bytes] = {}

    def answer(self, slot: int, parts: Parts, size: int) -> None:
        """Join and parse at once: the parts are views."""
        assert slot not in self.answers | self.errors
        data = b"".join(parts)
        assert len(data) == size
        self.answers[slot] = pb.ModelInferResponse.FromString(data)

    def fail(self, slot: int, error: RequestError, request_id: bytes) -> None:
        """Keep the error."""
        assert slot not in self.answers | self.errors
        self.errors[slot] = error
        self.ids[slot] = request_id


class WorkerSide:
    """A worker as its front end sees it: the other end of a channel, with an arena."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.arena = Arena.create(1 << 20, "worker")
        self.inputs: Arena | None = None
        self.next_lease = 1
        self.next_block = 0
        channel.send(Attach(self.arena.size), self.arena.fd)
        channel.flush()

    def read(self) -> list[AnyMessage]:
        """Everything that has come; arenas are attached on the way."""
        found: list[AnyMessage] = []
        while messages := self.channel.receive():
            for message in messages:
                if isinstance(message, Attach):
                    self.inputs = Arena.attach(self.channel.take_fd())
                else:
                    found.append(message)
        return found

    def submits(self) -> list[Submit]:
        """What has come, which is requests only."""
        messages = self.read()
        assert all(isinstance(message, Submit | Release | Cancel) for message in messages)
        return [message for message in messages if isinstance(message, Submit)]

    def bytes_of(self, submit: Submit) -> list[bytes]:
        """The inputs as they lie in the front end's arena."""
        assert self.inputs is not None
        return [bytes(self.inputs.view[at : at + size]) for at, size in submit.inputs]

    def done(self, *submits: Submit, outputs: int = 1, backlog_ns: int = 0) -> int:
        """Answer a batch: each output holds the inputs of its index. Returns the lease."""
        blocks = []
        for index in range(outputs):
            pieces = [self.bytes_of(submit)[index] for submit in submits]
            whole = b"".join(pieces)
            start, self.next_block = self.next_block, self.next_block + max(256, len(whole))
            self.arena.view[start : start + len(whole)] = whole
            shape = submits[0].bucket[index]
            blocks.append(OutputBlock(index, shape, start, tuple(map(len, pieces))))
        return self.done_with(submits, tuple(blocks), backlog_ns)

    def done_with(
        self, submits: tuple[Submit, ...], blocks: tuple[OutputBlock, ...], backlog_ns: int = 0
    ) -> int:
        """Answer a batch with blocks that are in the arena."""
        lease, self.next_lease = self.next_lease, self.next_lease + 1
        rows = tuple(submit.rows for submit in submits)
        timing = Timing(
            1, len(submits), sum(rows), submits[0].arrived_ns + 5_000, 1_000, 2_000, 3_000, 4_000,
            backlog_ns,
        )
        self.say(Done(lease, tuple(submit.id for submit in submits), rows, blocks, timing))
        return lease

    def say(self, message: AnyMessage) -> None:
        """Send a message."""
        self.channel.send(message)
        assert self.channel.flush()

    def die(self) -> None:
        """Close the channel, as the end of the process does."""
        self.channel.close()
        self.arena.close()
        if self.inputs is not None:
            self.inputs.close()
            self.inputs = None


class Stand:
    """A dispatcher with fake time and workers that a test plays itself."""

    def __init__(
        self, *specs: VersionSpec, arena_bytes: int = 1 << 20, limit: int = 100,
        tracer: Tracer | None = None,
    ) -> None:
        self.clock = FakeClock(NS_PER_S)
        self.specs = specs or (version_spec(),)
        self.arena = Arena.create(arena_bytes, "front end")
        self.admission = Admission(limit)
        self.flushes_wanted = 0
        self.dispatcher = Dispatcher(
            self.arena, self.admission, PATIENCE_NS, self._want_flush, now=self.clock.now_ns,
            tracer=tracer,
        )
        self.reply = RecordingReply()
        self.links: dict[str, WorkerLink] = {}
        self.workers: list[WorkerSide] = []
        self.slot = 0

    def _want_flush(self) -> None:
        self.flushes_wanted += 1

    def start_worker(self, peer: str = "w1", *, serve: bool = True) -> WorkerSide:
        """A worker process begins; with `serve` all models are READY there."""
        ours, theirs = Channel.pair()
        link = WorkerLink(peer, ours)
        link.open(self.arena)
        self.dispatcher.add_link(link)
        link.flush()
        worker = WorkerSide(theirs)
        self.links[peer] = link
        self.workers.append(worker)
        self.pump()
        worker.read()
        if serve:
            self.serve(peer)
        return worker

    def serve(self, *peers: str) -> None:
        """All models are READY on these workers, beside what is known of others."""
        catalog = self.dispatcher.templates.catalog
        for peer in peers:
            for model, versions in catalog_of(*self.specs, worker=peer).models.items():
                for number, version in versions.items():
                    catalog = catalog.with_placement(
                        model, number, version.spec, version.placements[peer]
                    )
        self.use(catalog)

    def use(self, catalog: Catalog) -> None:
        """A new catalog, as the front end's process applies it."""
        self.dispatcher.templates.use(catalog)
        self.dispatcher.model_changed()

    def start(self, message: Any, deadline_ns: int = 0) -> Pending | None:
        """Begin a request, in the next slot of the one reply."""
        data = message if isinstance(message, bytes) else message.SerializeToString()
        slot, self.slot = self.slot, self.slot + 1
        return self.dispatcher.start(data, (0, len(data)), self.reply, slot, deadline_ns)

    def pump(self) -> None:
        """Both ways: what is queued leaves, what has come is handled."""
        for link in self.links.values():
            link.flush()
            while link.alive and (messages := link.channel.receive()) != []:
                if messages is None:
                    link.alive = False
                    catalog = self.dispatcher.templates.catalog
                    self.dispatcher.templates.use(catalog.with_worker_away(link.peer))
                    break
                for message in messages:
                    if isinstance(message, Attach):
                        link.attach()
                    elif isinstance(message, Done):
                        self.dispatcher.done(link, message)
                    elif isinstance(message, Failed):
                        self.dispatcher.failed(message)
            link.flush()

    def reap(self, peer: str = "w1") -> None:
        """The supervisor says that the dead worker is reaped."""
        del self.links[peer]
        self.dispatcher.worker_reaped(peer)

    def close(self) -> None:
        """The end of a test: nothing may be left over."""
        assert self.dispatcher.in_flight == self.dispatcher.parked == 0
        assert self.admission.statistics().in_flight == 0
        assert self.arena.allocator is not None
        assert self.arena.allocator.statistics().blocks == 0
        for link in self.links.values():
            assert link.lent == 0
            assert link.backlog.lent_ns == 0
            link.close()
        for worker in self.workers:
            worker.die()
        self.arena.close()


def blocks(stand: Stand) -> int:
    """How many blocks of the front end's arena are lent."""
    assert stand.arena.allocator is not None
    return stand.arena.allocator.statistics().blocks
