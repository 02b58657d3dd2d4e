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
from trtserve.device.host import copy_host
from trtserve.device.interface import Copy, Device, Event, Stream
from trtserve.engine.interface import TensorMemory
from trtserve.engine.scratch import Scratch
from trtserve.errors import DeviceError, ExecutionFailed, ProtocolError, TrtserveError
from trtserve.ipc.message import OutputBlock
from trtserve.model.tensor import DATATYPES, Shape
from trtserve.worker.buffers import LaneBuffers
from trtserve.worker.compute_order import ComputeOrder
from trtserve.worker.job import LaneJob, LaneResult
from trtserve.worker.output import OutputArena

log = logging.getLogger(__name__)

Block = tuple[int, int]
"""A piece of the output arena: offset, bytes."""


class BatchRunner:
    """Streams, events and buffers of one lane, and how a batch goes through them.

    One user at a time: a second one gets ProtocolError. `index` names the lane in results.
    `order` is shared with the device's other lanes.
    """

    def __init__(
        self, index: int, device: Device, outputs: OutputArena, order: ComputeOrder | None = None
    ) -> None:
        self.index = index
        self.buffers = LaneBuffers(device)
        self.scratch = Scratch(device)
        self._device = device
        self._outputs = outputs
        self._order = order
        self._using = threading.Lock()
        self._streams: tuple[Stream, ...] = ()
        self._events: tuple[Event, ...] = ()
        self._began_ns = 0
        self._staged_ns = 0

    def open(self) -> None:
        """Make the streams and events, in the thread that is to use them."""
        device = self._device
        device.enter_thread()
        for _ in range(3):  # one by one: `close` finds those that were made before one failed
            self._streams += (device.create_stream(),)
        self._events = tuple(device.create_event() for _ in range(4))

    @property
    def compute_stream(self) -> Stream:
        """The stream that contexts of this lane run on."""
        return self._streams[1]

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
            lost = self._quiesce()
            for offset, _ in blocks.values():
                self._outputs.free(offset)
            return LaneResult(
                job.batch_id, self.index, now_ns(), lost or _as_ours(error),
                began_ns=self._began_ns, padded=job.padded,
            )
        finally:
            self._using.release()
        return LaneResult(
            job.batch_id, self.index, now_ns(), None, outputs,
            tuple([offset for offset, _ in blocks.values()]), *times, self._began_ns, job.padded,
        )

    def capture(self, job: LaneJob) -> None:
        """Have the job's context record itself as a graph, on this lane's places for its shapes.

        Raises ExecutionFailed where that does not work, DeviceError when the device fails.
        """
        inputs = [
            TensorMemory(self.buffers.take("input", index, size), size, shape)
            for index, (size, shape) in enumerate(_whole_inputs(job))
        ]
        outputs: list[TensorMemory] = []
        shapes = job.context.output_shapes([memory.shape for memory in inputs])
        for index, (shape, spec) in enumerate(zip(shapes, job.variant.outputs, strict=True)):
            if shape is None:
                raise ExecutionFailed(f"the shape of output '{spec.name}' depends on the data")
            size = prod(shape) * DATATYPES[spec.datatype].itemsize
            outputs.append(TensorMemory(self.buffers.take("output", index, size), size, shape))
        job.context.capture(self.compute_stream, inputs, outputs)

    def close(self) -> None:
        """Give streams and buffers back. Twice is harmless."""
        for stream in self._streams:
            stream.close()
        self._streams = ()
        self.buffers.close()
        self.scratch.close()

    def _execute(self, job: LaneJob, blocks: dict[int, Block]) -> tuple[OutputBlock, ...]:
        into, compute, out = self._streams
        started, gathered, computed, copied = self._events
        began = self._began_ns = now_ns()
        inputs, copies = self._gather(job)
        into.record(started)
        # Where the streams run by themselves, the device begins about now.
        self._staged_ns = now_ns() - began
        if copies:
            into.copy(copies)
        into.record(gathered)
        compute.wait(gathered)
        placed = self._place(job, inputs, blocks)
        order = self._order
        if order is not None and (before := order.before()) is not None:
            compute.wait(before)
        results = job.context.enqueue(compute, inputs, placed)
        compute.record(computed)
        if order is not None:
            order.entered(computed)
        out.wait(computed)
        outputs = self._collect(job, results, blocks, out)
        out.record(copied)
        copied.synchronize()
        return outputs

    def _gather(self, job: LaneJob) -> tuple[list[TensorMemory], list[Copy]]:
        """Each input whole, and the copies that bring it there: none for the only request's own
        block in shared memory, one for small pieces that the CPU has put side by side, else one
        for each piece."""
        if not job.batched and len(job.inputs) != 1:
            raise ProtocolError(f"batch {job.batch_id} has {len(job.inputs)} requests, unbatched")
        in_place = self._device.unified and len(job.inputs) == 1 and not job.padded
        small = self._device.gather_bytes
        rows = sum(job.rows)
        gathered: list[TensorMemory] = []
        copies: list[Copy] = []
        for index, (whole, shape) in enumerate(_whole_inputs(job)):
            pieces = [request[index] for request in job.inputs]
            size = sum([piece[1] for piece in pieces])
            spec = job.variant.inputs[index]
            if not DATATYPES[spec.datatype].itemsize:
                whole = size
            elif size * (job.padded or rows) != whole * rows:
                # The engine would read beyond the block.
                raise ProtocolError(
                    f"input '{spec.name}' of batch {job.batch_id} has {size} bytes for {rows} "
                    f"rows; {spec.datatype}{list(shape)} needs {whole}"
                )
            if in_place:
                address = pieces[0][0]
            else:
                address = self.buffers.take("input", index, whole)
                if len(pieces) > 1 and size < small * len(pieces):
                    staging = target = self.buffers.take("staging", index, whole)
                    for source, length in pieces:
                        copy_host(target, source, length)
                        target += length
                    copies.append((address, staging, size))
                else:
                    target = address
                    for source, length in pieces:
                        copies.append((target, source, length))
                        target += length
            gathered.append(TensorMemory(address, whole, shape))
        return gathered, copies

    def _place(
        self, job: LaneJob, inputs: Sequence[TensorMemory], blocks: dict[int, Block]
    ) -> list[TensorMemory | None]:
        """Blocks for the wanted outputs whose size is known; refused before any device time.

        A captured context writes all its outputs where it was captured, wanted or not.
        """
        shapes = job.context.output_shapes([memory.shape for memory in inputs])
        placed: list[TensorMemory | None] = [None] * len(shapes)
        in_block = self._device.unified and not job.padded
        for index, shape in enumerate(shapes):
            if shape is None:
                continue
            wanted = index in job.wanted
            if in_block and not wanted:
                continue
            whole = prod(shape) * DATATYPES[job.variant.outputs[index].datatype].itemsize
            size = _of_requests(job, whole)
            if wanted:
                offset = self._outputs.allocate(size)
                blocks[index] = (offset, size)
            if in_block:
                address = self._outputs.address + offset
            else:
                address = self.buffers.take("output", index, whole)
            placed[index] = TensorMemory(address, whole, shape)
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
                _check_rows(spec.name, memory.shape, job.padded or sum(job.rows))
            size = _of_requests(job, memory.size)
            if index in blocks and blocks[index][1] < size:
                self._outputs.free(blocks.pop(index)[0])
            if index not in blocks:
                blocks[index] = (self._outputs.allocate(size), size)
            offset = blocks[index][0]
            if size and memory.address != self._outputs.address + offset:
                copies.append((self._outputs.address + offset, memory.address, size))
            shape = memory.shape[1:] if job.batched else memory.shape
            sizes = _sizes(job.rows, memory, size, DATATYPES[spec.datatype].itemsize)
            outputs.append(OutputBlock(index, shape, offset, sizes))
        if copies:
            stream.copy(copies)
        return tuple(outputs)

    def _times(self) -> tuple[int, int, int, int]:
        """Nanoseconds of staging, H2D, compute and D2H."""
        started, gathered, computed, copied = self._events
        moved = gathered.elapsed_ns(started)
        compute, d2h = computed.elapsed_ns(gathered), copied.elapsed_ns(computed)
        if self._device.unified:
            return moved, 0, compute, d2h
        return self._staged_ns, moved, compute, d2h

    def _quiesce(self) -> DeviceError | None:
        """After a failure: nothing may still read or write the blocks that others get back.

        Returns the device's own error if that is sticky: engines tell of it in words of theirs,
        or not at all.
        """
        lost: DeviceError | None = None
        for stream in self._streams:
            try:
                stream.synchronize()
            except DeviceError as error:
                if error.sticky:
                    lost = error
        return lost


def _whole_inputs(job: LaneJob) -> list[tuple[int, Shape]]:
    """Each input's bytes (0 for BYTES) and whole shape, as the engine runs it."""
    rows = job.padded or sum(job.rows)
    whole = []
    for spec, dims in zip(job.variant.inputs, job.bucket, strict=True):
        shape = (rows, *dims) if job.batched else dims
        whole.append((prod(shape) * DATATYPES[spec.datatype].itemsize, shape))
    return whole


def _of_requests(job: LaneJob, size: int) -> int:
    """The part of an output of `size` bytes that belongs to requests, not to padding."""
    return size // job.padded * sum(job.rows) if job.padded else size


def _check_rows(name: str, shape: Shape, rows: int) -> None:
    if not shape or shape[0] != rows:
        raise ExecutionFailed(
            f"output '{name}' has shape {list(shape)} for a batch of {rows}: the model's outputs "
            "do not keep the batch dimension. Set max_batch_size: 0 in the model's configuration"
        )


def _sizes(
    rows: tuple[int, ...], memory: TensorMemory, size: int, itemsize: int
) -> tuple[int, ...]:
    """The bytes of each request's piece of an output's first `size` bytes. `itemsize` 0: BYTES."""
    if len(rows) == 1:
        return (size,)
    total = sum(rows)
    if itemsize:
        row = size // total if total else 0
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
