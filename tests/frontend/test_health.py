"""The health service: each watch hears of every state, whatever the others do."""

import asyncio

import pytest
from grpc_health.v1 import health_pb2

from tests.frontend.serving import run
from trtserve.errors import ModelNotFound, Unavailable
from trtserve.frontend.health import Health

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Watcher:
    """A client: what it was told. One that is deaf takes nothing."""

    def __init__(self, deaf=False):
        self.told: asyncio.Queue[int] = asyncio.Queue()
        self._deaf = deaf

    async def write(self, answer):
        if self._deaf:
            await asyncio.Event().wait()
        self.told.put_nowait(answer.status)


def asks(service=""):
    return health_pb2.HealthCheckRequest(service=service)


async def state(health, service=""):
    return (await health.check(asks(service), None)).status


def test_a_state_is_told_to_who_asks():
    async def check():
        health = Health()
        assert await state(health) == NOT_SERVING
        health.set("", True)
        health.set("a", True)
        health.set("a", False)
        assert (await state(health), await state(health, "a")) == (SERVING, NOT_SERVING)
        with pytest.raises(ModelNotFound):
            await state(health, "nothing")

    run(check)


def test_one_who_does_not_listen_keeps_nothing_from_others():
    async def check():
        health = Health()
        health.set("", True)
        deaf, good = Watcher(deaf=True), Watcher()
        watches = [asyncio.ensure_future(health.watch(asks(), each)) for each in (deaf, good)]
        assert await good.told.get() == SERVING
        health.set("", False)
        assert await good.told.get() == NOT_SERVING
        assert await state(health) == NOT_SERVING
        for watch in watches:
            watch.cancel()

    run(check)


def test_a_service_may_come_later_and_states_are_told_once():
    async def check():
        health = Health()
        watcher = Watcher()
        watch = asyncio.ensure_future(health.watch(asks("later"), watcher))
        assert await watcher.told.get() == UNKNOWN
        health.set("other", True)
        health.set("later", True)
        health.set("later", True)
        assert await watcher.told.get() == SERVING
        health.stop_watches()
        with pytest.raises(Unavailable, match="shutting down"):
            await watch
        assert watcher.told.empty()

    run(check)
