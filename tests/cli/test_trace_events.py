"""A recording as a Chrome trace."""

import json
import random

import msgspec
import pytest

from tests.cli.chrome_trace import checked, track_names
from tests.cli.traced import batch
from trtserve.cli.trace_events import chrome_trace
from trtserve.clock import NS_PER_US


def events_of(*batches, start=0):
    """The events by their phase, as a program reads them from the file."""
    trace = chrome_trace(list(batches), start * NS_PER_US)
    return checked(json.loads(msgspec.json.encode(trace)))


def test_a_batch_is_an_event_for_each_stage():
    found = events_of(batch(
        1010, 1, 2, 3, 4, started=1005, requests=((7, 1000), (8, 1003)), id=5, model="det",
        version=2, variant="small.onnx", bucket=((3, 32, 48), ()), lane=1, rows=2, padded_rows=4,
    ), start=1000)
    arguments = {
        "batch": 5, "model": "det", "version": 2, "variant": "small.onnx",
        "bucket": "3x32x48, scalar", "rows": 2, "padded_rows": 4,
        "requests": ["front end 1/7", "front end 1/8"], "queue_us": [5, 2],
    }
    assert [
        (event["name"], event["cat"], event["ts"], event["dur"]) for event in found["X"]
    ] == [
        ("det 3x32x48, scalar", "stage", 10, 1), ("det 3x32x48, scalar", "h2d", 11, 2),
        ("det 3x32x48, scalar", "compute", 13, 3), ("det 3x32x48, scalar", "d2h", 16, 4),
    ]
    assert all(event["args"] == arguments for event in found["X"])
    assert track_names(found) == ["lane 1 stage", "lane 1 H2D", "lane 1 compute", "lane 1 D2H"]


def test_requests_wait_in_the_queue():
    found = events_of(batch(20, compute=5, started=10, requests=((1, 0), (2, 10)), model="det"))
    assert [(e["name"], e["id"], e["ts"], e["args"]["queue_us"]) for e in found["b"]] == [
        ("det", "front end 1/1", 0, 10), ("det", "front end 1/2", 10, 0),
    ]
    assert [(e["id"], e["ts"]) for e in found["e"]] == [
        ("front end 1/1", 10), ("front end 1/2", 10),
    ]


def test_a_request_that_ran_twice_waited_once():
    found = events_of(
        batch(5, compute=5, requests=((1, 0), (2, 0))), batch(10, compute=5, requests=((2, 0),))
    )
    assert [event["id"] for event in found["b"]] == ["front end 1/1", "front end 1/2"]


def test_the_counter_says_how_many_batches_run():
    found = events_of(
        batch(0, compute=10), batch(5, compute=10, lane=1), batch(10, compute=10, id=3)
    )
    assert [(event["ts"], event["args"]["batches"]) for event in found["C"]] == [
        (0, 1), (5, 2), (10, 2), (15, 1), (20, 0),
    ]


def test_time_begins_at_the_recording_or_before_it_with_the_first_arrival():
    (event,) = events_of(batch(500, compute=1), start=400)["X"]
    assert event["ts"] == 100
    found = events_of(batch(500, compute=1, requests=((1, 350),)), start=400)
    assert (found["b"][0]["ts"], found["X"][0]["ts"]) == (0, 150)


def test_every_device_is_a_process():
    found = events_of(batch(0, compute=1, device="cuda:1"), batch(0, compute=1))
    names = {e["pid"]: e["args"]["name"] for e in found["M"] if e["name"] == "process_name"}
    assert names == {1: "cuda:0", 2: "cuda:1"}
    assert len({event["tid"] for event in found["X"]}) == 2


def test_tracks_are_in_the_order_of_lanes_and_stages():
    found = events_of(*(batch(0, 1, 1, 1, 1, lane=lane) for lane in (10, 2, 0)))
    assert track_names(found) == [
        f"lane {lane} {stage}" for lane in (0, 2, 10)
        for stage in ("stage", "H2D", "compute", "D2H")
    ]


def test_batches_of_one_lane_that_overlap_in_a_stage_get_two_tracks():
    found = events_of(batch(0, compute=10), batch(5, compute=10), batch(12, compute=10))
    assert track_names(found) == ["lane 0 compute", "lane 0 compute (2)"]


def test_a_failure_is_a_mark_even_where_no_time_was_measured():
    found = events_of(batch(3, error="index out of range", requests=((1, 0),)))
    assert not found["X"]
    (mark,) = found["i"]
    assert (mark["name"], mark["ts"], mark["args"]["error"]) == (
        "failed: m 4", 3, "index out of range"
    )


def test_nothing_is_a_valid_file():
    assert not any(events_of().values())


@pytest.mark.parametrize("seed", range(20))
def test_any_batches_make_a_valid_file(seed):
    generator = random.Random(seed)
    batches = []
    for number in range(40):
        began = generator.randrange(100)
        batches.append(batch(
            began, *generator.choices(range(5), k=4), id=number, lane=generator.randrange(3),
            requests=((number, began - generator.randrange(50)),),
            device=generator.choice(("cuda:0", "cuda:1")),
        ))
    found = events_of(*batches, start=generator.randrange(100))
    stages = sum(
        duration > 0 for b in batches
        for duration in (b.stage_ns, b.h2d_ns, b.compute_ns, b.d2h_ns)
    )
    assert len(found["X"]) == stages
    assert {each for event in found["X"] for each in event["args"]["requests"]} <= {
        event["id"] for event in found["b"]
    }
    assert found["C"][-1]["args"]["batches"] == 0
