"""Memory stays where it is, whatever clients do."""

import asyncio

import grpc
import numpy as np
import psutil
import pytest

from tests.e2e import calls
from tests.e2e.daemon_process import Daemon
from trtserve.client import AsyncClient, Item

ROUNDS = 300
"""By the middle every buffer, cache and page that the traffic needs is there."""

MAX_GROWTH = 30 << 20

WIDTHS = (4, 100, 1000, 10_000)


async def round_of_traffic(client: AsyncClient, channel: grpc.aio.Channel, number: int) -> None:
    """Every way to ask: alone, many at once, bad ones, streams that end and streams that break."""
    arrays = [np.full((1 + number % 3, width), number, np.float32) for width in WIDTHS]
    await asyncio.gather(*(client.infer("plus", {"x": x}, receipt=True) for x in arrays))
    await client.infer_many([
        *(Item("plus", {"x": x}) for x in arrays), Item(f"no {number}", {"x": arrays[0]}),
        Item("look_up", {"x": np.array([[number]])}),
        Item("text", {"x": np.array([[str(number), "", "x" * number]])}),
    ])
    whole, broken = calls.stream(channel)(), calls.stream(channel)()
    for x in arrays:
        await whole.write(calls.plus_request(x, f"request {number}"))
        await broken.write(calls.plus_request(x))
    broken.cancel()
    await whole.done_writing()
    assert len([answer async for answer in whole]) == len(arrays)


async def rounds(daemon: Daemon, first: int, last: int) -> None:
    async with AsyncClient(daemon.grpc) as client:
        for number in range(first, last):
            async with grpc.aio.insecure_channel(daemon.grpc) as channel:
                await round_of_traffic(client, channel, number)
                daemon.get("/metrics")


def resident(daemon: Daemon) -> dict[str, int]:
    pids = {"supervisor": daemon.process.pid, **daemon.children()}
    return {name: psutil.Process(pid).memory_info().rss for name, pid in pids.items()}


@pytest.mark.slow
def test_no_process_grows(house):
    asyncio.run(rounds(house, 0, ROUNDS // 2))
    before = resident(house)
    asyncio.run(rounds(house, ROUNDS // 2, ROUNDS))
    growth = {name: size - before[name] for name, size in resident(house).items()}
    assert max(growth.values()) < MAX_GROWTH, growth
    house.until_idle()
