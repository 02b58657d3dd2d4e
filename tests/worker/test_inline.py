"""Which batches run in the loop's own thread."""

from typing import Any

import pytest

from trtserve.ipc.message import Submit
from trtserve.worker.inline import MISTAKE_NS, PENALTY_NS, SHORT_NS, Inline
from trtserve.worker.job import LaneResult
from trtserve.worker.request import Batch, Request
from trtserve.worker.runner import BatchRunner

JOB: Any = None
"""The runner here looks at none."""


class Runner(BatchRunner):
    """Takes as long as it is told."""

    def __init__(self) -> None:
        self.index = 3
        self.compute_ns = 1_000

    def run(self, job: Any) -> LaneResult:
        return LaneResult(1, self.index, 5_000, compute_ns=self.compute_ns)


def batch(variant: int = 7, started_ns: int = 0) -> Batch:
    submit = Submit(1, variant, ((4,),), 1, (), (0,), 0)
    return Batch(1, variant, ((4,),), [Request(submit, None)], 1, started_ns)


@pytest.mark.parametrize(("estimate", "taken"), [
    (None, False), (SHORT_NS - 1, True), (SHORT_NS, False),
])
def test_only_what_is_known_to_be_short_runs_inline(estimate, taken):
    assert Inline(Runner(), lambda _: estimate).takes(batch()) is taken


def test_a_variant_that_took_long_after_all_goes_to_the_lanes_for_a_while():
    runner = Runner()
    inline = Inline(runner, lambda _: 1_000)
    runner.compute_ns = MISTAKE_NS
    inline.run(batch(), JOB)
    assert inline.takes(batch())
    runner.compute_ns = MISTAKE_NS + 1
    result = inline.run(batch(), JOB)
    assert not inline.takes(batch(started_ns=result.finished_ns))
    assert inline.takes(batch(8, started_ns=result.finished_ns))  # another variant
    assert inline.takes(batch(started_ns=result.finished_ns + PENALTY_NS))
