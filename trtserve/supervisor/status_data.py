"""What /status.json answers, and what the status page is made of: plain data from a snapshot.

The names here are for scripts: they stay. Times of batches are nanoseconds of the machine's
monotonic clock, like `now_ns`.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from trtserve import __version__
from trtserve.clock import NS_PER_S
from trtserve.ipc.message import ModelUpdate
from trtserve.ipc.statistics import CounterSample, Statistics
from trtserve.metrics import METRICS, Labels
from trtserve.model.spec import ModelState, VariantSpec
from trtserve.supervisor.host import resident_bytes
from trtserve.supervisor.snapshot import Snapshot
from trtserve.supervisor.status_lanes import LaneBatch
from trtserve.supervisor.status_watch import Watched
from trtserve.supervisor.status_window import quantile

MAX_BATCHES = 3000
"""Batches in one answer; with `after` a reader that comes once a second seldom meets it."""

MAX_ERRORS = 50
"""Kinds of errors in one answer, the latest first."""

_DURATION = METRICS["request_duration_seconds"]


class Variant(msgspec.Struct, frozen=True):
    """One way to run a version. `max_batch` 0: requests run one by one."""

    name: str
    takes: tuple[str, ...]
    max_batch: int


class Place(msgspec.Struct, frozen=True):
    """A version on one worker."""

    worker: str
    state: str
    reason: str
    load_seconds: float


class Live(msgspec.Struct, frozen=True):
    """A version in the last seconds; None where nothing was observed in them."""

    requests_per_second: float | None
    errors_per_second: float | None
    p50_ms: float | None
    p99_ms: float | None
    rows_per_batch: float | None


class Model(msgspec.Struct, frozen=True):
    """One version of a model. `ok` and `failed` count requests since the start."""

    model: str
    version: int
    state: str
    reason: str
    labels: tuple[str, ...]
    weight: int | None
    places: tuple[Place, ...]
    variants: tuple[Variant, ...]
    live: Live
    ok: int
    failed: int
    queued: int


class Device(msgspec.Struct, frozen=True):
    """A device's lanes: how many, how many run a batch now, and which part of the last seconds
    they were busy on average. `memory_bytes` are 0 where the device does not tell."""

    device: str
    lanes: int
    busy: int
    busy_share: float | None
    memory_bytes: int
    memory_used_bytes: int


class Batch(msgspec.Struct, frozen=True):
    """One batch that a lane ran. It left the queue at `started_ns`; the four stages follow one
    another from `began_ns` on. `error` is empty where it succeeded."""

    number: int
    device: str
    lane: int
    model: str
    version: int
    variant: str
    requests: int
    rows: int
    padded_rows: int
    started_ns: int
    began_ns: int
    ended_ns: int
    stage_ns: int
    h2d_ns: int
    compute_ns: int
    d2h_ns: int
    error: str


class Error(msgspec.Struct, frozen=True):
    """Requests that got an error of one kind: how many since the start, and the last one."""

    model: str
    version: str
    word: str
    count: int
    seconds_ago: float
    message: str


class Process(msgspec.Struct, frozen=True):
    """A process of the daemon; `pid` is None while nobody plays the role."""

    name: str
    state: str
    pid: int | None
    restarts: int
    memory_bytes: int | None


class Addresses(msgspec.Struct, frozen=True):
    """Where the daemon listens."""

    grpc: str
    http: str
    socket: str | None


class Status(msgspec.Struct, frozen=True):
    """Everything. `window_seconds` is how long "the last seconds" are; 0: not known yet. `next`
    is what to ask `?after=` for, to get only the batches after these; `missed` counts those
    between that had to be left out."""

    version: str
    now_ns: int
    ready: bool
    not_ready: tuple[str, ...]
    addresses: Addresses
    window_seconds: float
    models: tuple[Model, ...]
    devices: tuple[Device, ...]
    batches: tuple[Batch, ...]
    next: int
    missed: int
    errors: tuple[Error, ...]
    processes: tuple[Process, ...]


def status_of(snapshot: Snapshot, after: int = 0) -> Status:
    """The status of a snapshot that was taken for it, with the batches after that number."""
    watched = snapshot.watched
    if watched is None:
        watched = Watched(0, (), 0.0, Statistics(), ())
    rates = _Rates(snapshot.statistics, watched)
    batches = [known for known in watched.batches if known.number > after]
    shown = batches[-MAX_BATCHES:]
    return Status(
        version=__version__,
        now_ns=watched.now_ns,
        ready=snapshot.ready,
        not_ready=snapshot.not_ready,
        addresses=Addresses(
            snapshot.addresses.grpc, snapshot.addresses.http, snapshot.addresses.socket
        ),
        window_seconds=round(watched.seconds, 3),
        models=tuple(_models(watched, rates)),
        devices=tuple(_devices(rates)),
        batches=tuple(map(_batch, shown)),
        next=shown[-1].number if shown else after,
        missed=len(batches) - len(shown),
        errors=_errors(snapshot.statistics, watched.now_ns),
        processes=tuple(
            Process(
                process.name, str(process.state), process.pid, process.restarts,
                resident_bytes(process.pid) if process.pid is not None else None,
            )
            for process in snapshot.processes
        ),
    )


class _Rates:
    """Differences between the totals now and at the begin of the last seconds."""

    def __init__(self, statistics: Statistics, watched: Watched) -> None:
        self.seconds = watched.seconds
        self.counters = _values(statistics.counters)
        self.gauges = _values(statistics.gauges)
        self._earlier = _values(watched.earlier.counters)
        self._histograms = {(each.name, each.labels): each for each in statistics.histograms}
        self._before = {(each.name, each.labels): each for each in watched.earlier.histograms}
        self._outcomes: dict[Labels, dict[str, float]] = {}
        for (name, labels), value in self.counters.items():
            if name == "requests":
                self._outcomes.setdefault(labels[:-1], {})[labels[-1]] = value

    def per_second(self, name: str, labels: Labels) -> float | None:
        """How quickly a counter grew; None where that is not known."""
        if not self.seconds:
            return None
        key = (name, labels)
        grown = self.counters.get(key, 0.0) - self._earlier.get(key, 0.0)
        return max(0.0, grown) / self.seconds

    def observed(self, name: str, labels: Labels) -> tuple[tuple[int, ...], float]:
        """What a histogram observed in the last seconds: its buckets and their sum."""
        now = self._histograms.get((name, labels))
        if now is None or not self.seconds:
            return (), 0.0
        before = self._before.get((name, labels))
        if before is None:
            return now.counts, now.total
        counts = tuple(
            max(0, new - old) for new, old in zip(now.counts, before.counts, strict=True)
        )
        return counts, now.total - before.total

    def outcomes(self, labels: Labels) -> dict[str, float]:
        """The requests of a version by outcome, since the start."""
        return dict(self._outcomes.get(labels, {}))


def _models(watched: Watched, rates: _Rates) -> Iterator[Model]:
    placed: dict[tuple[str, int], list[tuple[str, ModelUpdate]]] = {}
    for worker, update in watched.placed:
        placed.setdefault((update.model, update.version), []).append((worker, update))
    for (model, version), places in sorted(placed.items()):
        yield _model(model, version, places, rates)


def _model(
    model: str, version: int, places: Sequence[tuple[str, ModelUpdate]], rates: _Rates
) -> Model:
    labels = (model, str(version))
    states = [update.state for _, update in places]
    state = next(
        each for each in (ModelState.READY, ModelState.LOADING, ModelState.UNAVAILABLE)
        if each in states
    )
    spec = next((update.spec for _, update in places if update.spec is not None), None)
    outcomes = rates.outcomes(labels)
    ok = outcomes.pop("ok", 0.0)
    return Model(
        model=model,
        version=version,
        state=str(state),
        reason=next((update.full_reason for _, update in places if update.full_reason), ""),
        labels=spec.labels if spec is not None else (),
        weight=spec.weight if spec is not None else None,
        places=tuple(
            Place(worker, str(update.state), update.full_reason, round(update.load_seconds, 3))
            for worker, update in places
        ),
        variants=tuple(map(_variant, spec.variants)) if spec is not None else (),
        live=_live(labels, tuple(outcomes), rates),
        ok=int(ok),
        failed=int(sum(outcomes.values())),
        queued=int(rates.gauges.get(("queued_requests", labels), 0)),
    )


def _variant(variant: VariantSpec) -> Variant:
    takes = tuple(
        f"{tensor.name} {tensor.datatype}{limits}"
        for tensor, limits in zip(variant.inputs, variant.ranges, strict=True)
    )
    return Variant(variant.name, takes, variant.max_batch)


def _live(labels: Labels, words: Sequence[str], rates: _Rates) -> Live:
    durations, _ = rates.observed(_DURATION.name, labels)
    batches, rows = rates.observed("batch_rows", labels)
    failed = [rates.per_second("requests", (*labels, word)) or 0.0 for word in words]
    answered = rates.per_second("requests", (*labels, "ok"))
    middle, late = (quantile(_DURATION.edges, durations, part) for part in (0.5, 0.99))
    return Live(
        requests_per_second=_rounded(answered),
        errors_per_second=_rounded(sum(failed)) if answered is not None else None,
        p50_ms=_rounded(middle and middle * 1000),
        p99_ms=_rounded(late and late * 1000),
        rows_per_batch=_rounded(rows / sum(batches)) if sum(batches) else None,
    )


def _devices(rates: _Rates) -> Iterator[Device]:
    for (name, labels), lanes in sorted(rates.gauges.items()):
        if name != "lanes":
            continue
        busy = rates.per_second("lane_busy_seconds", labels)
        yield Device(
            device=labels[0],
            lanes=int(lanes),
            busy=int(rates.gauges.get(("lanes_busy", labels), 0)),
            busy_share=_rounded(min(1.0, busy / lanes)) if busy is not None and lanes else None,
            memory_bytes=int(rates.gauges.get(("device_memory_bytes", labels), 0)),
            memory_used_bytes=int(rates.gauges.get(("device_memory_used_bytes", labels), 0)),
        )


def _batch(known: LaneBatch) -> Batch:
    batch = known.batch
    return Batch(
        number=known.number, device=known.device, lane=batch.lane, model=batch.model,
        version=batch.version, variant=batch.variant, requests=len(batch.requests),
        rows=batch.rows, padded_rows=batch.padded, started_ns=batch.started_ns,
        began_ns=batch.began_ns, ended_ns=known.ended_ns, stage_ns=batch.stage_ns,
        h2d_ns=batch.h2d_ns, compute_ns=batch.compute_ns, d2h_ns=batch.d2h_ns, error=batch.error,
    )


def _errors(statistics: Statistics, now: int) -> tuple[Error, ...]:
    counts = _values(statistics.counters)
    latest = sorted(statistics.errors, key=lambda error: -error.at_ns)[:MAX_ERRORS]
    return tuple(
        Error(
            error.model, error.version, error.word,
            int(counts.get(("requests", (error.model, error.version, error.word)), 0)),
            round(max(0, now - error.at_ns) / NS_PER_S, 1), error.message,
        )
        for error in latest
    )


def _values(samples: Sequence[CounterSample]) -> Mapping[tuple[str, Labels], float]:
    return {(sample.name, sample.labels): sample.value for sample in samples}


def _rounded(value: float | None) -> float | None:
    """Three digits behind the point are more than anybody reads."""
    return None if value is None else round(value, 3)
