"""The status page: one self-contained HTML document, no scripts, nothing from elsewhere."""

from collections.abc import Iterable, Sequence
from html import escape

from trtserve import __version__
from trtserve.ipc.message import CounterSample, HistogramSample, ModelUpdate
from trtserve.supervisor.snapshot import ProcessView, Snapshot

REFRESH_SECONDS = 5
"""How often a browser that shows the page asks again."""

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #c62828; }
@media (prefers-color-scheme: dark) { :root { --good: #4ac26b; --bad: #ff7b72; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem;
  padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .3rem; }
div { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); }
.good { color: var(--good); } .bad { color: var(--bad); }
"""


def page(snapshot: Snapshot) -> str:
    """The whole document. Every text from outside is escaped."""
    state = _word("ready", True) if snapshot.ready else _word("not ready", False)
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in snapshot.not_ready)
    where = f"gRPC on {snapshot.addresses.grpc}"
    if snapshot.addresses.socket is not None:
        where += f" and unix:{snapshot.addresses.socket}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>trtserve</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}"><style>{_STYLE}</style></head>'
        f"<body><h1>trtserve {escape(__version__)}: {state}</h1><ul>{reasons}</ul>"
        f'<p>{escape(where)}. <a href="/metrics">Metrics</a></p>'
        + _section("Models", ("model", "version", "state", "variants", "loaded in"),
                   map(_model_row, snapshot.models))
        + _section("Requests", ("model", "version", "ok", "failed", "mean time", "mean rows in a "
                                "batch", "waiting"), _request_rows(snapshot))
        + _section("Lanes", ("device", "lanes", "busy now"), _lane_rows(snapshot))
        + _section("Processes", ("process", "state", "pid", "restarts"),
                   map(_process_row, snapshot.processes))
        + "</body></html>\n"
    )


def _section(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table. Cells are HTML already."""
    body = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows
    )
    if not body:
        return f"<h2>{title}</h2><p>None.</p>"
    head = "".join(f"<th>{column}</th>" for column in columns)
    return f"<h2>{title}</h2><div><table><tr>{head}</tr>{body}</table></div>"


def _word(word: str, good: bool) -> str:
    """A state in colour; the word says it too."""
    return f'<span class="{"good" if good else "bad"}">{escape(word)}</span>'


def _model_row(update: ModelUpdate) -> Sequence[str]:
    state = _word(update.state, update.state == "READY")
    if update.full_reason:
        state += f": {escape(update.full_reason)}"
    variants = update.spec.variants if update.spec is not None else ()
    shapes = "<br>".join(
        escape(f"{variant.name}: " + ", ".join(
            f"{tensor.name} {shapes}"
            for tensor, shapes in zip(variant.inputs, variant.ranges, strict=True)
        ))
        for variant in variants
    )
    return (escape(update.model), str(update.version), state, shapes,
            f"{update.load_seconds:.2f} s")


def _process_row(process: ProcessView) -> Sequence[str]:
    pid = str(process.pid) if process.pid is not None else ""
    state = _word(process.state, process.state == "serving")
    return escape(process.name), state, pid, str(process.restarts)


def _lane_rows(snapshot: Snapshot) -> Iterable[Sequence[str]]:
    gauges = _indexed(snapshot.statistics.gauges)
    for (name, labels), lanes in gauges.items():
        if name == "lanes":
            yield escape(labels[0]), f"{lanes:g}", f"{gauges.get(('lanes_busy', labels), 0):g}"


def _request_rows(snapshot: Snapshot) -> Iterable[Sequence[str]]:
    answered: dict[tuple[str, ...], list[float]] = {}
    for sample in snapshot.statistics.counters:
        if sample.name == "requests":
            *version, outcome = sample.labels
            counts = answered.setdefault(tuple(version), [0.0, 0.0])
            counts[outcome != "ok"] += sample.value
    histograms = {
        (sample.name, sample.labels): sample for sample in snapshot.statistics.histograms
    }
    gauges = _indexed(snapshot.statistics.gauges)
    for labels, (ok, failed) in sorted(answered.items()):
        seconds = _mean(histograms.get(("request_duration_seconds", labels)))
        rows = _mean(histograms.get(("batch_rows", labels)))
        yield (
            *map(escape, labels), f"{ok:.0f}", f"{failed:.0f}",
            "" if seconds is None else f"{seconds * 1000:.2f} ms",
            "" if rows is None else f"{rows:.2f}",
            f"{gauges.get(('queued_requests', labels), 0):.0f}",
        )


def _mean(sample: HistogramSample | None) -> float | None:
    count = sum(sample.counts) if sample is not None else 0
    return sample.total / count if sample is not None and count else None


def _indexed(samples: Iterable[CounterSample]) -> dict[tuple[str, tuple[str, ...]], float]:
    return {(sample.name, sample.labels): sample.value for sample in samples}
