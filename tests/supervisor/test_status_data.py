"""What /status.json says of a daemon."""

from dataclasses import replace

import msgspec

from tests.supervisor.snapshots import snapshot
from trtserve.clock import NS_PER_S
from trtserve.ipc.message import ModelUpdate
from trtserve.ipc.recording import TracedBatch
from trtserve.ipc.statistics import CounterSample, ErrorSample, HistogramSample, Statistics
from trtserve.metrics import LATENCY_EDGES
from trtserve.model.spec import ModelState, VersionSpec
from trtserve.supervisor.status_data import MAX_BATCHES, MAX_ERRORS, Status, status_of
from trtserve.supervisor.status_lanes import LaneBatch
from trtserve.supervisor.status_watch import Watched

NOW = 1000 * NS_PER_S
TOY = ("toy", "1")


def durations(*counts: int) -> HistogramSample:
    padded = (*counts, *[0] * (len(LATENCY_EDGES) + 1 - len(counts)))
    return HistogramSample("request_duration_seconds", TOY, padded, 1.0)


def statistics(ok: float, failed: float, *counts: int, busy: float = 0.0) -> Statistics:
    return Statistics(
        (CounterSample("requests", (*TOY, "ok"), ok),
         CounterSample("requests", (*TOY, "overloaded"), failed),
         CounterSample("lane_busy_seconds", ("cpu",), busy)),
        (CounterSample("lanes", ("cpu",), 2), CounterSample("lanes_busy", ("cpu",), 1),
         CounterSample("queued_requests", TOY, 3)),
        (durations(*counts),),
    )


def status(watched: Watched | None = None, *, now: Statistics | None = None, after: int = 0,
           ) -> Status:
    base = snapshot()
    if watched is None:
        watched = Watched(NOW, tuple(("worker cpu", each) for each in base.models), 10.0,
                          statistics(100, 0, 0, 50), ())
    return status_of(
        replace(base, statistics=now or statistics(300, 20, 0, 50, 98, 2, busy=5.0),
                watched=watched), after,
    )


def test_rates_are_those_of_the_last_seconds():
    (toy,) = (model for model in status().models if model.model == "toy")
    assert toy.live.requests_per_second == 20.0
    assert toy.live.errors_per_second == 2.0
    assert (toy.ok, toy.failed, toy.queued) == (300, 20, 3)
    # All but 2 of 100 took 0.2 to 0.5 ms, the others up to 1 ms.
    assert toy.live.p50_ms is not None
    assert toy.live.p99_ms is not None
    assert 0.2 < toy.live.p50_ms < 0.5 < toy.live.p99_ms < 1.0
    (device,) = status().devices
    assert (device.lanes, device.busy, device.busy_share) == (2, 1, 0.25)


def test_before_anything_is_known_there_are_no_rates():
    watched = Watched(NOW, (("w", snapshot().models[1]),), 0.0, Statistics(), ())
    (toy,) = status(watched).models
    assert toy.live.requests_per_second is None
    assert toy.live.p50_ms is None
    assert status(watched).devices[0].busy_share is None


def test_a_version_is_as_ready_as_its_best_worker():
    spec = VersionSpec("m", 1, "x", (), labels=("stable",), weight=9)
    placed = (
        ("worker cuda:0", ModelUpdate("m", 1, ModelState.UNAVAILABLE, "too large", where="/m/1")),
        ("worker cpu", ModelUpdate("m", 1, ModelState.READY, spec=spec, load_seconds=0.5)),
    )
    (model,) = status(Watched(NOW, placed, 0.0, Statistics(), ())).models
    assert (model.state, model.reason) == ("READY", "/m/1: too large")
    assert (model.labels, model.weight) == (("stable",), 9)
    assert [(place.worker, place.state) for place in model.places] == [
        ("worker cuda:0", "UNAVAILABLE"), ("worker cpu", "READY")
    ]


def lane_batch(number: int) -> LaneBatch:
    return LaneBatch(number, "cpu", TracedBatch(
        5, "det", 2, "a.onnx", ((4,),), 1, 3, 4, (("f", 1, 0), ("f", 2, 0)), 90, 100, 1, 2, 3, 4,
    ))


def watching(*batches: LaneBatch) -> Watched:
    return Watched(NOW, (), 10.0, Statistics(), batches)


def test_batches_come_once_to_who_says_which_he_has():
    watched = watching(*map(lane_batch, range(1, 6)))
    everything = status(watched)
    assert [batch.number for batch in everything.batches] == [1, 2, 3, 4, 5]
    assert (everything.next, everything.missed) == (5, 0)
    rest = status(watched, after=3)
    assert [batch.number for batch in rest.batches] == [4, 5]
    nothing = status(watched, after=5)
    assert (nothing.batches, nothing.next) == ((), 5)
    batch = everything.batches[0]
    assert (batch.lane, batch.requests, batch.rows, batch.padded_rows) == (1, 2, 3, 4)
    assert (batch.began_ns, batch.ended_ns, batch.compute_ns) == (100, 110, 3)


def test_too_many_batches_are_counted():
    watched = watching(*map(lane_batch, range(1, MAX_BATCHES + 11)))
    found = status(watched)
    assert (len(found.batches), found.missed) == (MAX_BATCHES, 10)
    assert found.batches[0].number == 11


def test_the_latest_errors_come_first():
    errors = tuple(
        ErrorSample("toy", "1", f"word{number}", "why", NOW - number * NS_PER_S)
        for number in range(MAX_ERRORS + 5, 0, -1)
    )
    latest = ErrorSample("toy", "1", "overloaded", "full", NOW)
    now = msgspec.structs.replace(statistics(1, 7), errors=(*errors, latest))
    found = status(now=now).errors
    assert len(found) == MAX_ERRORS
    assert (found[0].word, found[0].count, found[0].seconds_ago) == ("overloaded", 7, 0.0)
    assert (found[1].word, found[1].count, found[1].seconds_ago) == ("word1", 0, 1.0)


def test_it_is_json():
    encoded = msgspec.json.decode(msgspec.json.encode(status(watching(lane_batch(1)))))
    assert list(encoded) == [
        "version", "now_ns", "ready", "not_ready", "addresses", "window_seconds", "models",
        "devices", "batches", "next", "missed", "errors", "processes",
    ]
    assert encoded["processes"][1] == {
        "name": "front end 1", "state": "dead", "pid": None, "restarts": 0, "memory_bytes": None,
    }
