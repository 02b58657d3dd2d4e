"""Which sizes a version's requests have: batches and rows by variant and bucket, bounded."""

from trtserve.ipc.message import Bucket
from trtserve.metrics import Labels, Recorder

MOST_SIZES = 24
"""Buckets of one version that are counted under their own name. A client chooses sizes, and each
name is a time series for ever: the rest count together as `other`."""

OTHER = "other"

_Keys = tuple[tuple[str, Labels], tuple[str, Labels]]


class SizeCounts:
    """Counts of one version by variant and bucket; writes straight into the recorder."""

    def __init__(self, recorder: Recorder, model: str, version: int) -> None:
        self._counters = recorder.counters
        self._version = (model, str(version))
        self._keys: dict[tuple[str, Bucket], _Keys] = {}

    def batch(self, variant: str, bucket: Bucket, rows: int) -> None:
        """A batch of that many rows succeeded."""
        keys = self._keys.get((variant, bucket)) or self._name(variant, bucket)
        batches, counted_rows = keys
        self._counters[batches] += 1
        self._counters[counted_rows] += rows

    def _name(self, variant: str, bucket: Bucket) -> _Keys:
        """The counters of a size that is new here. Only those with a name are remembered."""
        named = len(self._keys) < MOST_SIZES
        labels = (*self._version, variant, size_label(bucket) if named else OTHER)
        keys = (("size_batches", labels), ("size_rows", labels))
        for key in keys:
            self._counters.setdefault(key, 0)
        if named:
            self._keys[variant, bucket] = keys
        return keys


def size_label(bucket: Bucket) -> str:
    """Such as `3x224x224`, with commas between inputs; `scalar` for an input without dimensions
    beside the batch."""
    return ",".join("x".join(map(str, shape)) or "scalar" for shape in bucket) or "scalar"
