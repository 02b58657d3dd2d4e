"""When the batcher starts a batch, how large it makes it, and what it learns."""

import pytest

from tests.worker.batcher_traffic import (
    LARGE,
    MS,
    SMALL,
    US,
    add,
    batcher,
    light,
    request,
    start,
    teach,
)
from trtserve.errors import ProtocolError
from trtserve.ipc.message import Bucket
from trtserve.model.spec import QueuePolicy
from trtserve.worker.batcher import Batcher
from trtserve.worker.latency import TRIALS, USUAL_NS
from trtserve.worker.request import Request
from trtserve.worker.tables import MAX_TABLES


def occupied(lanes: int = 2, **policy: object) -> Batcher:
    """A batcher with measured latencies, one lane busy with another bucket, the others free."""
    b = batcher(lanes, **policy)  # type: ignore[arg-type]
    teach(b, light)
    teach(b, light, bucket=LARGE)
    add(b, 0, bucket=LARGE)
    assert start(b, 0).bucket == LARGE
    return b


def row_ns(b: Batcher, bucket: Bucket) -> int:
    """What a row of variant 1 costs at the best size."""
    cost = b.cost(1, bucket)
    assert cost is not None
    return cost.row_ns


# --- when a batch starts ---------------------------------------------------------------------


def test_a_lone_request_at_an_idle_device_starts_at_once():
    b = batcher(max_delay_us=5000)
    (lone,) = add(b, 0)
    batch = start(b, 0)
    assert batch.requests == [lone]
    assert (batch.variant, batch.bucket, batch.rows, batch.started_ns) == (1, SMALL, 1, 0)


def test_no_more_batches_run_than_there_are_lanes():
    b = batcher(lanes=2, max_delay_us=0)
    for bucket in (((1,),), ((2,),), ((3,),)):
        add(b, 0, bucket=bucket)
    first = start(b, 0)
    start(b, 0)
    assert b.next_batch(0) is None
    b.finished(first, 10, 10)
    assert start(b, 10).bucket == ((3,),)


def test_only_requests_of_one_variant_and_bucket_share_a_batch():
    b = batcher(max_delay_us=0)
    b.add_variant(2, "model", 1, 32, QueuePolicy(max_delay_us=0))
    teach(b, light)
    teach(b, light, bucket=LARGE)
    teach(b, light, variant=2)
    small = add(b, 0, 2)
    large = add(b, 0, 2, bucket=LARGE)
    other = add(b, 0, 2, variant=2)
    small += add(b, 0, 2)
    got = []
    while (batch := b.next_batch(0)) is not None:
        got.append(batch.requests)
        b.finished(batch, 0, None)
    assert got == [small, large, other]


def test_a_full_batch_starts_though_the_delay_is_long():
    b = occupied(max_delay_us=10**6, max_batch=4)
    requests = add(b, 0, 3)
    assert b.next_batch(0) is None
    requests += add(b, 0, 2)
    assert start(b, 0).requests == requests[:4]


def test_a_batch_is_full_at_the_largest_preferred_size():
    b = occupied(max_delay_us=10**6, preferred_batch_sizes=(2, 3))
    requests = add(b, 0, 2)
    assert b.next_batch(0) is None
    requests += add(b, 0, 2)
    assert start(b, 0).requests == requests[:3]


def test_the_maximum_delay_counts_from_the_oldest_arrival():
    b = occupied(max_delay_us=300)
    add(b, 100 * US)
    add(b, 250 * US)
    assert b.wakeup(250 * US) == 400 * US
    assert b.next_batch(399 * US) is None
    assert start(b, 400 * US).rows == 2


def test_without_a_configured_delay_an_unmeasured_bucket_does_not_wait():
    b = batcher(lanes=2)
    add(b, 0, bucket=LARGE)
    start(b, 0)
    add(b, 0)
    assert start(b, 0).rows == 1


def test_without_a_configured_delay_a_measured_bucket_waits_for_likely_company():
    b = occupied()
    for now in range(100):  # requests that come closely: company is likely
        (gone,) = add(b, now)
        b.cancel(gone)
    add(b, 100)
    assert b.next_batch(100) is None
    ready = b.wakeup(100)
    assert ready is not None
    assert 100 < ready < 100 + light(1)
    assert b.next_batch(ready - 1) is None
    assert start(b, ready).rows == 1


def test_it_starts_when_one_more_request_would_miss_the_deadline():
    b = occupied(max_delay_us=10**6)
    deadline = 50 * MS
    add(b, 0)
    add(b, 0, deadline=deadline)
    last_call = deadline - light(3)
    assert b.wakeup(0) == last_call
    assert b.next_batch(last_call - 1) is None
    assert start(b, last_call).rows == 2


def test_the_earliest_deadline_counts_wherever_it_stands_in_the_queue():
    b = occupied(max_delay_us=10**6)
    add(b, 0, deadline=90 * MS)
    (hasty,) = add(b, 0, deadline=50 * MS)
    add(b, 0, deadline=70 * MS)
    assert b.wakeup(0) == 50 * MS - light(4)
    b.cancel(hasty)
    assert b.next_batch(50 * MS) is None
    assert b.wakeup(50 * MS) == 70 * MS - light(3)


def test_shapes_do_not_flush_one_another():
    b = occupied(max_delay_us=300, max_batch=4)
    for now in range(3):
        add(b, now)
        add(b, now, bucket=LARGE)
    assert b.next_batch(10) is None
    assert start(b, 300 * US).rows == 3


# --- how large it is -------------------------------------------------------------------------


def test_requests_of_several_rows_never_exceed_the_largest_batch():
    b = batcher(max_batch=8)
    teach(b, light, (1, 2, 4, 8))
    requests = [request(0, rows=rows) for rows in (3, 4, 2, 8, 1)]
    for each in requests:
        b.add(each, 0)
    rows = []
    taken: list[Request] = []
    while (batch := b.next_batch(0)) is not None:
        rows.append(batch.rows)
        taken += batch.requests
        b.finished(batch, 0, None)
    assert rows == [7, 2, 8, 1]
    assert taken == requests


def test_a_request_larger_than_pays_runs_alone():
    b = batcher(max_batch=32)
    teach(b, lambda rows: 40 * MS * rows, (1, 2))
    (single,) = add(b, 0)
    (wide,) = add(b, 0, rows=20)
    first = start(b, 0)
    assert first.requests == [single]
    b.finished(first, 0, None)
    assert start(b, 0).requests == [wide]


def test_a_heavy_model_that_gains_nothing_runs_one_by_one():
    b = batcher()
    add(b, 0, 60)
    sizes = []
    now = 0
    while (batch := b.next_batch(now)) is not None:
        sizes.append(batch.rows)
        now += 40 * MS * batch.rows
        b.finished(batch, now, 40 * MS * batch.rows)
    assert sizes == [1] * TRIALS + [2] * TRIALS + [1] * (60 - 3 * TRIALS)


def test_a_light_model_grows_to_the_largest_batch():
    b = batcher()
    now = 0
    add(b, now, 600)
    sizes = []
    while (batch := b.next_batch(now)) is not None:
        sizes.append(batch.rows)
        b.finished(batch, now, light(batch.rows))
    assert sizes[0] == 1
    assert sizes[-5:-1] == [32] * 4


def test_an_unbatched_variant_runs_requests_one_by_one():
    b = batcher(lanes=3, max_batch=0, max_delay_us=10**6)
    requests = add(b, 0, 2)
    requests.append(request(0, rows=7))  # the first dimension is no batch
    b.add(requests[-1], 0)
    batches = [start(b, 0) for _ in requests]
    assert [batch.requests for batch in batches] == [[each] for each in requests]
    assert [batch.rows for batch in batches] == [1, 1, 1]


# --- what is known ---------------------------------------------------------------------------


def test_costs_come_from_warm_up_and_from_batches():
    b = batcher()
    assert b.cost(1, SMALL) is None
    teach(b, lambda _: 1000, (1,))
    assert row_ns(b, SMALL) == 1000
    assert b.cost(1, LARGE) is None
    add(b, 0, 2)
    b.finished(start(b, 0), 800, 800)
    assert row_ns(b, SMALL) == 400


def test_the_cost_tells_the_rows_of_the_batches_that_run_now():
    b = batcher()
    teach(b, light)
    add(b, 0, 4)
    start(b, 0)
    found, later = b.cost(1, SMALL, 0), b.cost(1, SMALL, USUAL_NS)
    assert found is not None
    assert later is not None
    assert (found.usual_rows, later.usual_rows) == (4, 0)


def test_a_failed_batch_frees_its_lane_and_teaches_nothing():
    b = batcher()
    add(b, 0, 2)
    batch = start(b, 0)
    assert b.statistics().lanes_busy == 1
    b.finished(batch, 5, None)
    assert b.statistics().lanes_busy == 0
    assert b.cost(1, SMALL) is None
    with pytest.raises(ProtocolError, match="does not run"):
        b.finished(batch, 5, None)


def test_latency_tables_are_bounded():
    b = batcher()
    for size in range(MAX_TABLES + 50):
        b.learn(1, ((size,),), 1, 1000)
        b.learn(1, SMALL, 1, 1000)
    assert b.statistics().tables == MAX_TABLES
    assert b.cost(1, ((0,),)) is None
    assert row_ns(b, SMALL) == 1000
