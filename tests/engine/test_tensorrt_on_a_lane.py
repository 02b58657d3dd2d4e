"""The adapter in the hands of the worker: prepared, captured, run and taken away on a lane."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.tensorrt_stand import ANYWHERE, Array, rows
from tests.worker.workshop import BUCKET, Workshop
from trtserve.engine.tensorrt import TensorRtRuntime
from trtserve.testing.tensorrt import HostMachine, make_module
from trtserve.testing.tensorrt_plan import make_plan
from trtserve.worker.contexts import LaneContexts
from trtserve.worker.job import LaneJob


class PlanShop(Workshop):
    """A lane, and plans for it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._path = str(folder / "model.plan")

    def answer(self, engine: Any, context: Any, size: int, given: Array) -> Array:
        """What requests get whose rows run in a context for `size` rows."""
        result = self.runner.run(LaneJob(
            1, context, engine.variants[0], True, (given.shape[1:],), (len(given),),
            (((given.ctypes.data, given.nbytes),),), frozenset([0]),
            size if size > len(given) else 0,
        ))
        assert result.error is None
        (block,) = result.outputs
        data = bytes(self.outputs.view[block.offset : block.offset + block.sizes[0]])
        self.outputs.free(block.offset)
        return np.frombuffer(data, np.float32).reshape(given.shape)

    def load(self, **options: Any) -> Any:
        make_plan(self._path, **options)
        runtime = TensorRtRuntime(make_module(HostMachine(self.device)), ANYWHERE)
        return runtime.load(self._path, self.device, {})


@pytest.fixture
def shop(tmp_path):
    shop = PlanShop(tmp_path)
    yield shop
    shop.close()


def test_each_size_gets_a_graph_that_computes_the_same(shop):
    engine = shop.load()
    preparation = shop.prepare(engine)
    pinned, measured = preparation.pin(BUCKET, (1, 2, 4, 8), measure=True)
    assert pinned.sizes == (1, 2, 4, 8)
    assert {rows for _, rows, _ in measured} == {1, 2, 4, 8}
    assert len(shop.device.graphs) == 4
    for context, size in zip(pinned.contexts, pinned.sizes, strict=True):
        found = shop.answer(engine, context, size, rows(size))
        np.testing.assert_array_equal(found, 4 * rows(size))
    preparation.unpin(pinned)
    assert all(graph.closed for graph in shop.device.graphs)
    assert shop.device.allocated_bytes == 0


def test_a_batch_is_padded_to_a_size_that_there_is(shop):
    engine = shop.load()
    preparation = shop.prepare(engine)
    pinned, _ = preparation.pin(BUCKET, (4,), measure=False)
    found = shop.answer(engine, pinned.contexts[0], 4, rows(3))
    np.testing.assert_array_equal(found, 4 * rows(3))
    preparation.unpin(pinned)


def test_without_graphs_it_serves_all_the_same(shop, caplog):
    engine = shop.load(capturable=False)
    preparation = shop.prepare(engine)
    pinned, _ = preparation.pin(BUCKET, (1, 2), measure=False)
    found = shop.answer(engine, pinned.contexts[1], 2, rows(2))
    np.testing.assert_array_equal(found, 4 * rows(2))
    assert caplog.text.count("model.plan is not captured in graphs") == 1
    preparation.unpin(pinned)


def test_profiles_that_divide_the_batch_are_warmed_up_from_one_row(shop):
    engine = shop.load(shapes=[((1, 4), (1, 4), (1, 4)), ((2, 4), (8, 4), (8, 4))])
    preparation = shop.prepare(engine)
    contexts = LaneContexts(preparation.any_shape())
    measured = preparation.warm(contexts, [(BUCKET, (1, 2, 8))])
    assert {rows for _, rows, _ in measured} >= {1, 2}
    preparation.strip(contexts)
    assert shop.device.allocated_bytes == 0
