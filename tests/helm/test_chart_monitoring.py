"""The chart's rules and dashboards are the made ones, with the operator's objectives in them."""

import json

import pytest

from tests.helm.chart import CASES, CHART, MONITORING, Helm, one
from tools.monitoring import rules_file
from tools.monitoring.files import dashboards, files
from tools.monitoring.objectives import Objectives


def rendered(helm: Helm, objectives: dict) -> tuple[dict, dict]:
    """The rules, and each dashboard by the name of its file."""
    monitoring = {**MONITORING, "rules": {"enabled": True, "objectives": objectives}}
    objects = helm.render({**CASES["default"], "monitoring": monitoring})
    found: dict[str, dict] = {}
    for each in objects:
        if each["kind"] == "ConfigMap":
            found.update(
                (name, json.loads(text)) for name, text in each["data"].items()
                if name.startswith("trtserve-") and name.endswith(".json")
            )
    return one(objects, "PrometheusRule")["spec"], found


@pytest.mark.parametrize(
    "objectives",
    [Objectives(), Objectives(0.95, 0.9, 1.0), Objectives(0.99, 0.999, 0.0001)],
    ids=["default", "looser", "other"],
)
def test_the_rules_and_dashboards_have_the_objectives(helm, objectives):
    rules, shown = rendered(helm, {
        "availability": objectives.availability, "latency": objectives.latency,
        "latencySeconds": objectives.latency_seconds,
    })
    assert rules == rules_file.document(objectives)
    made = {dashboard.uid: dashboard for dashboard in dashboards(objectives)}
    assert {name.removesuffix(".json") for name in shown} == made.keys()
    edges = [
        target["expr"] for panel in shown["trtserve-overview.json"]["panels"]
        for target in panel.get("targets", []) if 'le="' in target["expr"]
    ]
    assert edges
    assert all(f'le="{objectives.edge}"' in expr for expr in edges)


def test_what_the_chart_replaces_is_in_the_files_once():
    made = files(Objectives())
    rules = made["helm/trtserve/files/alerts.yaml"]
    for mark in ("vector(0.999)", "vector(0.99)", 'le="0.5"'):
        assert rules.count(mark) == 1
    text = "".join(content for path, content in made.items() if "/dashboards/" in path)
    assert text.count(r"le=\"0.5\"") == 1
    assert "vector(0.99" not in text


@pytest.mark.parametrize("wrong", [{"latencySeconds": 0.3}, {"availability": 1.5}])
def test_objectives_that_can_not_be_measured_are_refused(helm, wrong):
    values = {**CASES["default"], "monitoring": {"rules": {"objectives": wrong}}}
    done = helm.run("template", "x", str(CHART), "--kube-version", "1.31.0", values=values)
    assert done.returncode != 0
    assert f"monitoring.rules.objectives.{next(iter(wrong))}" in done.stderr
