"""What dashboards and rules are made of: plain data, from which files are written.

Queries are PromQL with Grafana's variables in them. `{here}` in a query stands for the selector of
the chosen namespaces, jobs and instances, `{model}` for the same with the chosen models; both
stand inside the braces of a selector, where more may follow after a comma.
"""

from dataclasses import dataclass
from enum import StrEnum

HERE = 'namespace=~"$namespace",job=~"$job",instance=~"$instance"'
"""Picks what the variables at the top of every dashboard choose."""

MODEL = f'{HERE},model=~"$model"'
"""The same, and the models."""


class Unit(StrEnum):
    """Grafana's names for units."""

    NUMBER = "short"
    PER_SECOND = "reqps"
    OPS_PER_SECOND = "ops"
    ROWS_PER_SECOND = "rowsps"
    SECONDS = "s"
    BYTES = "bytes"
    BYTES_PER_SECOND = "binBps"
    RATIO = "percentunit"
    WATTS = "watt"
    CELSIUS = "celsius"


class View(StrEnum):
    """How a panel shows its figures, by Grafana's names."""

    LINES = "timeseries"
    NUMBER = "stat"
    HEAT = "heatmap"


@dataclass(frozen=True, slots=True)
class Query:
    """One query; `legend` names its series, with labels in double braces."""

    expr: str
    legend: str = ""

    @property
    def promql(self) -> str:
        """The query with its selectors, Grafana's variables still in it."""
        return self.expr.replace("{here}", HERE).replace("{model}", MODEL)


@dataclass(frozen=True, slots=True)
class Threshold:
    """From `value` on a figure is shown in that colour."""

    value: float
    colour: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `description` says what it shows and what to think of it.

    `width` is in columns of 24. `only` says why there is nothing to show where it has a reason,
    such as a GPU that is not there; "" where there are data on every machine. `stacked`: the
    series add up.
    """

    title: str
    description: str
    unit: Unit
    queries: tuple[Query, ...]
    width: int = 8
    view: View = View.LINES
    thresholds: tuple[Threshold, ...] = ()
    most: float | None = None
    stacked: bool = False
    exemplars: bool = False
    only: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard; `uid` is its address in Grafana. `models`: it has the variable for them."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    models: bool = False

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All panels, in order."""
        return tuple(panel for row in self.rows for panel in row.panels)


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording rule."""

    record: str
    expr: str


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule. Its runbook has the heading of its name.

    `lasts` is how long the expression must hold first. `severity`: page (somebody must look
    now) or ticket (somebody must look on a working day). `summary` and `description` may have
    Prometheus's templates in them.
    """

    name: str
    expr: str
    lasts: str
    severity: str
    summary: str
    description: str


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated one after the other, every `interval`."""

    name: str
    rules: tuple[Recording | Alert, ...]
    interval: str = ""
