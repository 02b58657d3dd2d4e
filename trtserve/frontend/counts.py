"""What a front end counts, in plain attributes on the hot path, put into a Recorder on demand."""

from trtserve.clock import NS_PER_S
from trtserve.ipc.message import Timing
from trtserve.metrics import LATENCY_EDGES, SERVER_FAULTS, Histogram, Recorder


class VersionCounts:
    """Counts for one version of a model. Bytes are those of tensors; times in nanoseconds."""

    __slots__ = (
        "duration",
        "failed",
        "failed_ns",
        "input_bytes",
        "ok",
        "ok_ns",
        "outcomes",
        "output_bytes",
        "replayed",
        "traced",
    )

    def __init__(self) -> None:
        self.ok = 0
        self.ok_ns = 0
        self.failed = 0
        self.failed_ns = 0
        self.input_bytes = 0
        self.output_bytes = 0
        self.replayed = 0
        self.outcomes: dict[str, int] = {}
        self.duration = Histogram(LATENCY_EDGES)
        # Exemplars for what the workers count: they know no traces.
        self.traced: dict[str, Histogram] = {}

    def succeeded(self, duration_ns: int, output_bytes: int) -> None:
        """A request was answered with outputs."""
        self.ok += 1
        self.ok_ns += duration_ns
        self.output_bytes += output_bytes
        self.duration.observe(duration_ns / NS_PER_S)

    def fail(self, word: str, duration_ns: int) -> None:
        """A request was answered with an error of that word."""
        self.failed += 1
        self.failed_ns += duration_ns
        self.outcomes[word] = self.outcomes.get(word, 0) + 1

    def exemplify(
        self, trace_id: str, at: float, arrived_ns: int, ended_ns: int, timing: Timing
    ) -> None:
        """A request that succeeded was traced: an example for the histograms that count it."""
        self.duration.exemplify((ended_ns - arrived_ns) / NS_PER_S, trace_id, at)
        for name, value_ns in (
            ("queue_duration_seconds", timing.started_ns - arrived_ns),
            ("compute_duration_seconds", timing.compute_ns),
        ):
            histogram = self.traced.get(name)
            if histogram is None:
                histogram = self.traced[name] = Histogram(LATENCY_EDGES)
            histogram.exemplify(value_ns / NS_PER_S, trace_id, at)


class Counts:
    """Counts for all versions, by (model, version).

    Requests that fail before their model is known count under empty names: a name that a client
    made up must not become a label.
    """

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], VersionCounts] = {}

    def of(self, model: str, version: int) -> VersionCounts:
        """The counts of one version."""
        return self._find((model, str(version)))

    @property
    def unknown(self) -> VersionCounts:
        """The counts of requests without a known model."""
        return self._find(("", ""))

    def _find(self, key: tuple[str, str]) -> VersionCounts:
        found = self._versions.get(key)
        if found is None:
            found = self._versions[key] = VersionCounts()
        return found

    def write(self, recorder: Recorder) -> None:
        """Set the recorder's totals to these."""
        counters = recorder.counters
        for labels, counts in self._versions.items():
            if labels != ("", ""):
                counters["requests", (*labels, "ok")] = counts.ok
                # Prometheus sees a counter grow only from its second value on: the first
                # failures would be lost if their counter were not there before.
                for word in SERVER_FAULTS:
                    counters.setdefault(("requests", (*labels, word)), 0)
                for name, value in (
                    ("success", counts.ok), ("fail", counts.failed),
                    ("request_ns", counts.ok_ns), ("fail_ns", counts.failed_ns),
                ):
                    counters["version_sums", (*labels, name)] = value
                counters["input_bytes", labels] = counts.input_bytes
                counters["output_bytes", labels] = counts.output_bytes
                counters["replayed_requests", labels] = counts.replayed
                recorder.histograms["request_duration_seconds", labels] = counts.duration
                for name, histogram in counts.traced.items():
                    recorder.histograms[name, labels] = histogram
            for word, value in counts.outcomes.items():
                counters["requests", (*labels, word)] = value
