"""Recordings of a real daemon: through the client, and as files of `trtserve timeline`."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import count

import numpy as np
import pytest

from tests.cli.chrome_trace import checked, track_names
from tests.e2e.repositories import add_plus
from trtserve.client import (
    Client,
    Internal,
    InvalidArgument,
    TimelinePart,
    TracedBatch,
    Unavailable,
)
from trtserve.clock import NS_PER_US

X = np.ones((2, 3), np.float32)


def batches_until(parts: Iterator[TimelinePart], requests: int) -> list[TracedBatch]:
    """The batches that come until so many requests were in them (some may run twice)."""
    found: list[TracedBatch] = []
    while len({request for batch in found for request in batch.requests}) < requests:
        found += next(parts).batches
    return found


def test_every_request_is_in_a_batch_as_its_receipt_says(client):
    with closing(client.timeline(60)) as parts:
        begun = next(parts)
        # The worker has heard by now: requests follow on the same channel.
        receipts = [client.infer("plus", {"x": X}, receipt=True).receipt for _ in range(20)]
        batches = batches_until(parts, 20)
        ended = next(parts)
    assert [len(batch.requests) for batch in batches] == [1] * 20
    ids = [request.id for batch in batches for request in batch.requests]
    assert ids == sorted(set(ids))
    for batch, receipt in zip(batches, receipts, strict=True):
        assert (batch.device, batch.model, batch.version) == ("cpu", "plus", 1)
        assert (batch.bucket, batch.rows, batch.padded_rows) == (((3,),), 2, 2)
        assert batch.error == ""
        assert (batch.lane, batch.variant) == (
            receipt["receipt_lane"], receipt["receipt_variant"]
        )
        assert batch.compute_ns // NS_PER_US == receipt["receipt_compute_us"]
        assert batch.h2d_ns == 0
        (request,) = batch.requests
        assert request.front_end == "front end 1"
        assert begun.now_ns < request.arrived_ns <= batch.started_ns <= batch.began_ns
        end = batch.began_ns + batch.stage_ns + batch.compute_ns + batch.d2h_ns
        assert batch.began_ns < end < ended.now_ns


def test_a_batch_that_fails_is_told_with_its_error(client):
    with closing(client.timeline(60)) as parts:
        next(parts)
        with pytest.raises(Internal):
            client.infer("look_up", {"x": np.array([[99]])})
        (batch,) = batches_until(parts, 1)
    assert (batch.model, batch.rows) == ("look_up", 1)
    assert "99" in batch.error


def test_callers_see_the_same(house):
    with Client(house.grpc) as one, Client(house.grpc) as other:
        recordings = [client.timeline(60) for client in (one, other, one)]
        for parts in recordings:
            next(parts)
        one.infer_many([("plus", {"x": X})] * 30)
        found = [batches_until(parts, 30) for parts in recordings]
        for parts in recordings:
            parts.close()
    # One may have heard more than another by then, but nothing else.
    common = min(map(len, found))
    assert found[0][:common] == found[1][:common] == found[2][:common]
    assert len({len({r for batch in each for r in batch.requests}) for each in found}) == 1


def test_after_a_caller_has_left_another_one_begins_anew(client):
    for number in range(1, 4):
        with closing(client.timeline(60)) as parts:
            next(parts)
            for _ in range(number):
                client.infer("plus", {"x": X})
            assert len(batches_until(parts, number)) == number
        client.infer("plus", {"x": X})  # nobody hears of this one


@pytest.mark.parametrize("seconds", [0.0, -1.0, 61.0, float("nan")])
def test_times_that_can_not_be_recorded_are_refused(client, seconds):
    with pytest.raises(InvalidArgument, match="more than 0 and at most 60"):
        next(client.timeline(seconds))


def test_the_call_ends_by_itself(client):
    parts = list(client.timeline(0.3))
    assert 0.3e9 <= parts[-1].now_ns - parts[0].now_ns < 5e9


def timeline(house, *arguments, traffic=lambda: None):
    """Runs the command while there is traffic. Its output, parsed."""
    with subprocess.Popen(
        [sys.executable, "-m", "trtserve", "timeline", "--address", house.grpc, "--json",
         *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:
        while process.poll() is None:
            traffic()
        output, error = process.communicate()
    assert process.returncode == 0, error
    return json.loads(output)


def test_the_command_writes_a_trace_of_the_traffic(house, client, tmp_path):
    numbers = count()

    def traffic():
        answers = client.infer_many([
            ("plus", {"x": np.full((1, 3 + next(numbers) % 4), 1, np.float32)}) for _ in range(40)
        ])
        assert len(answers) == 40

    said = timeline(
        house, "--seconds", "0.5", "--output", str(tmp_path / "t.json"), traffic=traffic
    )
    found = checked(json.loads((tmp_path / "t.json").read_text()))
    (device,) = said["devices"]
    assert device["device"] == "cpu"
    assert 0.5 <= said["seconds"] < 5
    assert (said["missed"], device["failed"], device["padded"]) == (0, 0, 0)
    assert device["rows"] >= device["requests"] == len(found["b"]) > 0
    assert 0 < device["compute_busy"] <= 1
    # A batch that was taken apart runs whole and in parts, under one id.
    runs = {(event["args"]["batch"], *event["args"]["requests"]) for event in found["X"]}
    assert device["batches"] == len(runs)
    assert {request for _, *requests in runs for request in requests} == {
        event["id"] for event in found["b"]
    }
    assert {event["args"]["bucket"] for event in found["X"]} <= {"3", "4", "5", "6"}
    assert all(name.startswith("lane ") for name in track_names(found))
    assert max(event["args"]["batches"] for event in found["C"]) >= 1


def test_without_traffic_the_command_writes_a_valid_file(house, tmp_path):
    said = timeline(house, "--seconds", "0.1", "--output", str(tmp_path / "t.json"))
    assert said["devices"] == []
    assert not any(checked(json.loads((tmp_path / "t.json").read_text())).values())


def test_a_worker_that_dies_does_not_end_the_recording(start, tmp_path):
    add_plus(tmp_path / "models")
    daemon = start()
    with Client(daemon.grpc) as client, closing(client.timeline(60)) as parts:
        next(parts)
        client.infer("plus", {"x": X})
        batches_until(parts, 1)
        old = daemon.children()["worker cpu"]
        os.kill(old, signal.SIGKILL)
        daemon.until(lambda: daemon.replaced("worker cpu", old), "the new worker")
        client.infer("plus", {"x": X})
        (batch,) = batches_until(parts, 1)
    assert batch.model == "plus"


def test_a_daemon_that_stops_ends_the_recording(start, tmp_path):
    add_plus(tmp_path / "models")
    daemon = start()
    with Client(daemon.grpc) as client:
        parts = client.timeline(60)
        next(parts)
        daemon.signal(signal.SIGTERM)
        with pytest.raises(Unavailable, match="shutting down"):
            list(parts)
        assert daemon.end() == 0
