"""Batches and rows by variant and bucket, with a bound on how many names there are."""

import pytest

from trtserve.metrics import METRICS, Recorder
from trtserve.worker.size_counts import MOST_SIZES, OTHER, SizeCounts, size_label


def test_batches_and_rows_are_counted_by_variant_and_bucket():
    recorder = Recorder()
    counts = SizeCounts(recorder, "m", 3)
    counts.batch("small", ((3, 8, 8),), 4)
    counts.batch("small", ((3, 8, 8),), 2)
    counts.batch("large", ((3, 16, 16), ()), 1)
    assert recorder.counters == {
        ("size_batches", ("m", "3", "small", "3x8x8")): 2,
        ("size_rows", ("m", "3", "small", "3x8x8")): 6,
        ("size_batches", ("m", "3", "large", "3x16x16,scalar")): 1,
        ("size_rows", ("m", "3", "large", "3x16x16,scalar")): 1,
    }
    for name, labels in recorder.counters:
        assert len(METRICS[name].labels) == len(labels)


def test_clients_can_not_make_time_series_without_end():
    recorder = Recorder()
    counts = SizeCounts(recorder, "m", 1)
    for side in range(1, 1001):
        counts.batch("any", ((side,),), 1)
    assert len(recorder.counters) == 2 * (MOST_SIZES + 1)
    assert recorder.counters["size_batches", ("m", "1", "any", OTHER)] == 1000 - MOST_SIZES
    counts.batch("any", ((1,),), 1)  # one that came early keeps its name
    assert recorder.counters["size_batches", ("m", "1", "any", "1")] == 2


def test_a_version_that_is_loaded_again_counts_on():
    recorder = Recorder()
    SizeCounts(recorder, "m", 1).batch("a", ((4,),), 2)
    SizeCounts(recorder, "m", 1).batch("a", ((4,),), 2)
    assert recorder.counters["size_rows", ("m", "1", "a", "4")] == 4


@pytest.mark.parametrize(
    ("bucket", "label"),
    [((), "scalar"), (((),), "scalar"), (((16,),), "16"), (((3, 8, 8), (4,)), "3x8x8,4")],
)
def test_a_label_shows_each_input_s_shape(bucket, label):
    assert size_label(bucket) == label
