"""Warming a variant up: run each bucket that can be known, and measure it.

Runs on a lane of its own, so that the lanes that serve are not held up and the measured path is
the served one. What it measures are the batcher's first latencies and the router's first costs.
"""

from collections.abc import Iterator, Sequence
from math import prod
from queue import SimpleQueue

from trtserve.clock import NS_PER_S
from trtserve.device.interface import Device
from trtserve.engine.interface import Context
from trtserve.ipc.message import Bucket
from trtserve.model.configuration import WarmupShapes
from trtserve.model.spec import ANY, VariantSpec
from trtserve.model.tensor import DATATYPES, Shape
from trtserve.worker.lane import Lane, LaneJob, LaneResult
from trtserve.worker.latency import TRIALS, LatencyTable
from trtserve.worker.output import OutputArena

Measured = tuple[Bucket, int, int]
"""(bucket, rows, nanoseconds of the batch)."""

BUDGET_NS = 2 * NS_PER_S
"""Time to spend on the batch sizes of one variant: start-up stays short, serving learns on.
Each size runs once unmeasured, then TRIALS times."""


class WarmUp:
    """Runs zeros through variants. Used by the loader's thread only; `close` ends its lane."""

    def __init__(self, device: Device, outputs: OutputArena) -> None:
        self._device = device
        self._outputs = outputs
        self._results: SimpleQueue[LaneResult] = SimpleQueue()
        self._lane = Lane(-1, device, outputs, self._results.put)
        self._lane.start()

    def run(
        self, variant: VariantSpec, context: Context, warmups: Sequence[WarmupShapes]
    ) -> tuple[Measured, ...]:
        """Warm up a variant in every bucket that is known. Closes the context.

        Raises what the first failing run raised: a model that can not run zeros can not serve.
        """
        measured: list[Measured] = []
        spent = 0
        try:
            for bucket, only_rows in known_buckets(variant, warmups):
                table = LatencyTable(max(1, variant.max_batch))
                for rows in only_rows or _sizes(variant.max_batch):
                    spent += self._once(variant, context, bucket, rows)
                    for _ in range(TRIALS):
                        service_ns = self._once(variant, context, bucket, rows)
                        table.record(rows, service_ns)
                        measured.append((bucket, rows, service_ns))
                        spent += service_ns
                    if spent > BUDGET_NS or table.best_rows <= rows:
                        break
        finally:
            context.close()
        return tuple(measured)

    def close(self) -> None:
        """End the lane. Twice is harmless."""
        self._lane.close()

    def _once(self, variant: VariantSpec, context: Context, bucket: Bucket, rows: int) -> int:
        """Run one batch of zeros. Returns its nanoseconds."""
        sizes = [
            _bytes(tensor.datatype, rows * prod(shape))
            for tensor, shape in zip(variant.inputs, bucket, strict=True)
        ]
        zeros = self._device.allocate_staging(max(1, max(sizes, default=1)))
        try:
            self._lane.submit(LaneJob(
                batch_id=0, context=context, variant=variant, batched=variant.max_batch > 0,
                bucket=bucket, rows=(rows,),
                inputs=(tuple((zeros.address, size) for size in sizes),),
                wanted=frozenset(range(len(variant.outputs))),
            ))
            result = self._results.get()
        finally:
            zeros.close()
        for block in result.blocks:
            self._outputs.free(block)
        if result.error is not None:
            raise result.error
        return result.service_ns


def known_buckets(
    variant: VariantSpec, warmups: Sequence[WarmupShapes]
) -> Iterator[tuple[Bucket, tuple[int, ...]]]:
    """The buckets that requests will surely come in: the configuration's `model_warmup`, the
    profile's opt, max and min shapes, or the only shape there is.

    With the batch sizes to run where they are given, () for all.
    """
    seen: set[Bucket] = set()
    for warmup in warmups:
        by_name = {tensor.name: tensor.shape for tensor in warmup.inputs}
        shapes = tuple(by_name.get(tensor.name, ()) for tensor in variant.inputs)
        rows = warmup.batch_size if variant.max_batch else 1
        whole = [(rows, *shape) if variant.max_batch else shape for shape in shapes]
        if _takes(variant, whole):
            yield shapes, (rows,)
    for which in ("opt", "max", "min"):
        bucket = _profile_bucket(variant, which)
        if bucket is not None and bucket not in seen:
            seen.add(bucket)
            yield bucket, ()


def _profile_bucket(variant: VariantSpec, which: str) -> Bucket | None:
    """The bucket at one end of the variant's ranges; None where the engine gives no such end.

    The minimum of an open dimension says nothing: no one sends images of one pixel.
    """
    bucket: list[Shape] = []
    for shape_range in variant.ranges:
        skip = 1 if variant.max_batch else 0
        low, high = shape_range.min[skip:], shape_range.max[skip:]
        if ANY in high:
            return None
        if which == "opt":
            if shape_range.opt is None:
                return None
            bucket.append(shape_range.opt[skip:])
        else:
            bucket.append(high if which == "max" else low)
    return tuple(bucket)


def _takes(variant: VariantSpec, shapes: Sequence[Shape]) -> bool:
    return all(
        shape_range.takes(shape)
        for shape_range, shape in zip(variant.ranges, shapes, strict=True)
    )


def _sizes(max_batch: int) -> Iterator[int]:
    """1, 2, 4 ... up to the largest batch."""
    rows = 1
    while rows < max_batch:
        yield rows
        rows *= 2
    yield max(1, max_batch)


def _bytes(datatype: str, elements: int) -> int:
    """The bytes of a tensor of zeros. A BYTES element of zero length is its 4-byte length."""
    return elements * (DATATYPES[datatype].itemsize or 4)
