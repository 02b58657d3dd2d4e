"""What a front end counts, in plain attributes on the hot path, put into a Recorder on demand."""

from trtserve.clock import NS_PER_S
from trtserve.metrics import LATENCY_EDGES, Histogram, Recorder


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
                for name, value in (
                    ("success", counts.ok), ("fail", counts.failed),
                    ("request_ns", counts.ok_ns), ("fail_ns", counts.failed_ns),
                ):
                    counters["version_sums", (*labels, name)] = value
                counters["input_bytes", labels] = counts.input_bytes
                counters["output_bytes", labels] = counts.output_bytes
                counters["replayed_requests", labels] = counts.replayed
                recorder.histograms["request_duration_seconds", labels] = counts.duration
            for word, value in counts.outcomes.items():
                counters["requests", (*labels, word)] = value
