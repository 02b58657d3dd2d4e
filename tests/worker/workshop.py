"""One lane, and what prepares it: for the tests of that."""

from typing import Any

import numpy as np

from trtserve.ipc.message import Bucket
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.testing.engine import FakeContext, FakeEngine, FakeScript, fake_variant
from trtserve.worker.contexts import LaneContexts
from trtserve.worker.job import LaneJob
from trtserve.worker.output import OutputArena
from trtserve.worker.prepare import Measured, Preparation, Source
from trtserve.worker.runner import BatchRunner

BUCKET: Bucket = ((4,),)


class Workshop:
    """One lane's runner, and preparations for it."""

    def __init__(self, *, unified: bool = False) -> None:
        self.device = FakeDevice(FakeClock(), unified=unified)
        self.outputs = OutputArena.create(1 << 20)
        self.runner = BatchRunner(0, self.device, self.outputs)
        self.runner.open()
        self._made: list[Preparation] = []

    def prepare(self, engine: FakeEngine) -> Preparation:
        """A preparation of the engine's first variant."""
        source = Source(engine, 0, engine.variants[0], engine.captures)
        self._made.append(Preparation(source, self.runner, self.device, self.outputs))
        return self._made[-1]

    def warm(self, engine: FakeEngine, *sizes: int) -> list[Measured]:
        """Warm the engine's any-shape context up, and take it away again."""
        preparation = self.prepare(engine)
        contexts = LaneContexts(preparation.any_shape())
        try:
            return preparation.warm(contexts, [(BUCKET, sizes)])
        finally:
            preparation.strip(contexts)
            preparation.close()
            preparation.close()

    def run(self, engine: FakeEngine, context: FakeContext, given: np.ndarray[Any, Any]) -> bytes:
        """What a request gets whose batch runs in this context."""
        assert context.shapes is not None
        size = context.shapes[0][0]
        result = self.runner.run(LaneJob(
            1, context, engine.variants[0], True, (given.shape[1:],), (len(given),),
            (((given.ctypes.data, given.nbytes),),), frozenset([0]),
            size if size > len(given) else 0,
        ))
        assert result.error is None
        (block,) = result.outputs
        data = bytes(self.outputs.view[block.offset : block.offset + block.sizes[0]])
        self.outputs.free(block.offset)
        return data

    def close(self) -> None:
        for preparation in self._made:
            preparation.close()
        assert self.outputs.statistics().blocks == 0
        assert self.device.staging_bytes == self._staging
        self.runner.close()
        self.outputs.close()

    @property
    def _staging(self) -> int:
        """What the lane itself holds of staging memory."""
        return self.runner.buffers.size - self.device.allocated_bytes


def pinning(script: FakeScript | None = None, max_batch: int = 64) -> FakeEngine:
    """An engine whose contexts can be captured, whose batches of any size take one time."""
    script = script or FakeScript()
    script.pins = script.captures = True
    return FakeEngine(fake_variant(max_batch=max_batch), script=script)
