"""A batch dimension that nobody vouches for is tried before it is believed."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tests.worker.worker_stand import FrontEndSide, Gate, WorkerStand, model_folder
from trtserve.model.configuration import ModelConfiguration
from trtserve.testing.engine import Arrays, FakeEngine, FakeScript, doubling, fake_variant

Serve = Callable[[Callable[[Arrays], Arrays]], tuple[Gate, FrontEndSide]]


def summing(arrays: Arrays) -> Arrays:
    """y[i] = x[0] + ... + x[i]: dimension 0 is a sequence."""
    return [np.cumsum(array, axis=0, dtype=np.float32) for array in arrays]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a worker with one model and no configuration, and connects a front end."""
    stands: list[tuple[WorkerStand, Gate]] = []

    def start(compute: Callable[[Arrays], Arrays]) -> tuple[Gate, FrontEndSide]:
        gate = Gate(compute)
        engine = FakeEngine(fake_variant(), script=FakeScript(gate.compute))
        folder = model_folder("m", "m.fake", configuration=ModelConfiguration())
        stand = WorkerStand({"m.fake": engine}, folders=(folder,)).start()
        stands.append((stand, gate))
        return gate, stand.connect()

    yield start
    for stand, gate in stands:
        gate.open()
        stand.stop()


def together(gate: Gate, front_end: FrontEndSide, values: list[float]) -> list[tuple[float, int]]:
    """Requests that wait together while the only lane is held up: each one's value in its
    answer, and how many requests shared its batch."""
    gate.close()
    first = front_end.submit(np.zeros((1, 4), np.float32))
    gate.wait_for_a_run()
    idents = [front_end.submit(np.full((1, 4), value, np.float32)) for value in values]
    gate.open()
    front_end.answer(first)
    answers = [front_end.answer(ident) for ident in idents]
    return [(float(output[0, 0]), done.timing.requests) for done, output in answers]


def test_a_batch_that_proves_itself_is_a_batch_from_then_on(serve):
    gate, front_end = serve(doubling)
    assert together(gate, front_end, [1, 2]) == [(2, 1), (4, 1)]
    assert together(gate, front_end, [3, 4]) == [(6, 2), (8, 2)]


def test_a_dimension_0_that_is_no_batch_gives_no_wrong_answer_ever(serve):
    gate, front_end = serve(summing)
    assert together(gate, front_end, [1, 2]) == [(1, 1), (2, 1)]
    assert together(gate, front_end, [3, 4, 5]) == [(3, 1), (4, 1), (5, 1)]
