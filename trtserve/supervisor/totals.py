"""Adding up the statistics of several processes, dead ones included.

Counters and histograms only ever grow, so a dead process's last values are kept for good;
its gauges described the moment and go with it.
"""

from collections.abc import Iterable

from trtserve.ipc.statistics import (
    CounterSample,
    ErrorSample,
    Exemplar,
    HistogramSample,
    Statistics,
)
from trtserve.metrics import Labels

_Key = tuple[str, Labels]
_Kind = tuple[str, str, str]

_LATEST = "last_inference_ms"
"""The one value among `version_sums` that is a time of day: the latest counts, not the sum."""


class Totals:
    """Sums of statistics, by metric and labels."""

    def __init__(self) -> None:
        self._counters: dict[_Key, float] = {}
        self._gauges: dict[_Key, float] = {}
        self._histograms: dict[_Key, tuple[tuple[int, ...], float]] = {}
        self._exemplars: dict[_Key, dict[int, Exemplar]] = {}
        self._errors: dict[_Kind, ErrorSample] = {}

    def add(self, statistics: Statistics) -> None:
        """Add everything that one living process has counted."""
        self.retire(statistics)
        for sample in statistics.gauges:
            key = (sample.name, sample.labels)
            self._gauges[key] = self._gauges.get(key, 0.0) + sample.value

    def retire(self, statistics: Statistics) -> None:
        """Add what stays of a dead process: counters and histograms."""
        for sample in statistics.counters:
            key = (sample.name, sample.labels)
            before = self._counters.get(key, 0.0)
            latest = sample.name == "version_sums" and sample.labels[-1] == _LATEST
            self._counters[key] = max(before, sample.value) if latest else before + sample.value
        for histogram in statistics.histograms:
            key = (histogram.name, histogram.labels)
            counts, total = self._histograms.get(key, ((0,) * len(histogram.counts), 0.0))
            self._histograms[key] = (
                tuple(map(int.__add__, counts, histogram.counts)), total + histogram.total
            )
            for exemplar in histogram.exemplars:
                latest_of = self._exemplars.setdefault(key, {})
                known = latest_of.get(exemplar.bucket)
                if known is None or known.at <= exemplar.at:
                    latest_of[exemplar.bucket] = exemplar
        for error in statistics.errors:
            kind = (error.model, error.version, error.word)
            before_it = self._errors.get(kind)
            if before_it is None or before_it.at_ns <= error.at_ns:
                self._errors[kind] = error

    def statistics(self) -> Statistics:
        """The sums, in the order of names and labels."""
        return Statistics(
            tuple(CounterSample(*key, value) for key, value in sorted(self._counters.items())),
            tuple(CounterSample(*key, value) for key, value in sorted(self._gauges.items())),
            tuple(
                HistogramSample(
                    *key, counts, total,
                    tuple(exemplar for _, exemplar in sorted(self._exemplars.get(key, {}).items())),
                )
                for key, (counts, total) in sorted(self._histograms.items())
            ),
            tuple(error for _, error in sorted(self._errors.items())),
        )


def merged(retired: Statistics, living: Iterable[Statistics]) -> Statistics:
    """The sums over all processes that are alive or ever were."""
    totals = Totals()
    totals.retire(retired)
    for statistics in living:
        totals.add(statistics)
    return totals.statistics()
