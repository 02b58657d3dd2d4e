"""What a front end counts, as metrics."""

from trtserve.clock import NS_PER_MS
from trtserve.frontend.counts import Counts
from trtserve.metrics import METRICS, VERSION_SUMS, Recorder


def test_counts_become_metrics():
    counts = Counts()
    version = counts.of("m", 2)
    version.succeeded(3 * NS_PER_MS, 100)
    version.succeeded(5 * NS_PER_MS, 50)
    version.fail("overloaded", NS_PER_MS)
    version.input_bytes += 64
    version.replayed += 1
    counts.unknown.fail("not_found", 1000)
    recorder = Recorder()
    counts.write(recorder)
    counts.write(recorder)  # totals, not differences
    found = recorder.counters
    assert found["requests", ("m", "2", "ok")] == 2
    assert found["requests", ("m", "2", "overloaded")] == 1
    assert found["requests", ("", "", "not_found")] == 1
    # There before the first failure, so that Prometheus sees it as growth.
    assert found["requests", ("m", "2", "execution")] == 0
    assert ("requests", ("m", "2", "invalid")) not in found
    assert found["version_sums", ("m", "2", "success")] == 2
    assert found["version_sums", ("m", "2", "fail")] == 1
    assert found["version_sums", ("m", "2", "request_ns")] == 8 * NS_PER_MS
    assert found["version_sums", ("m", "2", "fail_ns")] == NS_PER_MS
    assert found["output_bytes", ("m", "2")] == 150
    assert found["input_bytes", ("m", "2")] == 64
    assert found["replayed_requests", ("m", "2")] == 1
    histogram = recorder.histograms["request_duration_seconds", ("m", "2")]
    assert sum(histogram.counts) == 2
    assert histogram.total == 0.008


def test_everything_written_is_in_the_table():
    counts = Counts()
    counts.of("m", 1).fail("internal", 1)
    counts.unknown.fail("invalid", 1)
    recorder = Recorder()
    counts.write(recorder)
    for name, labels in [*recorder.counters, *recorder.histograms]:
        assert len(METRICS[name].labels) == len(labels)
        assert name != "version_sums" or labels[-1] in VERSION_SUMS


def test_the_same_version_has_the_same_counts():
    counts = Counts()
    assert counts.of("m", 1) is counts.of("m", 1)
    assert counts.of("m", 1) is not counts.of("m", 2)
    assert counts.unknown is counts.unknown
