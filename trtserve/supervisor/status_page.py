"""The status page: one self-contained HTML document; nothing comes from elsewhere.

Without JavaScript it is made anew every few seconds. With it the tables are, from the same code
(`tables`), and status.js draws the lanes from /status.json.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from importlib import resources

from trtserve.supervisor.status_data import Error, Model, Process, Status

REFRESH_SECONDS = 5
"""How often a browser without JavaScript asks again."""

_GOOD = frozenset({"READY", "serving", "ready"})
_WAIT = frozenset({"LOADING", "starting", "draining"})

_HINT = (
    "Point at a batch, or focus the chart and use the arrow keys, to see its rows and how long "
    "its stages took. The chart waits meanwhile."
)

_NONE = "&ndash;"
"""Where nothing was observed."""

Cell = tuple[str, str]
"""The class of a cell, and its HTML."""


@cache
def asset(name: str) -> str:
    """One of the page's own files."""
    return resources.files("trtserve.supervisor").joinpath(name).read_text(encoding="utf-8")


@cache
def security_policy() -> str:
    """The Content-Security-Policy: our style, our script, our own server, and nothing else."""
    def hashed(text: str) -> str:
        digest = hashlib.sha256(text.encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"

    return (
        f"default-src 'none'; style-src {hashed(asset('status.css'))}; "
        f"script-src {hashed(asset('status.js'))}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def document(title: str, head: str, body: str) -> str:
    """A page in the daemon's style. `title` is text, the others are HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,">{head}<style>{asset("status.css")}</style></head>'
        f"<body>{body}</body></html>\n"
    )


def page(status: Status) -> str:
    """The whole document. Every text from outside is escaped."""
    where = f"gRPC on {status.addresses.grpc}"
    if status.addresses.socket is not None:
        where += f" and unix:{status.addresses.socket}"
    noscript = f'<noscript><meta http-equiv="refresh" content="{REFRESH_SECONDS}"></noscript>'
    return document(
        "trtserve", noscript,
        f'<header><h1>trtserve <span class="soft">{escape(status.version)}</span></h1>'
        '<nav aria-label="More"><a href="/metrics">Metrics</a> <a href="/docs">Docs</a> '
        '<a href="/status.json">JSON</a> <a href="/readyz">Readiness</a></nav></header>'
        f'<p class="where">{escape(where)}</p>'
        '<p id="lost" class="bad" role="alert"></p><main>'
        f"{_summary(status)}{_timeline()}{_sections(status)}</main>"
        "<noscript><p class='soft'>The timeline of the lanes needs JavaScript; the tables do "
        f"not: this page loads itself anew every {REFRESH_SECONDS} seconds.</p></noscript>"
        f"<script>{asset('status.js')}</script>",
    )


def tables(status: Status) -> str:
    """The parts of the page that change, alone."""
    return _summary(status) + _sections(status)


def pill(word: str) -> str:
    """A state in colour; the word says it too."""
    kind = "good" if word in _GOOD else "wait" if word in _WAIT else "bad"
    return f'<span class="pill {kind}">{escape(word)}</span>'


def _summary(status: Status) -> str:
    lives = [model.live for model in status.models]
    rate = _sum(live.requests_per_second for live in lives)
    errors = _sum(live.errors_per_second for live in lives)
    late = max((live.p99_ms for live in lives if live.p99_ms is not None), default=None)
    shares = [device.busy_share for device in status.devices if device.busy_share is not None]
    busy = f"{100 * sum(shares) / len(shares):.0f} <small>%</small>" if shares else _NONE
    tiles = (
        ("State", pill("ready" if status.ready else "not ready")),
        ("Requests", f"{_number(rate)} <small>/s, {_number(errors)} failed</small>"),
        ("Slowest p99", f"{_number(late)} <small>ms</small>" if late is not None else _NONE),
        ("Lanes busy", busy),
    )
    body = "".join(f"<div><dt>{name}</dt><dd data-cell>{cell}</dd></div>" for name, cell in tiles)
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in status.not_ready)
    why = f'<section class="reasons"><h2>Why not ready</h2><ul>{reasons}</ul></section>'
    return (
        f'<dl class="tiles" data-part="tiles">{body}</dl>'
        f'<div data-part="reasons">{why if reasons else ""}</div>'
    )


def _timeline() -> str:
    """What status.js fills; unseen without it."""
    return (
        '<figure id="timeline" hidden aria-labelledby="lanes-now"><div class="head">'
        '<h2 id="lanes-now">Lanes, the last seconds</h2><ul id="legend" aria-label="Models">'
        '</ul></div><svg id="chart" tabindex="0" role="group" aria-describedby="detail" '
        'aria-label="Batches on each lane, by time" height="120"></svg>'
        f'<p id="detail" class="soft" role="status">{_HINT}</p></figure>'
    )


def _sections(status: Status) -> str:
    return (
        _section("models", "Models", (
            "model", "version", "state", "requests/s", "errors/s", "p50 ms", "p99 ms",
            "rows/batch", "waiting", "ok", "failed",
        ), map(_model_row, status.models), numbers=3)
        + _section("variants", "Variants", (
            "model", "version", "variant", "takes", "largest batch", "lives on",
        ), _variant_rows(status.models))
        + _section("devices", "Lanes", (
            "device", "lanes", "busy now", "busy lately", "memory used",
        ), _device_rows(status), numbers=1)
        + _section("errors", "Recent errors", (
            "model", "version", "error", "requests", "last", "last message",
        ), map(_error_row, status.errors))
        + _section("processes", "Processes", (
            "process", "state", "pid", "restarts", "memory",
        ), map(_process_row, status.processes), numbers=2)
    )


def _section(
    part: str, title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]],
    numbers: int | None = None,
) -> str:
    """A table; columns from `numbers` on are numbers. Roles keep it one where a phone shows its
    rows as lists."""
    numbers = len(columns) if numbers is None else numbers
    body = "".join(_row(columns, row) for row in rows)
    head = f'<section data-part="{part}" aria-labelledby="{part}-title">'
    head += f'<h2 id="{part}-title">{title}</h2>'
    if not body:
        return f'{head}<p class="soft">None.</p></section>'
    headings = "".join(
        f'<th role="columnheader" scope="col"{" class=number" if index >= numbers else ""}>'
        f"{column}</th>"
        for index, column in enumerate(columns)
    )
    return (
        f'{head}<div class="scroll" role="region" tabindex="0" aria-labelledby="{part}-title">'
        f'<table role="table"><thead role="rowgroup"><tr role="row">{headings}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table></div></section>'
    )


def _row(columns: Sequence[str], row: Sequence[Cell]) -> str:
    (_, name), *others = row
    cells = "".join(
        f'<td role="cell" data-cell data-label="{escape(column)}"'
        f'{f" class={kind}" if kind else ""}>{f"<span>{cell}</span>" if cell else ""}</td>'
        for column, (kind, cell) in zip(columns[1:], others, strict=True)
    )
    return f'<tr role="row"><th role="rowheader" scope="row" data-cell>{name}</th>{cells}</tr>'


def _model_row(model: Model) -> Sequence[Cell]:
    state = pill(model.state)
    if model.reason:
        state += f" {escape(model.reason)}"
    names = ", ".join(model.labels)
    if model.weight is not None:
        names += f" weight {model.weight}"
    version = str(model.version)
    if names:
        version += f' <span class="soft">{escape(names)}</span>'
    live = model.live
    figures = (
        _number(live.requests_per_second), _number(live.errors_per_second),
        _number(live.p50_ms), _number(live.p99_ms), _number(live.rows_per_batch),
        str(model.queued), str(model.ok), str(model.failed),
    )
    return (
        _text(model.model), ("", version), ("", state), *(("number", each) for each in figures)
    )


def _variant_rows(models: Iterable[Model]) -> Iterable[Sequence[Cell]]:
    for model in models:
        places = "<br>".join(
            f"{escape(place.worker)} {pill(place.state)}"
            + (f' <span class="soft">loaded in {place.load_seconds:.2f} s</span>'
               if place.load_seconds else "")
            for place in model.places
        )
        for variant in model.variants:
            takes = "<br>".join(f"<code>{escape(each)}</code>" for each in variant.takes)
            batch = str(variant.max_batch) if variant.max_batch else "none"
            yield (
                _text(model.model), ("row", str(model.version)),
                ("row", escape(variant.name)), ("wide", takes), ("row", batch), ("wide", places),
            )


def _device_rows(status: Status) -> Iterable[Sequence[Cell]]:
    for device in status.devices:
        share = device.busy_share
        memory = ""
        if device.memory_bytes:
            memory = f"{_size(device.memory_used_bytes)} of {_size(device.memory_bytes)}"
        yield (
            _text(device.device), ("number", str(device.lanes)), ("number", str(device.busy)),
            ("number", _NONE if share is None else f"{100 * share:.0f} %"), ("number", memory),
        )


def _error_row(error: Error) -> Sequence[Cell]:
    return (
        _text(error.model or "unknown"), _text(error.version), ("", pill(error.word)),
        ("number", str(error.count)), ("number", f"{_ago(error.seconds_ago)} ago"),
        ("wide", escape(error.message)),
    )


def _process_row(process: Process) -> Sequence[Cell]:
    pid = str(process.pid) if process.pid is not None else ""
    memory = "" if process.memory_bytes is None else _size(process.memory_bytes)
    return (
        _text(process.name), ("", pill(process.state)), ("number", pid),
        ("number", str(process.restarts)), ("number", memory),
    )


def _text(text: str) -> Cell:
    return "", escape(text)


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _number(value: float | None) -> str:
    """Three digits, as many as people read."""
    if value is None:
        return _NONE
    if value >= 100 or value == 0:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _size(count: int) -> str:
    """Bytes for people."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"


def _ago(seconds: float) -> str:
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
