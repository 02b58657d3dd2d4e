"""Timelines through both clients, against a real gRPC server."""

import asyncio
from contextlib import aclosing, closing

import pytest

from tests.client.timeline_server import TimelineServer, running
from trtserve.client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    InvalidArgument,
    TimelinePart,
    TracedBatch,
    TracedRequest,
    Unavailable,
)
from trtserve.clock import NS_PER_S
from trtserve.proto import trtserve_pb2 as v1

REPLY = v1.TimelineReply(now_ns=NS_PER_S + 5, missed=3, batches=[v1.TracedBatch(
    device="cuda:0", id=1, model="m", version=2, variant="v.onnx",
    bucket=[v1.TracedShape(dims=(3, 4)), v1.TracedShape()], lane=4, rows=5, padded_rows=6,
    requests=[v1.TracedRequest(front_end="front end 1", id=7, arrived_ns=8)],
    started_ns=9, began_ns=10, stage_ns=11, h2d_ns=12, compute_ns=13, d2h_ns=14, error="no",
)])

PARTS = [
    TimelinePart(NS_PER_S, (), 0),
    TimelinePart(NS_PER_S + 5, (TracedBatch(
        "cuda:0", 1, "m", 2, "v.onnx", ((3, 4), ()), 4, 5, 6,
        (TracedRequest("front end 1", 7, 8),), 9, 10, 11, 12, 13, 14, "no",
    ),), 3),
    TimelinePart(3 * NS_PER_S, (), 0),
]


def all_parts(address, seconds, **options):
    with Client(address, retry=False) as client:
        return list(client.timeline(seconds, **options))


def all_parts_awaited(address, seconds, **options):
    async def run():
        async with AsyncClient(address, retry=False) as client:
            return [part async for part in client.timeline(seconds, **options)]

    return asyncio.run(run())


@pytest.fixture(params=[all_parts, all_parts_awaited], ids=["sync", "asyncio"])
def record(request):
    return request.param


def test_the_parts_come_as_plain_values(record):
    with running(TimelineServer(REPLY)) as address:
        assert record(address, 2) == PARTS


def test_a_request_is_named_after_its_front_end():
    (request,) = PARTS[1].batches[0].requests
    assert str(request) == "front end 1/7"


def test_errors_are_those_of_other_calls(record):
    with running(TimelineServer()) as address:
        with pytest.raises(InvalidArgument, match="ask for more than 0"):
            record(address, -1)
        with pytest.raises(DeadlineExceeded):
            record(address, 60, deadline=0.05)


def test_where_no_server_is_the_error_names_the_address(record, tmp_path):
    address = f"unix:{tmp_path}/nobody"
    with pytest.raises(Unavailable, match=f"no server answers at {address}"):
        record(address, 1)


def test_who_stops_reading_ends_the_recording():
    server = TimelineServer()
    with running(server) as address, Client(address) as client:
        with closing(client.timeline(60)) as parts:
            next(parts)
        assert server.left.wait(30)


def test_who_stops_reading_in_asyncio_ends_the_recording():
    server = TimelineServer()

    async def run(address):
        async with AsyncClient(address) as client:
            async with aclosing(client.timeline(60)) as parts:
                await anext(parts)
            assert await asyncio.to_thread(server.left.wait, 30)

    with running(server) as address:
        asyncio.run(run(address))
