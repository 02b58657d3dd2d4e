"""A front end with several workers: each request goes where it should be done first."""

from collections.abc import Iterator

import pytest

from tests.frontend.stand import Stand, WorkerSide, floats, request, version_spec
from trtserve.clock import NS_PER_MS
from trtserve.ipc.message import Failed, Submit
from trtserve.model.catalog import Bucket, Catalog, Placement
from trtserve.model.cost import Cost
from trtserve.model.spec import ModelState

BUCKET: Bucket = ((2,),)
VARIANT = 10


@pytest.fixture
def stand() -> Iterator[Stand]:
    found = Stand()
    yield found
    found.close()


def placement(worker: str, cost: int | None, lanes: int = 1) -> Placement:
    costs = {} if cost is None else {(VARIANT, BUCKET): Cost(cost)}
    return Placement(worker, ModelState.READY, "", (VARIANT,), costs, lanes=lanes)


def catalog_of(*placements: Placement) -> Catalog:
    catalog = Catalog()
    for one in placements:
        catalog = catalog.with_placement("m", 1, version_spec(), one)
    return catalog


def workers(stand: Stand, **costs: int | None) -> list[WorkerSide]:
    """Workers of those names, on which a row of the model was measured to cost so much."""
    found = [stand.start_worker(name, serve=False) for name in costs]
    stand.use(catalog_of(*(placement(name, cost) for name, cost in costs.items())))
    return found


def send(stand: Stand, times: int = 1, rows: int = 1) -> None:
    for _ in range(times):
        stand.start(request(floats(rows, 2)))
    stand.pump()


def answer(stand: Stand, worker: WorkerSide, submits: list[Submit], backlog_ns: int = 0) -> None:
    """Answer them one by one; `backlog_ns` is what the worker says then."""
    for submit in submits:
        worker.done(submit, backlog_ns=backlog_ns)
    stand.pump()


def test_the_quicker_worker_gets_more_in_proportion(stand):
    slow, fast = workers(stand, slow=2 * NS_PER_MS, fast=NS_PER_MS)
    send(stand, 30)
    for_slow, for_fast = slow.submits(), fast.submits()
    assert (len(for_slow), len(for_fast)) == (10, 20)
    answer(stand, slow, for_slow)
    answer(stand, fast, for_fast)


def test_rows_count(stand):
    one, other = workers(stand, one=NS_PER_MS, other=NS_PER_MS)
    send(stand, rows=8)
    send(stand, 9)
    for_one, for_other = one.submits(), other.submits()
    assert [submit.rows for submit in for_one] == [8, 1]
    assert [submit.rows for submit in for_other] == [1] * 8
    answer(stand, one, for_one)
    answer(stand, other, for_other)


def test_lanes_count(stand):
    one, three = (stand.start_worker(name, serve=False) for name in ("one", "three"))
    stand.use(catalog_of(placement("one", NS_PER_MS), placement("three", NS_PER_MS, lanes=3)))
    send(stand, 40)
    for_one, for_three = one.submits(), three.submits()
    assert (len(for_one), len(for_three)) == (10, 30)
    answer(stand, one, for_one)
    answer(stand, three, for_three)


def test_without_measurements_workers_count_as_equal(stand):
    one, other = workers(stand, one=None, other=None)
    send(stand, 6)
    for_one, for_other = one.submits(), other.submits()
    assert (len(for_one), len(for_other)) == (3, 3)
    answer(stand, one, for_one)
    answer(stand, other, for_other)


def test_a_worker_that_was_not_measured_counts_as_the_best(stand):
    slow, unknown = workers(stand, slow=50 * NS_PER_MS, unknown=None)
    send(stand, 4)
    for_slow, for_unknown = slow.submits(), unknown.submits()
    assert (len(for_slow), len(for_unknown)) == (2, 2)
    answer(stand, slow, for_slow)
    answer(stand, unknown, for_unknown)


def test_a_worker_that_tells_of_a_long_backlog_is_avoided_while_it_lasts(stand):
    one, other = workers(stand, one=NS_PER_MS, other=NS_PER_MS)
    send(stand)
    answer(stand, one, one.submits(), backlog_ns=50 * NS_PER_MS)
    send(stand, 10)
    for_other = other.submits()
    assert len(for_other) == 10
    assert one.submits() == []
    stand.clock.advance(45 * NS_PER_MS)  # 5 are left, which the 10 at the other exceed
    send(stand)
    for_one = one.submits()
    assert len(for_one) == 1
    answer(stand, one, for_one)
    answer(stand, other, for_other)


def test_a_backlog_that_is_ours_counts_once(stand):
    one, other = workers(stand, one=NS_PER_MS, other=NS_PER_MS)
    send(stand, 4)
    for_one, for_other = one.submits(), other.submits()
    answer(stand, one, for_one[:1], backlog_ns=NS_PER_MS)  # the second of ours, that is
    answer(stand, other, for_other[:1])
    send(stand, 4)
    more_for_one, more_for_other = one.submits(), other.submits()
    assert (len(more_for_one), len(more_for_other)) == (2, 2)
    answer(stand, one, for_one[1:] + more_for_one)
    answer(stand, other, for_other[1:] + more_for_other)


def test_failures_are_taken_off_too(stand):
    one, other = workers(stand, one=NS_PER_MS, other=NS_PER_MS)
    send(stand, 2)
    (for_one,), for_other = one.submits(), other.submits()
    one.say(Failed((for_one.id,), "internal", "gone"))
    stand.pump()
    assert stand.links["one"].backlog.lent_ns == 0
    answer(stand, other, for_other)


def test_a_lone_worker_is_not_estimated(stand):
    (only,) = workers(stand, only=NS_PER_MS)
    send(stand, 3)
    assert stand.links["only"].backlog.lent_ns == 0
    answer(stand, only, only.submits(), backlog_ns=NS_PER_MS)


def test_replayed_requests_count_where_they_go(stand):
    slow, fast, dying = workers(stand, slow=2 * NS_PER_MS, fast=NS_PER_MS, dying=NS_PER_MS // 20)
    send(stand, 15)
    assert len(dying.submits()) == 15
    dying.die()
    stand.pump()
    assert stand.dispatcher.parked == 0
    stand.reap("dying")
    stand.pump()
    for_slow, for_fast = slow.submits(), fast.submits()
    assert (len(for_slow), len(for_fast)) == (5, 10)
    # When the slow one dies too, only one is left: nothing is estimated any more.
    slow.die()
    stand.pump()
    stand.reap("slow")
    stand.pump()
    assert len(stand.reply.errors) == 5  # in two crashes
    send(stand)
    assert stand.links["fast"].backlog.lent_ns == 10 * NS_PER_MS
    answer(stand, fast, for_fast + fast.submits())
    assert len(stand.reply.answers) == 11
