"""Which of several batches starts first: priorities, urgent deadlines, fairness, age."""

from collections import Counter
from itertools import count

from trtserve.errors import Overloaded
from trtserve.ipc.message import Bucket, Submit
from trtserve.model.spec import QueuePolicy
from trtserve.worker.batcher import LEAD_NS, Batcher
from trtserve.worker.latency import TRIALS
from trtserve.worker.request import Batch, Request

MS = 1_000_000
A: Bucket = ((1,),)
B: Bucket = ((2,),)
C: Bucket = ((3,),)
LEVELS = QueuePolicy(priority_levels=3, max_delay_us=0, preferred_batch_sizes=(2,))
NOW = QueuePolicy(max_delay_us=0)

_ids = count(1)


def add(
    b: Batcher, now: int, bucket: Bucket = A, *, variant: int = 1, deadline: int = 0,
    priority: int = 0,
) -> Request:
    made = Request(
        Submit(next(_ids), variant, bucket, 1, (), (), now, deadline, priority), None
    )
    b.add(made, now)
    return made


def serve(b: Batcher, now: int, service_ns: int = MS) -> Batch:
    """Start and finish the next batch."""
    batch = b.next_batch(now)
    assert batch is not None
    b.finished(batch, now + service_ns, service_ns)
    return batch


def served(b: Batcher, now: int) -> list[tuple[int, Bucket]]:
    """All that waits, in the order of its batches."""
    order = []
    while b.statistics().buckets:
        batch = serve(b, now)
        order.append((batch.variant, batch.bucket))
    return order


def test_the_oldest_bucket_goes_first():
    b = Batcher(1, 100)
    b.add_variant(1, "m", 1, 8, NOW)
    add(b, 2, B)
    add(b, 1, A)
    add(b, 3, C)
    assert served(b, 4) == [(1, A), (1, B), (1, C)]


def test_priority_goes_before_age():
    b = Batcher(1, 100)
    b.add_variant(1, "m", 1, 8, LEVELS)
    add(b, 1, A, priority=3)
    add(b, 2, B)  # the middle level
    add(b, 3, C, priority=1)
    assert served(b, 4) == [(1, C), (1, B), (1, A)]


def test_within_a_bucket_priority_goes_first_and_arrival_next():
    b = Batcher(1, 100)
    b.add_variant(1, "m", 1, 2, LEVELS)
    low = [add(b, 1, priority=3), add(b, 2, priority=3)]
    middle = [add(b, 3, priority=9), add(b, 4, priority=2)]  # no level 9: the default
    high = [add(b, 5, priority=1), add(b, 6, priority=1)]
    b.cancel(high[0])
    got = [request for _ in range(3) for request in serve(b, 7).requests]
    assert got == [high[1], *middle, *low]


def test_the_delay_counts_from_the_oldest_whatever_its_priority():
    b = Batcher(2, 100)
    b.add_variant(1, "m", 1, 8, QueuePolicy(priority_levels=2, max_delay_us=1000))
    for size in (1, 2, 4):
        for _ in range(TRIALS):
            b.learn(1, A, size, MS)
    add(b, 0, B)
    assert b.next_batch(0) is not None
    add(b, 0, priority=2)
    add(b, MS // 2, priority=1)
    assert b.wakeup(MS // 2) == MS


def test_models_without_levels_stand_at_the_others_default():
    b = Batcher(1, 100)
    b.add_variant(1, "levels", 1, 8, LEVELS)
    b.add_variant(2, "plain", 1, 8, NOW)
    add(b, 1, A, priority=3)
    add(b, 2, B, variant=2, priority=1)  # ignored: the model has no levels
    add(b, 3, C, priority=1)
    assert served(b, 4) == [(1, C), (2, B), (1, A)]


def test_an_urgent_deadline_goes_before_age_and_fairness():
    b = Batcher(1, 100)
    b.add_variant(1, "m", 1, 8, NOW)
    b.add_variant(2, "n", 1, 8, NOW)
    for _ in range(3):
        b.learn(2, A, 1, 10 * MS)
    add(b, 0, A, variant=2)
    serve(b, 0, 10 * MS)  # n has had its share, and a batch may take 10 ms
    add(b, 10 * MS, A)
    add(b, 11 * MS, B, deadline=100 * MS)  # not urgent: it can wait for the others
    add(b, 12 * MS, A, variant=2, deadline=30 * MS)
    assert served(b, 12 * MS) == [(2, A), (1, A), (1, B)]


def test_of_two_urgent_deadlines_the_earliest_goes_first():
    b = Batcher(1, 100)
    b.add_variant(1, "m", 1, 8, NOW)
    add(b, 0, C)
    serve(b, 0, 50 * MS)
    add(b, 50 * MS, A, deadline=72 * MS)
    add(b, 51 * MS, B, deadline=71 * MS)
    assert served(b, 60 * MS) == [(1, B), (1, A)]


def test_a_deadline_beyond_hope_is_not_urgent():
    b = Batcher(1, 100)
    b.add_variant(1, "m", 1, 8, NOW)
    b.learn(1, B, 1, 20 * MS)
    add(b, 0, C)
    serve(b, 0, 50 * MS)
    add(b, 50 * MS, A)
    add(b, 51 * MS, B, deadline=65 * MS)
    assert served(b, 52 * MS) == [(1, A), (1, B)]


def flood(b: Batcher, rounds: int, *, deadline_ms: int = 0, light_every: int = 1) -> Counter[str]:
    """Model 1 always has eight requests waiting, or as many as can be in time, model 2 at most one;
    lane time of each."""
    names = {1: "flood", 2: "light"}
    spent: Counter[str] = Counter()
    now = 0
    for turn in range(rounds):
        waiting = b.statistics().queued
        for _ in range(8 - waiting["flood", 1]):
            try:
                add(b, now, deadline=now + deadline_ms * MS if deadline_ms else 0)
            except Overloaded:  # it would come too late
                break
        if not waiting["light", 1] and turn % light_every == 0:
            add(b, now, variant=2)
        batch = serve(b, now, MS)
        now += MS
        b.take_dropped()
        spent[names[batch.variant]] += MS
    return spent


def two_models() -> Batcher:
    b = Batcher(1, 100)
    b.add_variant(1, "flood", 1, 1, NOW)
    b.add_variant(2, "light", 1, 1, NOW)
    return b


def test_a_flood_leaves_the_light_model_its_half():
    spent = flood(two_models(), 400)
    assert abs(spent["flood"] - spent["light"]) <= 2 * MS


def test_a_light_model_waits_for_one_batch_only():
    spent = flood(two_models(), 400, light_every=4)
    assert abs(spent["light"] - 100 * MS) <= 2 * MS


def test_lane_time_is_what_is_shared_not_batches():
    b = two_models()
    spent: Counter[int] = Counter()
    now = 0
    for _ in range(400):
        for variant in (1, 2):
            if not b.statistics().queued[("flood", "light")[variant - 1], 1]:
                add(b, now, variant=variant)
        batch = b.next_batch(now)
        assert batch is not None
        service = 9 * MS if batch.variant == 1 else 1 * MS
        now += service
        b.finished(batch, now, service)
        spent[batch.variant] += service
    assert abs(spent[1] - spent[2]) <= 20 * MS


def test_a_failing_model_pays_for_its_lane_time():
    b = two_models()
    ran: Counter[int] = Counter()
    now = 0
    for _ in range(100):
        for variant, name in ((1, "flood"), (2, "light")):
            if not b.statistics().queued[name, 1]:
                add(b, now, variant=variant)
        batch = b.next_batch(now)
        assert batch is not None
        now += MS
        b.finished(batch, now, None if batch.variant == 1 else MS)
        ran[batch.variant] += 1
    assert abs(ran[1] - ran[2]) <= 2


def test_an_idle_model_saves_up_no_credit():
    b = two_models()
    flood(b, 300, light_every=1000)
    order = []
    for _ in range(20):
        now = 10_000 * MS
        for variant in (1, 2):
            add(b, now, variant=variant)
        order.append(serve(b, now).variant)
    assert abs(order.count(1) - order.count(2)) <= 2


def test_urgent_deadlines_take_more_than_the_share_only_for_a_while():
    spent = flood(two_models(), 1000, deadline_ms=9)
    # All of the flood's requests are urgent, always: it gets ahead by LEAD_NS and no further.
    ahead = spent["flood"] - spent["light"]
    assert LEAD_NS - 20 * MS <= ahead <= LEAD_NS + 20 * MS
