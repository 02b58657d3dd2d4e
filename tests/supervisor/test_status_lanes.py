"""Who looks at the lanes, who is told of it, and what is kept."""

from trtserve.clock import NS_PER_S
from trtserve.ipc.recording import TracedBatch
from trtserve.supervisor.status_lanes import LOOKS_NS, MAX_BATCHES, SPAN_NS, Lanes

START = 100 * NS_PER_S


def batch(number: int, began_ns: int) -> TracedBatch:
    return TracedBatch(
        number, "det", 1, "a.onnx", ((4,),), 0, 2, 2, (("front end 1", 7, 0),), began_ns, began_ns,
        1, 2, 3, 4,
    )


def test_nobody_is_told_while_nobody_looks():
    lanes = Lanes()
    assert list(lanes.orders({"worker cpu": 1}, START)) == []
    assert not lanes.looking(START)
    assert lanes.wake_ns() is None


def test_workers_are_told_once_when_somebody_looks_and_once_when_nobody_does():
    lanes = Lanes()
    lanes.looked(START)
    workers = {"worker cpu": 1, "worker cuda:0": 2}
    assert list(lanes.orders(workers, START)) == [("worker cpu", True), ("worker cuda:0", True)]
    assert list(lanes.orders(workers, START + 1)) == []
    assert lanes.wake_ns() == START + LOOKS_NS
    lanes.looked(START + NS_PER_S)
    assert list(lanes.orders(workers, START + LOOKS_NS)) == []
    over = START + NS_PER_S + LOOKS_NS
    assert list(lanes.orders(workers, over)) == [("worker cpu", False), ("worker cuda:0", False)]
    assert lanes.wake_ns() is None
    assert list(lanes.orders(workers, over + 1)) == []


def test_a_new_process_is_told_anew():
    lanes = Lanes()
    lanes.looked(START)
    assert list(lanes.orders({"worker cpu": 1}, START)) == [("worker cpu", True)]
    assert list(lanes.orders({}, START)) == []
    assert list(lanes.orders({"worker cpu": 9}, START)) == [("worker cpu", True)]
    assert list(lanes.orders({"worker cpu": 10}, START)) == [("worker cpu", True)]


def test_batches_are_numbered_and_kept_for_some_seconds():
    lanes = Lanes()
    lanes.looked(START)
    lanes.heard("cpu", [batch(5, START), batch(6, START + NS_PER_S)], START + NS_PER_S)
    lanes.heard("cuda:0", [batch(5, START + 2 * NS_PER_S)], START + 2 * NS_PER_S)
    recent = lanes.recent(START + 2 * NS_PER_S)
    assert [(known.number, known.device) for known in recent] == [
        (1, "cpu"), (2, "cpu"), (3, "cuda:0")
    ]
    assert recent[0].ended_ns == START + 10
    later = START + NS_PER_S + SPAN_NS
    assert [known.number for known in lanes.recent(later)] == [2, 3]
    lanes.heard("cpu", [], later + 1_000)
    assert [known.number for known in lanes.recent(START)] == [3]


def test_what_is_kept_has_an_end():
    lanes = Lanes()
    lanes.heard("cpu", (batch(number, START) for number in range(MAX_BATCHES + 5)), START)
    recent = lanes.recent(START)
    assert len(recent) == MAX_BATCHES
    assert recent[0].number == 6


def test_nothing_is_kept_when_nobody_looks_any_more():
    lanes = Lanes()
    lanes.looked(START)
    lanes.heard("cpu", [batch(1, START)], START)
    assert list(lanes.orders({}, START + LOOKS_NS)) == []
    assert lanes.recent(START) == ()
