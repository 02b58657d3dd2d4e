"""The table of metrics and the recorder."""

import re

import pytest

from trtserve.errors import ProtocolError
from trtserve.ipc.statistics import CounterSample, HistogramSample
from trtserve.metrics import (
    BATCH_EDGES,
    LATENCY_EDGES,
    METRICS,
    VERSION_SUMS,
    Histogram,
    Kind,
    Recorder,
)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_every_metric_is_well_formed(metric):
    assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.name)
    assert not metric.name.endswith("_total")  # the exposition adds it
    assert metric.help.endswith(".")
    assert len(set(metric.labels)) == len(metric.labels)
    assert (metric.kind == Kind.HISTOGRAM) == bool(metric.edges)
    assert list(metric.edges) == sorted(set(metric.edges))
    assert "le" not in metric.labels


def test_times_are_in_seconds():
    for metric in METRICS.values():
        if metric.edges == LATENCY_EDGES:
            assert metric.name.endswith("_seconds")
    assert {metric.edges for metric in METRICS.values()} == {(), LATENCY_EDGES, BATCH_EDGES}


def test_sums_have_distinct_names():
    assert len(set(VERSION_SUMS)) == len(VERSION_SUMS)


@pytest.mark.parametrize(("value", "bucket"), [
    (-1.0, 0), (0.0, 0), (1.0, 0), (1.5, 1), (2.0, 1), (3.0, 2), (float("inf"), 2),
])
def test_a_value_on_an_edge_belongs_below_it(value, bucket):
    histogram = Histogram((1.0, 2.0))
    histogram.observe(value)
    assert histogram.counts == [int(index == bucket) for index in range(3)]


def test_several_observations_at_once():
    histogram = Histogram((1.0,))
    histogram.observe(0.5, times=3)
    histogram.observe(4.0)
    assert histogram.counts == [3, 1]
    assert histogram.total == 5.5


def test_a_recorder_gives_all_totals():
    recorder = Recorder()
    recorder.count("requests", ("m", "1", "ok"))
    recorder.count("requests", ("m", "1", "ok"), 2)
    recorder.gauge("lanes_busy", ("cpu",), 1)
    recorder.gauge("lanes_busy", ("cpu",), 0)
    recorder.histogram("batch_rows", ("m", "1")).observe(8)
    assert recorder.histogram("batch_rows", ("m", "1")) is recorder.histograms[
        "batch_rows", ("m", "1")
    ]
    statistics = recorder.statistics()
    assert statistics.counters == (CounterSample("requests", ("m", "1", "ok"), 3),)
    assert statistics.gauges == (CounterSample("lanes_busy", ("cpu",), 0),)
    counts = tuple(int(edge == 8) for edge in (*BATCH_EDGES, 0))
    assert statistics.histograms == (HistogramSample("batch_rows", ("m", "1"), counts, 8.0),)


@pytest.mark.parametrize(("name", "labels"), [
    ("no_such", ()), ("batch_rows", ("m",)), ("batch_rows", ("m", "1", "2")),
])
def test_a_histogram_that_is_not_in_the_table_is_an_error(name, labels):
    with pytest.raises(ProtocolError, match=f"no histogram {name}"):
        Recorder().histogram(name, labels)
