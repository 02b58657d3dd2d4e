"""What a process has counted: it goes to the supervisor inside of messages, which adds it up."""

import msgspec


class CounterSample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A counter's or gauge's value. Names and labels are those of metrics.py."""

    name: str
    labels: tuple[str, ...]
    value: float


class Exemplar(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The latest traced observation in a histogram's bucket, by the bucket's index.

    `trace_id` is in hexadecimal, `at` in seconds since 1970.
    """

    bucket: int
    trace_id: str
    value: float
    at: float


class HistogramSample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A histogram: observations in each bucket (not cumulative, the last is +Inf), their sum.

    Exemplars may come from another process than the one that counts.
    """

    name: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    total: float
    exemplars: tuple[Exemplar, ...] = ()


class ErrorSample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last error of a kind that a request was answered with, and when (monotonic). `word`
    names the class in errors.py; the names are empty where the model is not known."""

    model: str
    version: str
    word: str
    message: str
    at_ns: int


class Statistics(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Everything that one process, or all together, has counted since its start."""

    counters: tuple[CounterSample, ...] = ()
    gauges: tuple[CounterSample, ...] = ()
    histograms: tuple[HistogramSample, ...] = ()
    errors: tuple[ErrorSample, ...] = ()
