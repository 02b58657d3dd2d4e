"""SIGTERM: not ready first while serving on, then everything in flight finishes, exit code 0."""

import asyncio
import signal

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e import calls
from tests.e2e.daemon_process import PATIENCE_S, Daemon
from tests.e2e.repositories import add_plus, add_work
from trtserve.client import AsyncClient, Unavailable

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

ONE_ATTEMPT = (("grpc.enable_retries", 0),)


class Load:
    """Clients that ask until the daemon takes no more; their counts."""

    def __init__(self) -> None:
        self.answers = 0
        self.refusals: list[str] = []
        self._news = asyncio.Event()

    async def ask(self, address: str, seed: int) -> None:
        """Ask until refused. Anything but a right answer or Unavailable fails the test."""
        random = np.random.default_rng(seed)
        async with AsyncClient(address, retry=False) as client:
            while True:
                x = random.standard_normal((2, 8), np.float32)
                try:
                    result = await client.infer("plus", {"x": x}, deadline=PATIENCE_S)
                except Unavailable as error:
                    self.refusals.append(str(error))
                    return
                assert np.array_equal(result["y"], x + 1)
                self.answers += 1
                self._news.set()

    async def more(self, answers: int) -> None:
        """Wait for so many answers more."""
        enough = self.answers + answers
        while self.answers < enough:
            self._news.clear()
            await self._news.wait()


async def drain_under_load(daemon: Daemon) -> Load:
    load = Load()
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        for seed in range(4):
            group.create_task(load.ask(daemon.grpc, seed))
        async with grpc.aio.insecure_channel(daemon.grpc) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            await load.more(20)
            daemon.signal(signal.SIGTERM)
            assert (await watch.read()).status == NOT_SERVING
            status, why = await asyncio.to_thread(daemon.get, "/readyz")
            assert (status, why) == (503, "not ready: the daemon is stopping\n")
            await load.more(100)
            assert daemon.process.poll() is None
            assert daemon.get("/livez")[0] == 200
    return load


def assert_nothing_is_left(daemon: Daemon, pids: list[int]) -> None:
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert not daemon.ready_file.exists()


def test_it_serves_through_the_drain_delay_and_then_ends(start, tmp_path):
    add_plus(tmp_path / "models")
    path = tmp_path / "grpc.sock"
    daemon = start("--drain-delay-seconds", "1", "--socket", str(path), "--front-ends", "2")
    assert path.exists()
    pids = list(daemon.children().values())
    load = asyncio.run(drain_under_load(daemon))
    assert daemon.end() == 0
    assert len(load.refusals) == 4
    assert_nothing_is_left(daemon, pids)
    assert not path.exists()


def test_what_is_in_flight_finishes(start, tmp_path):
    add_work(tmp_path / "models")
    daemon = start("--lanes", "1")
    pids = list(daemon.children().values())
    with grpc.insecure_channel(daemon.grpc, options=ONE_ATTEMPT) as channel:
        infer = calls.infer(channel)
        # One runs and two wait; a stream has two more.
        futures = [infer.future(calls.work_request(10000))]
        daemon.until_metric(1, "trtserve_lanes_busy")
        futures += [infer.future(calls.work_request(100)) for _ in range(2)]
        answers = calls.stream(channel)(iter([calls.work_request(100)] * 2))
        daemon.until_metric(5, "trtserve_requests_in_flight")
        daemon.signal(signal.SIGTERM)
        daemon.until(lambda: daemon.get("/readyz")[0] == 503, "not ready")
        for future in futures:
            assert calls.floats(future.result()).max() == 1
        streamed = [calls.floats(next(answers).infer_response).max() for _ in range(2)]
        assert streamed == [1, 1]
        # UNAVAILABLE: the daemon began to stop before it had read that no more requests come.
        assert answers.code() in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
    assert daemon.end() == 0
    assert_nothing_is_left(daemon, pids)


def test_a_client_that_only_listens_does_not_hold_the_end_up(start, tmp_path):
    add_plus(tmp_path / "models")
    daemon = start("--drain-timeout-seconds", "600")

    async def listen() -> None:
        async with grpc.aio.insecure_channel(daemon.grpc) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            stream = calls.stream(channel)()
            await stream.write(calls.plus_request(np.zeros((1, 4), np.float32)))
            assert calls.floats((await stream.read()).infer_response).max() == 1
            daemon.signal(signal.SIGTERM)
            assert (await watch.read()).status == NOT_SERVING
            for call in (watch, stream):
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await call.read()
                assert error.value.code() == grpc.StatusCode.UNAVAILABLE
                assert error.value.details() == "the server is shutting down"
            assert await asyncio.to_thread(daemon.end) == 0

    asyncio.run(listen())


def test_a_second_signal_hurries(start, tmp_path):
    add_work(tmp_path / "models")
    daemon = start()
    pids = list(daemon.children().values())
    with grpc.insecure_channel(daemon.grpc, options=ONE_ATTEMPT) as channel:
        call = calls.infer(channel).future(calls.work_request(10**7))
        daemon.until_metric(1, "trtserve_lanes_busy")
        daemon.signal(signal.SIGTERM)
        daemon.until(lambda: daemon.get("/readyz")[0] == 503, "not ready")
        daemon.signal(signal.SIGTERM)
        assert daemon.end() == 0
        assert calls.error_of(call)[0] in {"UNAVAILABLE", "CANCELLED"}
    assert_nothing_is_left(daemon, pids)
