"""The batcher under simulated load: mixed sizes batch as well as single ones, nothing is lost."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from random import Random
from statistics import fmean, median

import pytest

from trtserve.errors import RequestError
from trtserve.ipc.message import Bucket, Submit
from trtserve.model.spec import QueuePolicy
from trtserve.worker.batcher import Batcher
from trtserve.worker.request import Batch, Request

US = 1_000
MS = 1_000_000
S = 1_000_000_000

MAX_BATCH = 32


def light(rows: int) -> int:
    """Batches of 32 run 4.8 times the rows per second of single rows."""
    return 500 * US + 80 * US * rows


def heavy(rows: int) -> int:
    """Batches gain nothing."""
    return 10 * MS * rows


@dataclass
class Outcome:
    """What a simulation saw."""

    batches: dict[Bucket, list[int]] = field(default_factory=lambda: defaultdict(list))
    latencies: list[int] = field(default_factory=list)
    most_busy: int = 0

    def mean_batch(self, bucket: Bucket) -> float:
        return fmean(self.batches[bucket])


def simulate(
    arrivals: list[tuple[int, Bucket]], lanes: int, service: Callable[[int], int]
) -> Outcome:
    """Lanes that are independent of each other serve these arrivals (time, bucket)."""
    batcher = Batcher(lanes, len(arrivals))
    batcher.add_variant(1, "model", 1, MAX_BATCH, QueuePolicy())
    outcome = Outcome()
    # (time, order, what): an arrival's bucket, a batch that ends, or None to wake up.
    events: list[tuple[int, int, Bucket | Batch | None]] = [
        (time, order, bucket) for order, (time, bucket) in enumerate(arrivals)
    ]
    heapify(events)
    order = len(events)
    busy = 0
    while events:
        now = events[0][0]
        while events and events[0][0] == now:
            what = heappop(events)[2]
            if isinstance(what, Batch):
                batcher.finished(what, now, now - what.started_ns)
                outcome.latencies += [now - each.submit.arrived_ns for each in what.requests]
                busy -= 1
            elif what is not None:
                batcher.add(Request(Submit(order, 1, what, 1, (), (), now), None), now)
        while (batch := batcher.next_batch(now)) is not None:
            outcome.batches[batch.bucket].append(batch.rows)
            order += 1
            heappush(events, (now + service(batch.rows), order, batch))
            busy += 1
            outcome.most_busy = max(outcome.most_busy, busy)
        wakeup = batcher.wakeup(now)
        if wakeup is not None and (not events or wakeup < events[0][0]):
            assert wakeup > now, "next_batch has just been asked: there is nothing to do now"
            order += 1
            heappush(events, (wakeup, order, None))
    assert batcher.statistics().buckets == 0
    assert len(outcome.latencies) == len(arrivals)
    return outcome


def bucket(size: int) -> Bucket:
    return ((3, 32 * size, 32 * size),)


def evenly(rate: float, sizes: int, each: int) -> list[tuple[int, Bucket]]:
    """`each` requests of every size, in turn, at a total rate per second."""
    gap = S / rate
    return [(round(index * gap), bucket(index % sizes)) for index in range(each * sizes)]


PER_LANE = MAX_BATCH * S / light(MAX_BATCH)
"""Rows per second that one lane serves at best."""


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("load", [0.05, 0.2, 0.5, 0.8, 0.95, 1.5])
def test_interleaved_sizes_batch_as_well_as_each_alone(lanes: int, load: float):
    rate = load * lanes * PER_LANE
    for sizes in (2, 3, 6):
        alone = simulate(evenly(rate / sizes, 1, 400), lanes, light).mean_batch(bucket(0))
        mixed = simulate(evenly(rate, sizes, 400), lanes, light)
        for size in range(sizes):
            assert mixed.mean_batch(bucket(size)) >= alone


@pytest.mark.parametrize("sizes", [1, 3, 6])
def test_an_overload_of_mixed_sizes_fills_the_batches(sizes: int):
    mixed = simulate(evenly(2 * 3 * PER_LANE, sizes, 1000), 3, light)
    for size in range(sizes):
        assert mixed.batches[bucket(size)][-20:-5] == [MAX_BATCH] * 15
    assert mixed.most_busy == 3


def test_a_light_load_is_served_at_once():
    outcome = simulate(evenly(0.5 * S / light(1), 3, 300), 3, light)
    assert max(outcome.latencies) <= light(1)


def test_a_heavy_model_keeps_small_batches_and_short_latencies_under_load():
    random = Random(1)
    now = 0
    arrivals = []
    for index in range(2000):
        now += int(random.expovariate(0.9 * 3 * S / heavy(1)) * S)
        arrivals.append((now, bucket(index % 3)))
    outcome = simulate(arrivals, 3, heavy)
    sizes = Counter(rows for batches in outcome.batches.values() for rows in batches)
    assert sizes[1] > 0.95 * sum(sizes.values())
    assert max(sizes) <= 2


def test_waiting_for_company_never_makes_the_median_much_worse():
    """The lone service time is the least that a request can take; company has its price."""
    random = Random(2)
    for load in (0.02, 0.1, 0.2):
        now = 0
        arrivals = []
        for _ in range(3000):
            now += int(random.expovariate(load * 3 * PER_LANE) * S)
            arrivals.append((now, bucket(0)))
        outcome = simulate(arrivals, 3, light)
        assert median(outcome.latencies) <= 2 * light(1)


class Ledger:
    """Random traffic of every kind; each request must leave the batcher exactly once."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.lanes = self.random.randint(1, 3)
        self.batcher = Batcher(self.lanes, 40)
        self.now = 0
        self.waiting: dict[Request, int] = {}  # with the deadline
        self.running: list[Batch] = []
        self.left: Counter[str] = Counter()
        self.limits = {1: 8, 2: 0, 3: 32}
        # Of "second": what its first variant says holds while any of its variants is there.
        self.most_lanes = self.random.choice([None, 1, 2])
        self.owners = [object(), object(), object()]
        for variant in self.limits:
            self.add_variant(variant)

    def add_variant(self, variant: int) -> None:
        policy = QueuePolicy(
            max_delay_us=self.random.choice([None, 0, 500]),
            priority_levels=self.random.choice([0, 3]),
            preferred_batch_sizes=self.random.choice([(), (2, 4)]),
        )
        model = "first" if variant == 1 else "second"
        lanes = None if variant == 1 else self.most_lanes
        self.batcher.add_variant(variant, model, 1, self.limits[variant], policy, lanes)

    def leave(self, request: Request, how: str) -> None:
        del self.waiting[request]  # KeyError: it has left before, or never came
        self.left[how] += 1

    def add(self) -> None:
        variant = self.random.choice(list(self.limits))
        rows = self.random.randint(1, 4)
        deadline = self.now + self.random.randrange(5 * MS) if self.random.random() < 0.5 else 0
        submit = Submit(
            1, variant, bucket(self.random.randrange(5)), rows, (), (), self.now, deadline,
            self.random.randrange(5),
        )
        request = Request(submit, self.random.choice(self.owners))
        try:
            self.batcher.add(request, self.now)
        except RequestError as error:
            self.left[error.word] += 1
        else:
            self.waiting[request] = deadline

    def disturb(self) -> None:
        """Something rare."""
        chance = self.random.random()
        if chance < 0.6 and self.waiting:
            self.batcher.cancel(self.random.choice(list(self.waiting)))
        elif chance < 0.8:
            owner = self.random.choice(self.owners)
            gone = [request for request in self.waiting if request.owner is owner]
            dropped = self.batcher.drop_owner(owner)
            # Cancelled ones that were not taken yet are forgotten too, but wait no more.
            assert dropped == sum(not request.cancelled for request in gone)
            for request in gone:
                self.leave(request, "owner")
        elif chance < 0.85 and self.batcher.lanes:
            self.batcher.reserve_lane()
        elif chance < 0.95 and self.batcher.lanes < self.lanes:
            self.batcher.return_lane()
        else:
            variant = self.random.choice(list(self.limits))
            for request in self.batcher.remove_variant(variant):
                self.leave(request, "removed")
            self.add_variant(variant)

    def serve(self) -> None:
        while (batch := self.batcher.next_batch(self.now)) is not None:
            limit = self.limits[batch.variant]
            assert batch.rows <= (limit or 1)
            assert len(batch.requests) <= batch.rows
            for request in batch.requests:
                assert (request.submit.variant, request.submit.bucket) == (
                    batch.variant, batch.bucket
                )
                assert not request.cancelled
                deadline = self.waiting[request]
                assert not deadline or deadline > self.now
                self.leave(request, "batch")
            self.running.append(batch)
        assert len(self.running) <= self.lanes
        second = sum(batch.variant != 1 for batch in self.running)
        assert second <= (self.most_lanes or self.lanes)
        wakeup = self.batcher.wakeup(self.now)
        assert wakeup is None or wakeup > self.now, "there is nothing to do now"
        for request, error in self.batcher.take_dropped():
            self.leave(request, error.word)
        assert all(not deadline or deadline > self.now for deadline in self.waiting.values())

    def finish(self) -> None:
        if self.running:
            batch = self.running.pop(self.random.randrange(len(self.running)))
            failed = self.random.random() < 0.1
            self.batcher.finished(batch, self.now, None if failed else light(batch.rows))

    def turn(self) -> None:
        self.now += self.random.randrange(200 * US)
        chance = self.random.random()
        if chance < 0.7:
            self.add()
        elif chance < 0.97:
            self.finish()
        else:
            self.disturb()
        self.serve()
        statistics = self.batcher.statistics()
        assert sum(statistics.queued.values()) == len(self.waiting)
        assert statistics.lanes == self.lanes
        assert self.batcher.backlog_ns() >= 0

    def drain(self) -> None:
        while self.batcher.lanes < self.lanes:
            self.batcher.return_lane()
        while self.waiting or self.running:
            self.now += MS
            self.finish()
            self.serve()


@pytest.mark.parametrize("seed", range(6))
def test_every_request_leaves_exactly_once(seed: int):
    ledger = Ledger(seed)
    for _ in range(4000):
        ledger.turn()
    ledger.drain()
    statistics = ledger.batcher.statistics()
    assert statistics.buckets == 0
    assert statistics.lanes_busy == 0
    assert set(statistics.queued.values()) == {0}
    assert ledger.batcher.backlog_ns() == 0
    assert ledger.batcher.wakeup(ledger.now) is None
    # The traffic was indeed of every kind.
    assert set(ledger.left) >= {"batch", "owner", "removed", "cancelled", "deadline"}
