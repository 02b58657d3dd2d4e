"""kill -9 of the worker under load: not one request without an answer, not one wrong answer."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable

import grpc
import numpy as np

from tests.e2e import calls
from tests.e2e.daemon_process import PATIENCE_S, Daemon
from tests.e2e.repositories import add_plus, add_work
from trtserve.client import AsyncClient, Client, Item, NotFound, Result

KILLS = 3
"""In a row; the fifth within a minute would make the supervisor give up hope."""

SETTLED = 20
"""Answers after which a task's requests are all younger than the last kill: more than a task has
in flight. So no request meets two deaths, and none may fail."""

WORKER = "worker cpu"


class Tally:
    """Right answers by task. A wrong one, or an error, ends the task and so the test."""

    def __init__(self) -> None:
        self.right: Counter[str] = Counter()
        self.over = False
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def add(self, task: str, y: np.ndarray, x: np.ndarray) -> None:
        """Count an answer, from any thread."""
        assert np.array_equal(y, x + 1), f"{task}: a wrong answer"
        self.right[task] += 1
        self._loop.call_soon_threadsafe(self._news.set)

    async def each_gets(self, answers: int) -> None:
        """Wait until every task has had so many answers more."""
        before = self.right.copy()
        while any(self.right[task] < before[task] + answers for task in TASKS):
            self._news.clear()
            await self._news.wait()


def inputs(task: str) -> Callable[[], np.ndarray]:
    """Makes arrays that no other request has, of three widths."""
    random = np.random.default_rng(list(task.encode()))
    return lambda: random.standard_normal(
        (int(random.integers(1, 4)), int(random.choice([4, 16, 64]))), np.float32
    )


async def unary(task: str, address: str, tally: Tally) -> None:
    make = inputs(task)
    async with AsyncClient(address, retry=False) as client:
        while not tally.over:
            x = make()
            tally.add(task, (await client.infer("plus", {"x": x}))["y"], x)


async def long(task: str, address: str, tally: Tally) -> None:
    """Requests that are on the device most of the time."""
    x = np.random.default_rng(7).standard_normal(16, np.float32)
    async with AsyncClient(address, retry=False) as client:
        while not tally.over:
            result = await client.infer("work", {"x": x, "steps": np.array([200])})
            tally.add(task, result["y"], x)
            x = result["y"]


async def batches(task: str, address: str, tally: Tally) -> None:
    make = inputs(task)
    async with AsyncClient(address, retry=False) as client:
        while not tally.over:
            arrays = [make() for _ in range(6)]
            items = [Item("plus", {"x": x}) for x in arrays]
            results = await client.infer_many([*items, Item("nothing", {"x": arrays[0]})])
            assert isinstance(results[-1], NotFound)
            for x, result in zip(arrays, results[:-1], strict=True):
                assert isinstance(result, Result), result
                tally.add(task, result["y"], x)


async def streams(task: str, address: str, tally: Tally) -> None:
    make = inputs(task)
    sent: asyncio.Queue[np.ndarray] = asyncio.Queue(8)

    async def requests() -> AsyncIterator[bytes]:
        number = 0
        while not tally.over:
            x = make()
            await sent.put(x)
            yield calls.plus_request(x, str(number := number + 1))

    async with grpc.aio.insecure_channel(address) as channel:
        number = 0
        async for answer in calls.stream(channel)(requests()):
            assert not answer.error_message
            assert answer.infer_response.id == str(number := number + 1)
            tally.add(task, calls.floats(answer.infer_response), sent.get_nowait())
        assert sent.empty()


async def threads(task: str, address: str, tally: Tally) -> None:
    make = inputs(task)

    def work() -> None:
        with Client(address, retry=False) as client:
            while not tally.over:
                x = make()
                tally.add(task, client.infer("plus", {"x": x})["y"], x)

    await asyncio.to_thread(work)


TASKS = {
    f"{kind.__name__} {number}": kind
    for kind, count in ((unary, 4), (long, 1), (batches, 2), (streams, 2), (threads, 2))
    for number in range(count)
}


async def kill_under_load(daemon: Daemon) -> Tally:
    tally = Tally()
    async with asyncio.timeout(2 * PATIENCE_S), asyncio.TaskGroup() as group:
        for task, kind in TASKS.items():
            group.create_task(kind(task, daemon.grpc, tally))
        for _ in range(KILLS):
            await tally.each_gets(SETTLED)
            worker = daemon.children()[WORKER]
            os.kill(worker, signal.SIGKILL)
            await asyncio.to_thread(
                daemon.until, lambda worker=worker: daemon.replaced(WORKER, worker), "a new worker"
            )
        await tally.each_gets(SETTLED)
        tally.over = True
    return tally


def test_no_request_is_lost_and_no_answer_wrong(start, tmp_path):
    add_plus(tmp_path / "models")
    add_work(tmp_path / "models")
    daemon = start()
    tally = asyncio.run(kill_under_load(daemon))
    assert daemon.metric("trtserve_requests_total", outcome="ok") == tally.right.total()
    assert daemon.metric("trtserve_requests_total", outcome="not_found") > 0
    for bad in ("internal", "execution", "unavailable", "deadline", "cancelled", "invalid"):
        assert daemon.metric("trtserve_requests_total", outcome=bad) == 0, bad
    assert daemon.metric("trtserve_replayed_requests_total") > 0
    assert daemon.metric("trtserve_worker_restarts_total", process=WORKER) == KILLS
    assert daemon.metric("trtserve_worker_restarts_total") == KILLS
    daemon.until_idle()


def test_a_request_in_two_crashes_is_not_tried_again(start, tmp_path):
    add_work(tmp_path / "models")
    daemon = start()
    with grpc.insecure_channel(daemon.grpc) as channel:
        call = calls.infer(channel).future(calls.work_request(10**7))
        for _ in range(2):
            daemon.until_metric(1, "trtserve_lanes_busy")
            os.kill(daemon.children()[WORKER], signal.SIGKILL)
        assert calls.error_of(call) == (
            "INTERNAL",
            "the request was in flight in two crashes of its worker; it is not tried again",
        )
        # And the third worker serves.
        with Client(daemon.grpc, retry=False) as client:
            inputs = {"x": np.zeros(16, np.float32), "steps": np.array([1])}
            assert client.infer("work", inputs)["y"].max() == 1
    daemon.until_idle()
