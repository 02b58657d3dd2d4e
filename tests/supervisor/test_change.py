"""The steps of one change: all workers or none, and nothing waits for the dead."""

import pytest

from trtserve.ipc.message import AbandonModel, CommitModel, LoadModel, Staged, UnloadModel
from trtserve.supervisor.change import Change, Tell

READY = Staged(7, (1, 2))
BROKEN = Staged(7, error="it is broken", where="/models/det/1/a.onnx")


@pytest.fixture
def load():
    change = Change(7, "det", "/models/det")
    asked = change.begin(["b", "a"])
    assert asked == [Tell(name, LoadModel(7, "det", "/models/det")) for name in "ab"]
    return change


def test_all_switch_once_all_are_ready(load):
    load.staged("a", READY)
    assert not load.answered
    load.staged("b", READY)
    assert load.answered
    assert load.decide() == [Tell(name, CommitModel(7)) for name in "ab"]
    assert load.step.name == "FREEING"
    load.freed("a")
    assert load.step.name == "FREEING"
    load.freed("b")
    assert load.step.name == "DONE"
    assert load.error == ""


def test_one_that_can_not_ends_it_for_all(load):
    load.staged("a", BROKEN)
    assert not load.answered  # b may have it loaded, and has to be told so
    load.staged("b", READY)
    assert load.decide() == [Tell("b", AbandonModel(7))]
    assert (load.error, load.where) == ("it is broken", "/models/det/1/a.onnx")
    load.freed("b")
    assert load.step.name == "DONE"


def test_where_nobody_has_it_loaded_nothing_is_left_to_do(load):
    load.staged("a", BROKEN)
    load.staged("b", BROKEN)
    assert load.decide() == []
    assert load.step.name == "DONE"


def test_a_worker_that_lives_elsewhere_has_nothing_to_say(load):
    load.staged("a", Staged(7))
    load.staged("b", READY)
    assert load.decide() == [Tell(name, CommitModel(7)) for name in "ab"]


def test_a_model_that_lives_nowhere_is_not_loaded(load):
    load.staged("a", Staged(7))
    load.staged("b", Staged(7))
    assert load.decide() == [Tell(name, AbandonModel(7)) for name in "ab"]
    assert "no device of this server serves it" in load.error


@pytest.mark.parametrize("before", [False, True], ids=["while it loads", "once it is ready"])
def test_a_death_before_the_switch_fails_the_order(load, before):
    if before:
        load.staged("a", READY)
    load.left("a")
    load.staged("b", READY)
    assert load.answered
    assert load.decide() == [Tell("b", AbandonModel(7))]
    assert "ended while the model was being loaded" in load.error


def test_if_all_die_it_is_over(load):
    load.left("a")
    load.left("b")
    assert load.answered
    assert load.decide() == []
    assert load.step.name == "DONE"


def test_a_death_after_the_switch_counts_for_nothing(load):
    load.staged("a", READY)
    load.staged("b", READY)
    load.decide()
    load.left("a")
    assert load.error == ""
    load.freed("b")
    assert load.step.name == "DONE"


def test_a_late_worker_is_asked_too_and_may_die(load):
    (asked,) = load.joined("c")
    assert asked == Tell("c", LoadModel(7, "det", "/models/det"))
    load.staged("a", READY)
    load.staged("b", READY)
    assert not load.answered
    load.left("c")
    assert load.answered
    assert load.decide() == [Tell(name, CommitModel(7)) for name in "ab"]


def test_a_late_worker_that_can_not_load_it_counts(load):
    load.joined("c")
    for name, answer in (("a", READY), ("b", READY), ("c", BROKEN)):
        load.staged(name, answer)
    assert load.decide() == [Tell(name, AbandonModel(7)) for name in "ab"]


def test_who_joins_after_the_switch_has_the_new_model_already(load):
    load.staged("a", READY)
    load.staged("b", READY)
    load.decide()
    assert load.joined("c") == []


def test_an_unload_asks_nobody_s_consent():
    change = Change(8, "det", None)
    assert change.begin(["a", "b"]) == [Tell(name, UnloadModel(8, "det")) for name in "ab"]
    assert change.joined("c") == []
    change.left("a")
    change.freed("b")
    assert change.step.name == "DONE"


def test_an_unload_without_workers_is_done():
    change = Change(8, "det", None)
    assert change.begin([]) == []
    assert change.step.name == "DONE"


def test_who_joins_an_order_that_has_failed_is_not_asked(load):
    """Its predecessor may have died of the model: that would be a second death for nothing."""
    load.left("a")
    assert load.joined("a") == []
    load.staged("b", READY)
    assert load.answered
    assert load.decide() == [Tell("b", AbandonModel(7))]
