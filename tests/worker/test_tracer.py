"""What front ends hear of batches, and that nobody hears who did not ask."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from trtserve.errors import ExecutionFailed
from trtserve.ipc.channel import Channel
from trtserve.ipc.message import Submit, Traced
from trtserve.ipc.recording import TracedBatch
from trtserve.metrics import Recorder
from trtserve.model.spec import VariantSpec
from trtserve.testing.engine import FakeEngine
from trtserve.worker.counts import VersionCounts
from trtserve.worker.equip import Equipment
from trtserve.worker.job import LaneResult
from trtserve.worker.link import FrontEndLink
from trtserve.worker.prepare import Source
from trtserve.worker.request import Batch, Request
from trtserve.worker.resident import ResidentVariant
from trtserve.worker.tracer import MAX_KEPT, Tracer

SPEC = VariantSpec("small.onnx", (), (), (), 8)
VARIANT = ResidentVariant(
    "det", 2, SPEC, Equipment(Source(FakeEngine(SPEC), 0, SPEC, False), (), ()),
    VersionCounts(Recorder(), "det", 2),
)
RESULT = LaneResult(
    batch_id=5, lane=1, finished_ns=99, stage_ns=1, h2d_ns=2, compute_ns=3, d2h_ns=4, began_ns=60
)


class FrontEnd:
    """A front end, seen from both sides."""

    def __init__(self, peer: str) -> None:
        ours, self.theirs = Channel.pair()
        self.link = FrontEndLink(peer, ours)

    def heard(self) -> list[object]:
        """What it was told since the last time."""
        self.link.channel.flush()
        return list(self.theirs.receive() or ())

    def close(self) -> None:
        self.link.close()
        self.theirs.close()


@pytest.fixture
def front_ends() -> Iterator[list[FrontEnd]]:
    found = [FrontEnd(f"front end {number}") for number in (1, 2)]
    yield found
    for front_end in found:
        front_end.close()


@contextmanager
def told(tracer: Tracer) -> Iterator[None]:
    """A turn of the loop."""
    yield
    tracer.flush()


def batch(*requests: tuple[FrontEnd, int, int]) -> Batch:
    """A batch of requests of one row, given as (front end, id, arrival)."""
    found = [
        Request(Submit(number, 1, ((4,),), 1, (), (0,), arrived), front_end.link)
        for front_end, number, arrived in requests
    ]
    return Batch(5, 1, ((4,),), found, len(found), started_ns=50)


def test_a_batch_is_told_with_all_that_is_known(front_ends):
    one, other = front_ends
    tracer = Tracer("cuda:0")
    tracer.trace(one.link.channel, True)
    with told(tracer):
        tracer.note(batch((one, 7, 20), (other, 9, 30)), VARIANT, RESULT, 8)
    assert one.heard() == [Traced("cuda:0", (TracedBatch(
        id=5, model="det", version=2, variant="small.onnx", bucket=((4,),), lane=1, rows=2,
        padded=8, requests=(("front end 1", 7, 20), ("front end 2", 9, 30)), started_ns=50,
        began_ns=60, stage_ns=1, h2d_ns=2, compute_ns=3, d2h_ns=4, error="",
    ),))]
    assert other.heard() == []


def test_a_turn_s_batches_share_a_message(front_ends):
    one, other = front_ends
    tracer = Tracer("cpu")
    tracer.trace(one.link.channel, True)
    tracer.trace(other.link.channel, True)
    for _ in range(2):
        with told(tracer):
            for _ in range(3):
                tracer.note(batch((one, 1, 0)), VARIANT, RESULT, 0)
    with told(tracer):
        pass
    for front_end in front_ends:
        messages = front_end.heard()
        assert [len(message.batches) for message in messages] == [3, 3]
        assert messages[0].batches[0].padded == 1  # no more rows than were asked for


def test_a_failure_has_its_text_and_a_place_in_time(front_ends):
    tracer = Tracer("cpu")
    tracer.trace(front_ends[0].link.channel, True)
    failed = LaneResult(5, 1, 99, ExecutionFailed("index out of range"))
    with told(tracer):
        tracer.note(batch((front_ends[0], 1, 0)), VARIANT, failed, 0)
    ((found,),) = [message.batches for message in front_ends[0].heard()]
    assert (found.error, found.began_ns) == ("index out of range", 50)


def test_it_is_on_while_anybody_asks(front_ends):
    one, other = front_ends
    tracer = Tracer("cpu")
    seen = [tracer.on]
    for link, on in (
        (one.link, False), (one.link, True), (one.link, True), (other.link, True),
        (one.link, False),
    ):
        tracer.trace(link.channel, on)
        seen.append(tracer.on)
    assert seen == [False, False, True, True, True, True]
    tracer.note(batch((one, 1, 0)), VARIANT, RESULT, 0)
    tracer.trace(other.link.channel, False)
    assert not tracer.on
    tracer.flush()
    assert one.heard() == other.heard() == []


def test_who_asked_twice_is_told_once(front_ends):
    tracer = Tracer("cpu")
    tracer.trace(front_ends[0].link.channel, True)
    tracer.trace(front_ends[0].link.channel, True)
    with told(tracer):
        tracer.note(batch((front_ends[0], 1, 0)), VARIANT, RESULT, 0)
    assert len(front_ends[0].heard()) == 1


def test_what_was_noted_for_others_is_not_told_to_who_comes_later(front_ends):
    one, other = front_ends
    tracer = Tracer("cpu")
    tracer.trace(one.link.channel, True)
    tracer.note(batch((one, 1, 0)), VARIANT, RESULT, 0)
    tracer.trace(one.link.channel, False)
    tracer.trace(other.link.channel, True)
    tracer.flush()
    assert other.heard() == []


def test_the_supervisor_gets_its_share_with_the_heartbeats(front_ends):
    supervisor, other = front_ends
    tracer = Tracer("cpu")
    tracer.trace_patiently(supervisor.link.channel, True)
    assert tracer.on
    tracer.note(batch((other, 1, 0)), VARIANT, RESULT, 0)
    tracer.flush()
    tracer.note(batch((other, 2, 0)), VARIANT, RESULT, 0)
    assert supervisor.heard() == []
    tracer.beat()
    (traced,) = supervisor.heard()
    assert [each.requests[0][1] for each in traced.batches] == [1, 2]
    assert other.heard() == []
    tracer.beat()
    assert supervisor.heard() == []


def test_what_is_kept_for_the_supervisor_has_an_end(front_ends):
    supervisor, other = front_ends
    tracer = Tracer("cpu")
    tracer.trace_patiently(supervisor.link.channel, True)
    for _ in range(MAX_KEPT + 1):
        tracer.note(batch((other, 1, 0)), VARIANT, RESULT, 0)
    tracer.flush()
    tracer.trace_patiently(supervisor.link.channel, False)
    assert not tracer.on
    tracer.trace_patiently(supervisor.link.channel, True)
    tracer.beat()
    assert supervisor.heard() == []  # from before it asked again
    for _ in range(MAX_KEPT + 1):
        tracer.note(batch((other, 1, 0)), VARIANT, RESULT, 0)
    tracer.beat()
    (traced,) = supervisor.heard()
    assert len(traced.batches) == MAX_KEPT
