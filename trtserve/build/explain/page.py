"""Explanations as one self-contained HTML document: no scripts, nothing from elsewhere."""

from collections.abc import Iterable, Sequence
from html import escape

from trtserve.build.explain.compare import Comparison
from trtserve.build.explain.explanation import Explanation
from trtserve.build.explain.picture import picture
from trtserve.build.explain.report import (
    Table,
    comparison_line,
    comparison_tables,
    summary,
    tables,
)

_LONG = 40
"""Rows from which on a table is folded up until somebody opens it."""

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --dim: #8882; --fused: #1a7f37;
  --moved: #b35900; --share: #0969da33; }
@media (prefers-color-scheme: dark) { :root { --fused: #4ac26b; --moved: #f0a050;
  --share: #58a6ff44; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem;
  padding: 0 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 2rem 0 .3rem; }
div { overflow-x: auto; }
summary { cursor: pointer; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; min-width: 3rem; }
svg { font: 12px system-ui, sans-serif; fill: none; }
svg text { fill: currentColor; } svg rect { fill: var(--dim); stroke: var(--line); }
svg .fused rect { stroke: var(--fused); stroke-width: 1.5; }
svg .moved rect { stroke: var(--moved); stroke-dasharray: 4 2; }
svg .gone { opacity: .55; } svg .gone text { text-decoration: line-through; }
svg rect.share { fill: var(--share); stroke: none; }
svg .arc, svg .joint { stroke: currentColor; opacity: .35; } svg .joint { opacity: .25; }
.key span { border: 1px solid var(--line); border-radius: 3px; margin-right: .8rem;
  padding: 0 .4rem; white-space: nowrap; }
.key .fused { border-color: var(--fused); } .key .moved { border: 1px dashed var(--moved); }
.key .gone { opacity: .55; text-decoration: line-through; }
"""

_KEY = (
    '<p class="key"><span class="fused">several nodes in one layer</span><span class="moved">only '
    'a change of layout, datatype or place</span><span class="gone">computed ahead, or not needed'
    "</span>Left: as given. Right: what runs.</p>"
)


def page(explanations: Sequence[Explanation], comparisons: Sequence[Comparison] = ()) -> str:
    """The whole document. Every text from outside is escaped."""
    title = escape(", ".join(explanation.name for explanation in explanations))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{title} explained</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>"
        + "".join(map(_comparison, comparisons))
        + "".join(map(_explanation, explanations))
        + "</body></html>\n"
    )


def _comparison(comparison: Comparison) -> str:
    return (
        f"<h1>Comparison</h1><p>{_text(comparison_line(comparison))}</p>"
        + "".join(map(_table, comparison_tables(comparison)))
    )


def _explanation(explanation: Explanation) -> str:
    drawn = picture(explanation)
    graph = f"<h2>Before and after</h2>{_KEY}<div>{drawn}</div>" if drawn else ""
    first, *others = tables(explanation)
    return (
        f"<h1>{_text(explanation.name)}</h1>"
        f"<p>{'<br>'.join(map(_text, summary(explanation)))}</p>"
        + _table(first) + graph + "".join(map(_table, others))
    )


def _table(table: Table) -> str:
    head = _row(table.columns, "th")
    body = "".join(_row(row, "td") for row in table.rows)
    inside = f"<div><table>{head}{body}</table></div>"
    heading = f"<h2>{_text(table.title)}</h2>"
    if len(table.rows) < _LONG:
        return heading + inside
    return f"{heading}<details><summary>{len(table.rows)} rows</summary>{inside}</details>"


def _row(cells: Iterable[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{_text(cell)}</{tag}>" for cell in cells) + "</tr>"


def _text(text: str) -> str:
    return escape("".join(letter if letter.isprintable() else " " for letter in text))
