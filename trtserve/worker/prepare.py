"""Making a lane's contexts and warming them up. Everything here runs in the lane's thread.

A context made for any shape is run in the buckets that can be known. Contexts made for one shape
each (see Engine.pins) are run once, captured in a graph where the engine allows that, and kept
so only if the graph computes what the run did.
"""

import ctypes
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from trtserve.clock import NS_PER_S
from trtserve.device.interface import Buffer, Device
from trtserve.engine.interface import Context, Engine
from trtserve.errors import DeviceError, TrtserveError
from trtserve.ipc.message import Bucket
from trtserve.model.spec import VariantSpec
from trtserve.model.tensor import DATATYPES, Shape
from trtserve.worker.buffers import Place
from trtserve.worker.contexts import LaneContexts, Pinned
from trtserve.worker.job import LaneJob, LaneResult
from trtserve.worker.latency import TRIALS, LatencyTable
from trtserve.worker.output import OutputArena
from trtserve.worker.runner import BatchRunner
from trtserve.worker.trial import close

log = logging.getLogger(__name__)

Measured = tuple[Bucket, int, int]
"""(bucket, rows, nanoseconds of the batch)."""

BUDGET_NS = 2 * NS_PER_S
"""Time to spend on the batch sizes of one variant: start-up stays short, serving learns on.
Each size runs once unmeasured, then TRIALS times."""

_SEED = 20
_FLOATS = ("FP16", "FP32", "FP64", "BF16")


@dataclass(slots=True)
class Source:
    """Where contexts of a variant come from: the engine, and the variant's index in it.

    `captures` turns false when a capture has failed: it is said once, and not tried again.
    `vouched`: the configuration says that dimension 0 is a batch, so batches may be padded.
    """

    engine: Engine
    index: int
    variant: VariantSpec
    captures: bool
    vouched: bool = True


class Preparation:
    """Prepares one variant on one lane."""

    def __init__(
        self, source: Source, runner: BatchRunner, device: Device, outputs: OutputArena
    ) -> None:
        self._source = source
        self._variant = source.variant
        self._runner = runner
        self._device = device
        self._outputs = outputs
        self._staging: Buffer | None = None

    def any_shape(self) -> Context:
        """A context for any shape."""
        runner = self._runner
        return self._source.engine.create_context(
            self._source.index, runner.compute_stream, scratch=runner.scratch
        )

    def warm(
        self, contexts: LaneContexts, buckets: Iterable[tuple[Bucket, Sequence[int]]]
    ) -> list[Measured]:
        """Run zeros of these buckets and sizes through the context that takes any shape. Their
        places stay held, and are noted.

        Raises what the first failing run raised: a model that can not run zeros can not serve.
        """
        context = contexts.any_shape
        if context is None:
            raise LookupError("there is no context that takes any shape")
        measured: list[Measured] = []
        spent = 0
        for bucket, sizes in buckets:
            table = LatencyTable(max(1, self._variant.max_batch))
            for rows in sizes:
                contexts.places += self._hold(context, bucket, rows)
                zeros = self._zeros(bucket, rows)
                spent += self._run(context, bucket, rows, zeros)[0]
                for service_ns in self._measure(context, bucket, rows, zeros):
                    table.record(rows, service_ns)
                    measured.append((bucket, rows, service_ns))
                    spent += service_ns
                if spent > BUDGET_NS or table.best_rows <= rows:
                    break
        return measured

    def pin(
        self, bucket: Bucket, sizes: Sequence[int], *, measure: bool,
        asked: Collection[int] = (),
    ) -> tuple[Pinned, list[Measured]]:
        """Contexts for these sizes of a bucket. With `measure`: only as far as growing pays, and
        for those that were `asked` for.

        Closes what it made when it raises.
        """
        made: list[Context] = []
        kept: list[int] = []
        places: list[Place] = []
        measured: list[Measured] = []
        table = LatencyTable(sizes[-1], sizes)
        enough = False
        try:
            for rows in sizes:
                if enough and rows not in asked:
                    continue
                context = self._source.engine.create_context(
                    self._source.index, self._runner.compute_stream, self._whole(bucket, rows),
                    self._runner.scratch,
                )
                made.append(context)
                kept.append(rows)
                places += self._hold(context, bucket, rows)
                self._run(context, bucket, rows, self._zeros(bucket, rows))
                if self._source.captures:
                    self._capture(context, bucket, rows)
                if not measure:
                    continue
                for service_ns in self._measure(
                    context, bucket, rows, self._zeros(bucket, rows)
                ):
                    table.record(rows, service_ns)
                    measured.append((bucket, rows, service_ns))
                enough = enough or table.best_rows < rows
        except BaseException:
            self.unpin(Pinned(tuple(kept), tuple(made), tuple(places)))
            raise
        return Pinned(tuple(kept), tuple(made), tuple(places)), measured

    def answer(
        self, contexts: LaneContexts, bucket: Bucket, rows: int, inputs: Sequence[bytes]
    ) -> list[tuple[Shape, bytes]]:
        """What a lone request gets that has these inputs: the whole shape and the bytes of every
        output. Raises what the run raises."""
        context, padded = contexts.find(bucket, rows, exact=not self._source.vouched)
        held = self._hold(context, bucket, padded or rows)
        try:
            result = self._execute(context, bucket, rows, inputs, padded)
        finally:
            self._release(held)
        batch = (rows,) if self._variant.max_batch else ()
        shapes = [(*batch, *block.shape) for block in result.outputs]
        return list(zip(shapes, self._take(result), strict=True))

    def unpin(self, pinned: Pinned) -> None:
        """Close the contexts and let their places go."""
        for context in pinned.contexts:
            context.close()
        self._release(pinned.places)

    def strip(self, contexts: LaneContexts) -> None:
        """Close all contexts of the lane and let their places go."""
        for pinned in contexts.pinned.values():
            self.unpin(pinned)
        contexts.pinned.clear()
        if contexts.any_shape is not None:
            contexts.any_shape.close()
        self._release(contexts.places)
        contexts.places.clear()
        self._runner.buffers.trim()

    def _hold(self, context: Context, bucket: Bucket, rows: int) -> list[Place]:
        """Reserve the lane's places for a bucket and size: all or, when it raises, none."""
        held: list[Place] = []
        try:
            for place in self._places(context, bucket, rows):
                self._runner.buffers.reserve(*place)
                held.append(place)
        except BaseException:
            self._release(held)
            raise
        return held

    def _release(self, places: Iterable[Place]) -> None:
        for place in places:
            self._runner.buffers.release(*place)

    def _capture(self, context: Context, bucket: Bucket, rows: int) -> None:
        """Capture a context's run, and keep the graph if it computes the same.

        Two inputs: a graph that only repeats what it saw when it was captured is found out. A
        model that refuses them all the same can not be compared, and still serves.
        """
        random = np.random.default_rng(_SEED)
        inputs = [self._random(random, bucket, rows) for _ in range(2)]
        try:
            plain = [self._run(context, bucket, rows, data)[1] for data in inputs]
            self._runner.capture(self._job(context, bucket, rows, ()))
            graph = [self._run(context, bucket, rows, data)[1] for data in inputs]
        except TrtserveError as error:
            if isinstance(error, DeviceError) and error.sticky:
                raise
            problem = str(error)
        else:
            if all(map(self._same, plain, graph)):
                return
            problem = "the graph computes something else"
        context.release_graph()
        self._source.captures = False
        log.warning("%s is not captured in graphs: %s", self._variant.name, problem)

    def _same(self, plain: Sequence[bytes], graph: Sequence[bytes]) -> bool:
        return all(
            close(spec.datatype, one, other)
            for spec, one, other in zip(self._variant.outputs, plain, graph, strict=True)
        )

    def _measure(
        self, context: Context, bucket: Bucket, rows: int, inputs: Sequence[bytes]
    ) -> list[int]:
        return [self._run(context, bucket, rows, inputs)[0] for _ in range(TRIALS)]

    def _run(
        self, context: Context, bucket: Bucket, rows: int, inputs: Sequence[bytes]
    ) -> tuple[int, list[bytes]]:
        """Run one batch. Returns its nanoseconds and its outputs' bytes."""
        result = self._execute(context, bucket, rows, inputs)
        return result.service_ns, self._take(result)

    def _execute(
        self, context: Context, bucket: Bucket, rows: int, inputs: Sequence[bytes],
        padded: int = 0,
    ) -> LaneResult:
        """Run one batch, whose outputs are to be taken. Raises what it raised."""
        places = []
        target = self._stage(sum(map(len, inputs)))
        for data in inputs:
            ctypes.memmove(target, data, len(data))
            places.append((target, len(data)))
            target += len(data)
        result = self._runner.run(self._job(context, bucket, rows, tuple(places), padded))
        if result.error is not None:
            raise result.error
        return result

    def _take(self, result: LaneResult) -> list[bytes]:
        """The outputs' bytes, whose blocks are free then."""
        view = self._outputs.view
        found = [
            bytes(view[block.offset : block.offset + sum(block.sizes)])
            for block in result.outputs
        ]
        for block in result.blocks:
            self._outputs.free(block)
        return found

    def _job(
        self, context: Context, bucket: Bucket, rows: int, places: tuple[tuple[int, int], ...],
        padded: int = 0,
    ) -> LaneJob:
        return LaneJob(
            batch_id=0, context=context, variant=self._variant,
            batched=self._variant.max_batch > 0, bucket=bucket, rows=(rows,), inputs=(places,),
            wanted=frozenset(range(len(self._variant.outputs))), padded=padded,
        )

    def _stage(self, size: int) -> int:
        """The address of host memory for inputs of so many bytes."""
        if self._staging is None or self._staging.size < size:
            self.close()
            self._staging = self._device.allocate_staging(max(1, size))
        return self._staging.address

    def _zeros(self, bucket: Bucket, rows: int) -> list[bytes]:
        """An input of zeros. A BYTES element of zero length is its 4-byte length."""
        return [
            bytes(rows * prod(dims) * (DATATYPES[tensor.datatype].itemsize or 4))
            for tensor, dims in zip(self._variant.inputs, bucket, strict=True)
        ]

    def _random(self, random: np.random.Generator, bucket: Bucket, rows: int) -> list[bytes]:
        """An input that tells runs apart, of values that hardly any model refuses: integers may
        be indices, so they are 0 or 1; bytes are mostly pixels."""
        inputs = []
        for tensor, dims in zip(self._variant.inputs, bucket, strict=True):
            kind: np.dtype[Any] = DATATYPES[tensor.datatype].numpy
            shape = (rows, *dims)
            if tensor.datatype in _FLOATS:
                values = random.standard_normal(shape).astype(kind)
            else:
                high = 256 if tensor.datatype == "UINT8" else 2
                values = random.integers(0, high, shape).astype(kind)
            inputs.append(values.tobytes())
        return inputs

    def _places(self, context: Context, bucket: Bucket, rows: int) -> list[Place]:
        """The lane's places that a batch of so many rows needs, as far as they are known."""
        if self._device.unified:
            return []
        places: list[Place] = []
        shapes = self._whole(bucket, rows)
        small = self._device.gather_bytes
        for index, (spec, shape) in enumerate(zip(self._variant.inputs, shapes, strict=True)):
            size = prod(shape) * DATATYPES[spec.datatype].itemsize
            places.append(("input", index, size))
            if size // rows < small:
                places.append(("staging", index, size))
        for index, found in enumerate(context.output_shapes(shapes)):
            if found is not None:
                itemsize = DATATYPES[self._variant.outputs[index].datatype].itemsize
                places.append(("output", index, prod(found) * itemsize))
        return places

    def _whole(self, bucket: Bucket, rows: int) -> list[Shape]:
        return [(rows, *dims) if self._variant.max_batch else dims for dims in bucket]

    def close(self) -> None:
        """Give back what the preparation itself needed. Twice is harmless."""
        staging, self._staging = self._staging, None
        if staging is not None:
            staging.close()
