"""Whom workers start without."""

from trtserve.ipc.message import ModelUpdate
from trtserve.model.spec import ModelState
from trtserve.supervisor.quarantine import REASON, Quarantine

GOOD = ModelUpdate("good", 1, ModelState.READY)
BAD = [ModelUpdate("bad", number, ModelState.LOADING) for number in (1, 2)]
NEXT = ModelUpdate("next", 1, ModelState.LOADING)
FIRST = ModelUpdate("good", 1, ModelState.LOADING)


def test_twice_in_a_row_at_the_same_model_is_enough():
    quarantine = Quarantine()
    assert quarantine.died("worker", [GOOD, *BAD, NEXT]) == ""
    assert quarantine.held("worker") == set()
    assert quarantine.died("worker", [GOOD, *BAD, NEXT]) == "bad"
    assert quarantine.held("worker") == {"bad"}
    assert quarantine.held("other") == set()
    assert quarantine.updates("worker") == tuple(
        ModelUpdate("bad", number, ModelState.UNAVAILABLE, REASON) for number in (1, 2)
    )


def test_two_models_in_turn_are_chance():
    quarantine = Quarantine()
    for _ in range(3):
        assert quarantine.died("worker", [FIRST, *BAD]) == ""
        assert quarantine.died("worker", [GOOD, *BAD]) == ""


def test_a_death_that_was_not_at_a_model_starts_the_count_again():
    quarantine = Quarantine()
    quarantine.died("worker", BAD)
    quarantine.died("worker", [])
    assert quarantine.died("worker", BAD) == ""
    assert quarantine.died("other", BAD) == ""
    assert quarantine.died("worker", BAD) == "bad"


def test_one_after_the_other_is_left_out():
    quarantine = Quarantine()
    for update in (*BAD[:1], NEXT):
        quarantine.died("worker", [update])
        quarantine.died("worker", [update])
    assert quarantine.held("worker") == {"bad", "next"}


def test_it_is_not_for_ever():
    quarantine = Quarantine()
    quarantine.died("worker", BAD)
    quarantine.died("worker", BAD)
    assert not quarantine.lift("good")
    assert quarantine.lift("bad")
    assert quarantine.held("worker") == set()
    assert quarantine.updates("worker") == ()
    assert quarantine.died("worker", BAD) == ""  # the count too begins again
