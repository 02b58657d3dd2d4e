"""What workers should have, and what readiness counts."""

from trtserve.supervisor.desired import Desired

THERE = {"a": "/models/a", "b": "/models/b"}


def test_where_nothing_changes_workers_look_for_themselves():
    desired = Desired()
    assert desired.models([], THERE) is None
    assert desired.counted is None
    assert desired.models(["a"], THERE) == (("b", "/models/b"),)


def test_a_new_worker_gets_what_was_switched_to_last():
    desired = Desired({"a": "/models/a"})
    desired.switched("b", "/scratch/1")
    desired.switched("a", "/scratch/2")
    assert desired.models([], THERE) == (("a", "/scratch/2"), ("b", "/scratch/1"))
    assert desired.models(["a"], THERE) == (("b", "/scratch/1"),)
    desired.switched("a", None)
    assert desired.models([], THERE) == (("b", "/scratch/1"),)
    assert desired.folder("a") is None
    assert desired.folder("b") == "/scratch/1"


def test_what_counts_is_said_apart():
    desired = Desired({"a": "/models/a"})
    desired.switched("b", "/models/b")
    assert desired.counted == frozenset({"a"})
    desired.count("b")
    desired.discount("a")
    assert desired.counted == frozenset({"b"})
