"""/docs: what this port answers, what each metric means, what each error word means."""

from collections.abc import Iterable, Sequence
from functools import cache
from html import escape

from trtserve.errors import RequestError
from trtserve.metrics import METRICS, Kind
from trtserve.supervisor.status_page import document

PATHS = {
    "/": "this daemon's status, for people",
    "/status.json": "the same for scripts. With ?after=NUMBER only the batches after the one of "
                    "that number; the answer's `next` is the number to ask for the next time",
    "/metrics": "Prometheus's format, or OpenMetrics for who asks for it",
    "/livez": "200 while the supervisor's loop turns: restart the daemon where it does not",
    "/readyz": "200 when everything that should serve does; else 503, one reason on each line",
    "/docs": "this page",
}
"""What the HTTP port answers."""


@cache
def docs_page() -> str:
    """The whole document; it never changes."""
    metrics = (
        (f"<code>{escape(name)}</code>", escape(str(metric.kind)),
         escape(", ".join(metric.labels)), escape(metric.help))
        for metric in METRICS.values() if "not exposed" not in metric.help
        for name in [f"trtserve_{metric.name}" + ("_total" if metric.kind is Kind.COUNTER else "")]
    )
    words = (
        (f"<code>{escape(kind.word)}</code>", kind.code,
         escape((kind.__doc__ or "").strip().partition("\n")[0]))
        for kind in _kinds(RequestError) if kind is not RequestError
    )
    return document(
        "trtserve: docs", "",
        '<header><h1>trtserve: docs</h1><nav aria-label="More"><a href="/">Status</a> '
        '<a href="/metrics">Metrics</a></nav></header>'
        '<p class="where">What this port answers, and what the words there mean. The manual is '
        "in the folder docs of the source; <code>trtserve --help</code> tells of the command "
        "line.</p><main>"
        + _table("Paths", ("path", "answers"), (
            (f'<a href="{escape(path)}">{escape(path)}</a>', escape(text))
            for path, text in PATHS.items()
        ))
        + _table("Errors", ("word", "gRPC status", "means"), words)
        + _table("Metrics", ("metric", "kind", "labels", "means"), metrics)
        + "</main>",
    )


def _kinds(base: type[RequestError]) -> Iterable[type[RequestError]]:
    yield base
    for kind in base.__subclasses__():
        yield from _kinds(kind)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "".join(
        "<tr>" + "".join(
            f'<td data-label="{column}">{cell}</td>'
            for column, cell in zip(columns, row, strict=True)
        ) + "</tr>"
        for row in rows
    )
    return (
        f'<section><h2>{title}</h2><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></section>"
    )
