"""Dashboards as the JSON that Grafana imports."""

import json
from typing import Any

from tools.monitoring.model import HERE, Dashboard, Panel, Query, Threshold, Unit, View

SCHEMA = 41
"""Grafana 12's. Older releases read it too."""

TAG = "trtserve"
"""By it dashboards find one another."""

COLUMNS = 24

_HEIGHT = 8

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def text(dashboard: Dashboard) -> str:
    """The file's whole content."""
    return json.dumps(document(dashboard), indent=2, ensure_ascii=False) + "\n"


def document(dashboard: Dashboard) -> dict[str, Any]:
    """A dashboard. It belongs to no Grafana yet: `id` is None."""
    return {
        "id": None,
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": [TAG],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "",
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "annotations": {"list": [_restarts()]},
        "links": [_links()],
        "templating": {"list": _variables(models=dashboard.models)},
        "panels": _panels(dashboard),
    }


def _panels(dashboard: Dashboard) -> list[dict[str, Any]]:
    """All panels with their places: rows one below the other, panels from left to right."""
    placed: list[dict[str, Any]] = []
    top = 0
    for row in dashboard.rows:
        placed.append({
            "id": len(placed) + 1, "type": "row", "title": row.title, "collapsed": False,
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1}, "panels": [],
        })
        top, left = top + 1, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                top, left = top + _HEIGHT, 0
            place = {"x": left, "y": top, "w": panel.width, "h": _HEIGHT}
            placed.append({"id": len(placed) + 1, "gridPos": place, **_panel(panel)})
            left += panel.width
        top += _HEIGHT
    return placed


def _panel(panel: Panel) -> dict[str, Any]:
    description = panel.description + (f"\n\nEmpty where {panel.only}." if panel.only else "")
    return {
        "type": panel.view.value,
        "title": panel.title,
        "description": description,
        "datasource": _SOURCE,
        "targets": [
            _target(panel, query, chr(ord("A") + index))
            for index, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.view](panel),
    }


def _target(panel: Panel, query: Query, name: str) -> dict[str, Any]:
    number = panel.view is View.NUMBER
    return {
        "refId": name,
        "datasource": _SOURCE,
        "editorMode": "code",
        "expr": query.promql,
        "legendFormat": query.legend or "__auto",
        "format": "heatmap" if panel.view is View.HEAT else "time_series",
        "instant": number,
        "range": not number,
        "exemplar": panel.exemplars,
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    found: dict[str, Any] = {
        "unit": panel.unit.value,
        "min": 0,
        "color": {"mode": "thresholds" if panel.view is View.NUMBER else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": _steps(panel.thresholds)},
    }
    if panel.unit is Unit.RATIO and panel.view is View.NUMBER:
        found["decimals"] = 3
    if panel.most is not None:
        found["max"] = panel.most
    if panel.view is View.LINES:
        found["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 25 if panel.stacked else 0,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.thresholds else "off"},
        }
    return found


def _steps(thresholds: tuple[Threshold, ...]) -> list[dict[str, Any]]:
    """Grafana's first step has no value: it reaches down without end."""
    if not thresholds:
        return [{"color": "green", "value": None}]
    return [
        {"color": each.colour, "value": None if index == 0 else each.value}
        for index, each in enumerate(thresholds)
    ]


def _line_options(panel: Panel) -> dict[str, Any]:
    table = len(panel.queries) > 1 or panel.width >= COLUMNS // 2
    return {
        "legend": {
            "displayMode": "table" if table else "list", "placement": "bottom",
            "calcs": ["lastNotNull", "max"] if table else [], "showLegend": True,
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _number_options(panel: Panel) -> dict[str, Any]:
    return {
        "colorMode": "value", "graphMode": "none", "justifyMode": "auto", "textMode": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }


def _heat_options(panel: Panel) -> dict[str, Any]:
    return {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Blues", "steps": 64, "exponent": 0.5},
        "yAxis": {"axisPlacement": "left", "unit": panel.unit.value},
        "tooltip": {"mode": "single", "yHistogram": True},
        "legend": {"show": True},
    }


_OPTIONS = {
    View.LINES: _line_options, View.NUMBER: _number_options, View.HEAT: _heat_options,
}


def _variables(*, models: bool) -> list[dict[str, Any]]:
    """The choices at the top; each offers what the ones before it leave."""
    found = [
        {
            "name": "datasource", "label": "Data source", "type": "datasource",
            "query": "prometheus", "refresh": 1, "hide": 0, "multi": False,
            "includeAll": False, "regex": "", "options": [], "current": {},
        },
        _choice("namespace", "trtserve_ready"),
        _choice("job", 'trtserve_ready{namespace=~"$namespace"}'),
        _choice("instance", 'trtserve_ready{namespace=~"$namespace",job=~"$job"}'),
    ]
    return [*found, _choice("model", f"trtserve_model_state{{{HERE}}}")] if models else found


def _choice(label: str, series: str) -> dict[str, Any]:
    """One of a label's values, or several, or all: also of series that lack the label."""
    query = f"label_values({series}, {label})"
    return {
        "name": label, "label": label.capitalize(), "type": "query", "datasource": _SOURCE,
        "definition": query, "query": {"qryType": 1, "query": query, "refId": label},
        "refresh": 2, "sort": 1, "hide": 0, "multi": True, "includeAll": True, "allValue": ".*",
        "regex": "", "options": [], "skipUrlSync": False,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _links() -> dict[str, Any]:
    """To the other dashboards, with the same choices and the same time."""
    return {
        "type": "dashboards", "title": "trtserve", "tags": [TAG], "asDropdown": False,
        "includeVars": True, "keepTime": True, "targetBlank": False, "icon": "external link",
        "tooltip": "", "url": "",
    }


def _restarts() -> dict[str, Any]:
    """A mark across all panels where a process was restarted."""
    return {
        "name": "Restarts", "enable": True, "hide": False, "iconColor": "orange",
        "datasource": _SOURCE, "titleFormat": "Restart", "textFormat": "{{instance}} {{process}}",
        "expr": f"changes(trtserve_worker_restarts_total{{{HERE}}}[1m]) > 0", "step": "60s",
    }
