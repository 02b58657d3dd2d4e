"""What a front end knows of models, and when it is ready."""

import pytest

from tests.frontend.stand import version_spec
from trtserve.errors import ModelNotFound, Unavailable
from trtserve.frontend.roster import Roster
from trtserve.ipc.message import ModelUpdate, Wanted
from trtserve.model.catalog import Catalog
from trtserve.model.spec import ModelState

READY, LOADING, FAILED = ModelState.READY, ModelState.LOADING, ModelState.UNAVAILABLE


def update(model, state, version=1, **fields):
    spec = version_spec(model=model, version=version) if state is READY else None
    return ModelUpdate(
        model, version, state, spec=spec, variant_ids=(7,) if spec else (), **fields
    )


@pytest.fixture
def roster():
    """One worker has settled with the model a."""
    used: list[Catalog] = []
    roster = Roster(1, used.append)
    roster.update("w", update("a", READY))
    roster.settled("w")
    assert isinstance(used[-1], Catalog)
    assert used[-1] is roster.catalog
    return roster


def test_without_wishes_every_model_counts(roster):
    assert roster.ready
    roster.update("w", update("b", FAILED))
    assert not roster.ready


def test_what_is_not_wanted_does_not_count(roster):
    roster.wanted(Wanted(("a",)))
    roster.update("w", update("b", FAILED))
    assert roster.ready
    roster.wanted(Wanted(("a", "b")))
    assert not roster.ready
    roster.update("w", update("b", READY))
    assert roster.ready


def test_what_is_wanted_and_not_there_counts(roster):
    roster.wanted(Wanted(("a", "late")))
    assert not roster.ready


def test_every_worker_that_has_a_model_counts():
    roster = Roster(2, lambda _: None)
    for worker in ("v", "w"):
        assert not roster.ready
        roster.update(worker, update("a", READY))
        roster.settled(worker)
    assert roster.ready
    roster.update("v", update("a", FAILED))
    assert not roster.ready


def test_what_is_unloaded_is_gone(roster):
    roster.update("w", update("b", READY))
    roster.update("w", update("a", FAILED, gone=True))
    assert list(roster.catalog.models) == ["b"]
    assert roster.ready


def test_a_new_worker_without_a_model_will_not_get_it_back(roster):
    roster.update("w", update("b", READY))
    roster.away("w")
    assert not roster.ready
    assert roster.catalog.models["a"][1].will_serve
    roster.update("w", update("b", READY))
    assert "a" in roster.catalog.models  # it may still be told of
    roster.settled("w")
    assert list(roster.catalog.models) == ["b"]
    assert roster.ready


def test_what_is_left_out_is_told_in_the_workers_place(roster):
    left_out = update("bad", FAILED, reason="its loading ended the worker twice")
    roster.wanted(Wanted(None, (("w", left_out),)))
    version = roster.catalog.models["bad"][1]
    assert (version.state, version.reason) == (FAILED, left_out.reason)
    assert not roster.ready
    roster.away("w")
    roster.settled("w")
    assert "bad" in roster.catalog.models
    roster.wanted(Wanted(None))
    assert "bad" not in roster.catalog.models


def test_what_a_worker_said_since_stays(roster):
    left_out = update("bad", FAILED, reason="its loading ended the worker twice")
    roster.wanted(Wanted(None, (("w", left_out),)))
    roster.update("w", update("bad", READY))
    roster.wanted(Wanted(None))
    assert roster.catalog.models["bad"][1].state is READY


def test_an_unknown_name_may_come_until_all_workers_have_told():
    roster = Roster(2, lambda _: None)
    roster.update("w1", update("a", READY))
    roster.settled("w1")
    with pytest.raises(Unavailable):
        roster.catalog.find("b", "")
    roster.settled("w2")
    with pytest.raises(ModelNotFound):
        roster.catalog.find("b", "")
    roster.away("w2")  # it had told
    with pytest.raises(ModelNotFound):
        roster.catalog.find("b", "")


@pytest.mark.parametrize("went", ["away", "lost"])
def test_what_a_worker_does_not_have_when_it_is_back_is_forgotten_there(went):
    """Whatever was known of it there: that it served, that it failed, or that all was lost."""
    roster = Roster(2, lambda _: None)
    for worker in ("v", "w"):
        roster.update(worker, update("a", READY))
        roster.settled(worker)
    roster.update("w", update("bad", FAILED))
    roster.wanted(Wanted(("a",)))
    getattr(roster, went)("w")
    # Meanwhile version 2 takes the place of version 1, on the other worker alone.
    roster.update("v", update("a", READY, version=2))
    roster.update("v", update("a", FAILED, gone=True))
    roster.update("w", update("a", READY, version=2))
    roster.settled("w")
    assert [(each.model, each.version) for each in roster.catalog.versions()] == [("a", 2)]
    assert roster.ready


def test_what_is_left_out_is_not_forgotten_when_its_worker_settles():
    roster = Roster(1, lambda _: None)
    roster.wanted(Wanted(None, (("w", update("b", FAILED, reason="it kills")),)))
    roster.away("w")
    roster.update("w", update("a", READY))
    roster.settled("w")
    assert sorted(roster.catalog.models) == ["a", "b"]
