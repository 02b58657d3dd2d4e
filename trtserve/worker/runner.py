"""Running one batch: gather its inputs, run the engine, leave the outputs in the arena.

    requests' blocks ──in stream──▶ inputs ──compute stream──▶ outputs ──out stream──▶ blocks
                     started   gathered               computed              copied   (events)

Where host and device share memory, a lone request's blocks are the inputs and the output blocks
are the outputs: nothing is copied.
"""

import ctypes
import logging
import struct
import threading
from collections.abc import Sequence
from math import prod

from trtserve.clock import now_ns
from trtserve.device.interface import Copy, Device, Event, Stream
from trtserve.engine.interface import TensorMemory
from trtserve.errors import DeviceError, ExecutionFailed, ProtocolError, TrtserveError
from trtserve.ipc.message import OutputBlock
from trtserve.model.tensor import DATATYPES, Shape
from trtserve.worker.buffers import LaneBuffers
from trtserve.worker.job import LaneJob, LaneResult
from trtserve.worker.output import OutputArena

log = logging.getLogger(__name__)

Block = tuple[int, int]
"""A piece of the output arena: offset, bytes."""


class BatchRunner:
    """Streams, events and buffers of one lane, and how a batch goes through them.

    One user at a time: a second one gets ProtocolError. `index` names the lane in results.
    """

    def __init__(self, index: int, device: Device, outputs: OutputArena) -> None:
        self.index = index
        self.buffers = LaneBuffers(device)
        self._device = device
        self._outputs = outputs
        self._using = threading.Lock()
        self._streams: tuple[Stream, ...] = ()
        self._events: tuple[Event, ...] = ()

    def open(self) -> None:
        """Make the streams and events."""
        device = self._device
        self._streams = tuple(device.create_stream() for _ in range(3))
        self._events = tuple(device.create_event() for _ in range(4))

    def run(self, job: LaneJob) -> LaneResult:
        """Run a batch to its end. What fails is the result's `error`, and holds no block.

        Raises ProtocolError if another thread is running a batch here.
        """
        if not self._using.acquire(blocking=False):
            raise ProtocolError(
                f"lane {self.index} got batch {job.batch_id} while it ran another one"
            )
        blocks: dict[int, Block] = {}
        try:
            outputs = self._execute(job, blocks)
            times = self._times()
        except Exception as error:
            self._quiesce()
            for offset, _ in blocks.values():
                self._outputs.free(offset)
            return LaneResult(job.batch_id, self.index, now_ns(), _as_ours(error))
        finally:
            self._using.release()
        return LaneResult(
            job.batch_id, self.index, now_ns(), None, outputs,
            tuple([offset for offset, _ in blocks.values()]), *times,
        )

    def close(self) -> None:
        """Give streams and buffers back. Twice is harmless."""
        for stream in self._streams:
            stream.close()
        self._streams = ()
        self.buffers.close()

    def _execute(self, job: LaneJob, blocks: dict[int, Block]) -> tuple[OutputBlock, ...]:
        into, compute, out = self._streams
        started, gathered, computed, copied = self._events
        into.record(started)
        inputs = self._gather(job, into)
        into.record(gathered)
        compute.wait(gathered)
        placed = self._place(job, inputs, blocks)
        results = job.context.enqueue(compute, inputs, placed)
        compute.record(computed)
        out.wait(computed)
        outputs = self._collect(job, results, blocks, out)
        out.record(copied)
        copied.synchronize()
        return outputs

    def _gather(self, job: LaneJob, stream: Stream) -> list[TensorMemory]:
        """Each input whole: the only request's own block, or all pieces one after the other."""
        if not job.batched and len(job.inputs) != 1:
            raise ProtocolError(f"batch {job.batch_id} has {len(job.inputs)} requests, unbatched")
        in_place = self._device.unified and len(job.inputs) == 1
        rows = sum(job.rows)
        gathered: list[TensorMemory] = []
        copies: list[Copy] = []
        for index, spec in enumerate(job.variant.inputs):
            shape = (rows, *job.bucket[index]) if job.batched else job.bucket[index]
            pieces = [request[index] for request in job.inputs]
            size = sum([piece[1] for piece in pieces])
            itemsize = DATATYPES[spec.datatype].itemsize
            if itemsize and size != prod(shape) * itemsize:
                # The engine would read beyond the block.
                raise ProtocolError(
                    f"input '{spec.name}' of batch {job.batch_id} has {size} bytes; "
                    f"{spec.datatype}{list(shape)} needs {prod(shape) * itemsize}"
                )
            if in_place:
                address = pieces[0][0]
            else:
                address = target = self.buffers.take("input", index, size)
                for source, length in pieces:
                    copies.append((target, source, length))
                    target += length
            gathered.append(TensorMemory(address, size, shape))
        if copies:
            stream.copy(copies)
        return gathered

    def _place(
        self, job: LaneJob, inputs: Sequence[TensorMemory], blocks: dict[int, Block]
    ) -> list[TensorMemory | None]:
        """Blocks for the wanted outputs whose size is known; refused before any device time."""
        shapes = job.context.output_shapes([memory.shape for memory in inputs])
        placed: list[TensorMemory | None] = [None] * len(shapes)
        for index, shape in enumerate(shapes):
            if shape is None or index not in job.wanted:
                continue
            size = prod(shape) * DATATYPES[job.variant.outputs[index].datatype].itemsize
            offset = self._outputs.allocate(size)
            blocks[index] = (offset, size)
            if self._device.unified:
                address = self._outputs.address + offset
            else:
                address = self.buffers.take("output", index, size)
            placed[index] = TensorMemory(address, size, shape)
        return placed

    def _collect(
        self, job: LaneJob, results: Sequence[TensorMemory], blocks: dict[int, Block],
        stream: Stream,
    ) -> tuple[OutputBlock, ...]:
        """Copy the wanted outputs that are not in their blocks yet, and describe all."""
        outputs: list[OutputBlock] = []
        copies: list[Copy] = []
        for index in sorted(job.wanted):
            memory = results[index]
            spec = job.variant.outputs[index]
            if job.batched:
                _check_rows(spec.name, memory.shape, sum(job.rows))
            if index in blocks and blocks[index][1] < memory.size:
                self._outputs.free(blocks.pop(index)[0])
            if index not in blocks:
                blocks[index] = (self._outputs.allocate(memory.size), memory.size)
            offset = blocks[index][0]
            if memory.size and memory.address != self._outputs.address + offset:
                copies.append((self._outputs.address + offset, memory.address, memory.size))
            shape = memory.shape[1:] if job.batched else memory.shape
            sizes = _sizes(job.rows, memory, DATATYPES[spec.datatype].itemsize)
            outputs.append(OutputBlock(index, shape, offset, sizes))
        if copies:
            stream.copy(copies)
        return tuple(outputs)

    def _times(self) -> tuple[int, int, int, int]:
        """Nanoseconds of staging, H2D, compute and D2H."""
        started, gathered, computed, copied = self._events
        moved = gathered.elapsed_ns(started)
        compute, d2h = computed.elapsed_ns(gathered), copied.elapsed_ns(computed)
        return (moved, 0, compute, d2h) if self._device.unified else (0, moved, compute, d2h)

    def _quiesce(self) -> None:
        """After a failure: nothing may still read or write the blocks that others get back."""
        for stream in self._streams:
            try:
                stream.synchronize()
            except DeviceError:
                # The batch's own error is told already; a dead device does nothing more.
                pass


def _check_rows(name: str, shape: Shape, rows: int) -> None:
    if not shape or shape[0] != rows:
        raise ExecutionFailed(
            f"output '{name}' has shape {list(shape)} for a batch of {rows}: the model's outputs "
            "do not keep the batch dimension. Set max_batch_size: 0 in the model's configuration"
        )


def _sizes(rows: tuple[int, ...], memory: TensorMemory, itemsize: int) -> tuple[int, ...]:
    """The bytes of each request's piece of an output. `itemsize` 0: BYTES."""
    if len(rows) == 1:
        return (memory.size,)
    total = sum(rows)
    if itemsize:
        row = memory.size // total if total else 0
        return tuple([row * count for count in rows])
    each = prod(memory.shape[1:])
    view = memoryview((ctypes.c_char * memory.size).from_address(memory.address)).cast("B")
    sizes = []
    position = 0
    for count in rows:
        start = position
        for _ in range(count * each):
            position += 4 + int(struct.unpack_from("<I", view, position)[0])
        sizes.append(position - start)
    return tuple(sizes)


def _as_ours(error: Exception) -> TrtserveError:
    if isinstance(error, TrtserveError):
        return error
    log.error("a batch failed in a way that nobody foresaw", exc_info=error)
    return ExecutionFailed(f"the batch failed: {type(error).__name__}: {error}")
