"""Requests whose model is swapped while they wait for a worker."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.frontend.stand import Stand, catalog_of, floats, request, variant, version_spec
from trtserve.errors import Unavailable
from trtserve.model.spec import QueuePolicy

OLD = version_spec(variant(name="old"))
SAME = version_spec(variant(name="new", max_batch=4), queue=QueuePolicy(7, priority_levels=2))
NEXT = version_spec(variant(name="new"), version=2)
OTHER = version_spec(variant({"x": "FP16"}))
SMALL = version_spec(variant(row=(3,)))
FIXED = version_spec(variant(row=(2,)))


@pytest.fixture
def stand() -> Iterator[Stand]:
    found = Stand(OLD)
    found.start_worker()
    yield found
    found.close()


def parked(stand: Stand, **fields: Any) -> None:
    """A request that its worker has died with."""
    stand.start(request(floats(2, 2), **fields))
    stand.pump()
    stand.workers[0].submits()
    stand.workers[0].die()
    stand.pump()
    stand.reap()
    assert stand.dispatcher.parked == 1


@pytest.mark.parametrize("now", [SAME, FIXED], ids=["as before", "of fewer shapes"])
def test_what_takes_the_same_tensors_answers(stand, now):
    parked(stand)
    worker = stand.start_worker(serve=False)
    stand.specs = (now,)
    stand.serve("w1")
    stand.pump()
    (submit,) = worker.submits()
    assert (submit.variant, submit.rows) == (10, 2)
    worker.done(submit)
    stand.pump()
    assert stand.reply.answers[0].model_version == "1"


def test_a_priority_that_is_no_more_becomes_the_usual_one():
    stand = Stand(version_spec(queue=QueuePolicy(priority_levels=5)))
    stand.start_worker()
    message = request(floats(2, 2))
    message.parameters["priority"].int64_param = 4
    stand.start(message)
    stand.pump()
    stand.workers[0].submits()
    stand.workers[0].die()
    stand.pump()
    stand.reap()
    worker = stand.start_worker(serve=False)
    stand.specs = (SAME,)
    stand.serve("w1")
    stand.pump()
    (submit,) = worker.submits()
    assert submit.priority == 0
    worker.done(submit)
    stand.pump()
    stand.close()


def test_who_named_no_version_gets_the_one_that_is_there(stand):
    parked(stand)
    worker = stand.start_worker(serve=False)
    stand.use(catalog_of(NEXT))
    stand.pump()
    (submit,) = worker.submits()
    worker.done(submit)
    stand.pump()
    assert stand.reply.answers[0].model_version == "2"


def test_who_named_a_version_gets_no_other(stand):
    parked(stand, model_version="1")
    stand.start_worker(serve=False)
    stand.use(catalog_of(NEXT))
    error = stand.reply.errors[0]
    assert isinstance(error, Unavailable)
    assert "model 'm' version 1 is not served any more" in str(error)


@pytest.mark.parametrize("now", [OTHER, SMALL], ids=["datatype", "shape"])
def test_what_takes_other_tensors_does_not_answer(stand, now):
    parked(stand)
    stand.start_worker(serve=False)
    stand.use(catalog_of(now))
    error = stand.reply.errors[0]
    assert isinstance(error, Unavailable)
    assert "changed while the request waited, and takes other tensors now" in str(error)


def test_a_worker_that_has_another_model_gets_no_request(stand):
    second = stand.start_worker("w2", serve=False)
    changed = msgspec.structs.replace(OLD, config=b"other")
    catalog = stand.dispatcher.templates.catalog
    placement = catalog_of(changed, worker="w2").models["m"][1].placements["w2"]
    stand.use(catalog.with_placement("m", 1, changed, placement))
    for _ in range(4):
        stand.start(request(floats(1, 2)))
    stand.pump()
    assert stand.workers[0].submits() == []
    submits = second.submits()
    assert len(submits) == 4
    second.done(*submits)
    stand.pump()
