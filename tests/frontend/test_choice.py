"""Which worker a request goes to: the decisions, and a simulation of workers that differ."""

from collections import Counter, defaultdict
from heapq import heappop, heappush
from itertools import count
from random import Random

import pytest

from trtserve.clock import NS_PER_MS
from trtserve.frontend.choice import Backlog, Candidate, first_to_finish

MS = NS_PER_MS


def candidate(
    name: str, cost: int, *, lanes: int = 1, lent: int = 0, lent_ns: int = 0, others_ns: int = 0
) -> Candidate:
    backlog = Backlog()
    backlog.lanes = lanes
    backlog.told(others_ns, 0)
    backlog.lent_ns = lent_ns
    return Candidate(backlog, lent, name, lanes, cost)


@pytest.mark.parametrize(("first", "second", "chosen"), [
    # Idle: the quicker one, however many lanes the other has.
    (candidate("a", 20), candidate("b", 10), 1),
    (candidate("a", 20, lanes=8), candidate("b", 10, lanes=1), 1),
    # What is there already counts, ours and that of others.
    (candidate("a", 20), candidate("b", 10, lent=1, lent_ns=11), 0),
    (candidate("a", 20), candidate("b", 10, others_ns=11), 0),
    (candidate("a", 20), candidate("b", 10, lent=1, lent_ns=5, others_ns=6), 0),
    (candidate("a", 20), candidate("b", 10, lent=1, lent_ns=5, others_ns=4), 1),
    # All lanes work on it.
    (candidate("a", 20), candidate("b", 10, lanes=3, lent=3, lent_ns=29), 1),
    (candidate("a", 20), candidate("b", 10, lanes=3, lent=3, lent_ns=33), 0),
    # Equals: the fewest requests, then by name.
    (candidate("a", 10, lent=2, lent_ns=5), candidate("b", 10, lent=1, others_ns=5), 1),
    (candidate("b", 10), candidate("a", 10), 1),
])
def test_the_first_to_finish(first, second, chosen):
    assert first_to_finish([first, second], 0) == chosen
    assert first_to_finish([second, first], 0) == 1 - chosen


def test_what_others_have_is_the_rest_of_what_the_worker_told():
    backlog = Backlog()
    backlog.lend(30, 0)
    backlog.told(100, 1000)
    assert backlog.others_ns(1000) == 70
    backlog.lend(470, 1010)
    backlog.told(450, 1020)  # what is on its way to the worker is not in it
    assert backlog.others_ns(1020) == 0


def test_it_stays_while_an_answer_is_due_and_shrinks_where_none_is():
    backlog = Backlog()
    backlog.lanes = 2
    backlog.told(70, 1000)
    assert [backlog.others_ns(now) for now in (1000, 1020, 1035, 9999)] == [70, 30, 0, 0]
    backlog.lend(5, 1020)
    assert backlog.others_ns(9999) == 30
    backlog.lent_ns -= 5  # it failed: there is no news with it
    assert backlog.others_ns(1025) == 20


class Worker:
    """A worker in simulated time: `lanes` that take `cost` for each request, one at a time."""

    def __init__(self, name: str, cost: int, lanes: int) -> None:
        self.name = name
        self.cost = cost
        self.lanes = lanes
        self.waiting: list[str] = []  # who asked for it
        self.running = 0

    @property
    def backlog_ns(self) -> int:
        return (len(self.waiting) + self.running) * self.cost


class FrontEnd:
    """A front end that knows of the workers only what it does and what they tell it."""

    def __init__(self, name: str, workers: list[Worker]) -> None:
        self.name = name
        self.workers = workers
        self.backlogs = {worker.name: Backlog() for worker in workers}
        self.lent: Counter[str] = Counter()
        self.sent: list[tuple[int, str]] = []
        for worker in workers:
            self.backlogs[worker.name].lanes = worker.lanes

    def choose(self, now: int) -> Worker:
        candidates = [
            Candidate(
                self.backlogs[worker.name], self.lent[worker.name], worker.name, worker.lanes,
                worker.cost,
            )
            for worker in self.workers
        ]
        worker = self.workers[first_to_finish(candidates, now)]
        self.lent[worker.name] += 1
        self.backlogs[worker.name].lend(worker.cost, now)
        self.sent.append((now, worker.name))
        return worker

    def done(self, worker: Worker, now: int) -> None:
        self.lent[worker.name] -= 1
        self.backlogs[worker.name].lent_ns -= worker.cost
        self.backlogs[worker.name].told(worker.backlog_ns, now)


def simulate(front_ends: list[FrontEnd], arrivals: list[tuple[int, str]]) -> list[int]:
    """Serve these arrivals (time, front end's name). Returns how long each took, as they end."""
    order = count()
    named = {front_end.name: front_end for front_end in front_ends}
    events: list[tuple[int, int, str, Worker | None, int]] = []
    for now, name in arrivals:
        heappush(events, (now, next(order), name, None, now))
    latencies = []
    arrived: dict[str, list[int]] = defaultdict(list)
    while events:
        now, _, name, worker, since = heappop(events)
        if worker is None:
            worker = named[name].choose(now)
            worker.waiting.append(name)
            arrived[worker.name].append(now)
        else:
            worker.running -= 1
            latencies.append(now - since)
            named[name].done(worker, now)
        while worker.waiting and worker.running < worker.lanes:
            worker.running += 1
            heappush(events, (
                now + worker.cost, next(order), worker.waiting.pop(0), worker,
                arrived[worker.name].pop(0),
            ))
    assert all(not lent for front_end in front_ends for lent in front_end.lent.values())
    assert all(
        backlog.lent_ns == 0
        for front_end in front_ends for backlog in front_end.backlogs.values()
    )
    return latencies


def poisson(rate: float, each: int, names: list[str], seed: int) -> list[tuple[int, str]]:
    random = Random(seed)
    now = 0.0
    found = []
    for _ in range(each):
        now += random.expovariate(rate)
        found.append((int(now), random.choice(names)))
    return found


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("front_ends", [1, 3])
@pytest.mark.parametrize(("load", "least", "most"), [(2.0, 1.95, 2.05), (0.9, 1.9, 2.8)])
def test_a_worker_of_twice_the_speed_gets_twice_the_requests(lanes, front_ends, load, least, most):
    workers = [Worker("slow", 20 * MS, lanes), Worker("fast", 10 * MS, lanes)]
    names = [f"front end {number}" for number in range(front_ends)]
    everybody = [FrontEnd(name, workers) for name in names]
    capacity = sum(lanes / worker.cost for worker in workers)
    simulate(everybody, poisson(load * capacity, 6000, names, seed=3))
    spread = Counter(worker for front_end in everybody for _, worker in front_end.sent)
    assert spread.total() == 6000
    assert least < spread["fast"] / spread["slow"] < most


def test_at_a_light_load_the_quicker_worker_has_them_all():
    workers = [Worker("slow", 20 * MS, 8), Worker("fast", 10 * MS, 3)]
    one = FrontEnd("one", workers)
    latencies = simulate([one], [(number * 15 * MS, "one") for number in range(100)])
    assert {worker for _, worker in one.sent} == {"fast"}
    assert set(latencies) == {10 * MS}


def test_a_worker_with_a_long_backlog_of_others_is_avoided_until_it_is_gone():
    workers = [Worker("a", 10 * MS, 1), Worker("b", 10 * MS, 1)]
    us, others = FrontEnd("us", workers), FrontEnd("others", workers[:1])
    # Ours come somewhat closer than one worker serves them: both are needed. Theirs come all at
    # once, and are a second's work.
    ours = [(number * 9 * MS, "us") for number in range(400)]
    flood = [(1000 * MS, "others")] * 100
    simulate([us, others], sorted(ours + flood))
    before, meanwhile, after = (
        Counter(worker for now, worker in us.sent if begin <= now < end)
        for begin, end in ((0, 1000 * MS), (1000 * MS, 1900 * MS), (2200 * MS, 4000 * MS))
    )
    assert before["a"] > 20
    assert meanwhile["a"] <= 3  # until one that was sent before the news has come back
    assert meanwhile["b"] > 90
    assert after["a"] > 20
