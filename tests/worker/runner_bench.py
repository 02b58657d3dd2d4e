"""A runner with everything around it, for the tests of how batches go through it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from trtserve.engine.interface import Context
from trtserve.model.tensor import decode, encode
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice, FakeTimes
from trtserve.testing.engine import FakeEngine
from trtserve.worker.job import LaneJob, LaneResult
from trtserve.worker.output import OutputArena
from trtserve.worker.runner import BatchRunner

Array = np.ndarray[Any, Any]


class Bench:
    """A runner with everything around it."""

    def __init__(self, *, unified: bool, arena_bytes: int = 1 << 20) -> None:
        self.device = FakeDevice(FakeClock(), unified=unified, times=FakeTimes(1000, 0))
        self.outputs = OutputArena.create(arena_bytes)
        self.runner = BatchRunner(3, self.device, self.outputs)
        self.runner.open()
        self.runner.buffers.reserve("input", 0, 1 << 16)
        self.runner.buffers.reserve("output", 0, 1 << 16)
        self.runner.buffers.reserve("output", 1, 1 << 16)
        self._kept: list[Array] = []

    def close(self) -> None:
        self.runner.close()
        self.outputs.close()

    def job(
        self, engine: FakeEngine, *requests: Array, wanted: Sequence[int] = (0,), rows: int = 0,
        padded: int = 0, context: Context | None = None,
    ) -> LaneJob:
        """A batch with one input, in a new context unless one is given; `rows`: of every
        request, where they are not batched."""
        variant = engine.variants[0]
        batched = variant.max_batch > 0
        blocks = [np.frombuffer(encode(array), np.uint8) for array in requests]
        self._kept += blocks
        first = requests[0]
        return LaneJob(
            7, context or engine.create_context(0, self.runner.compute_stream), variant, batched,
            (first.shape[1:] if batched else first.shape,),
            tuple(rows or len(array) for array in requests),
            tuple(((block.ctypes.data, block.nbytes),) for block in blocks), frozenset(wanted),
            padded,
        )

    def read(self, result: LaneResult, datatype: str = "FP32", output: int = 0) -> list[Array]:
        """Each request's piece of an output, flat."""
        block = result.outputs[output]
        pieces, offset = [], block.offset
        for size in block.sizes:
            data = bytes(self.outputs.view[offset : offset + size])
            count = size // 4 if datatype == "FP32" else _count(data)
            pieces.append(decode(datatype, (count,), data))
            offset += size
        return pieces


def _count(data: bytes) -> int:
    count = position = 0
    while position < len(data):
        position += 4 + int.from_bytes(data[position : position + 4], "little")
        count += 1
    return count


def rows(count: int, start: int = 0) -> Array:
    return np.arange(start, start + 4 * count, dtype=np.float32).reshape(count, 4)
