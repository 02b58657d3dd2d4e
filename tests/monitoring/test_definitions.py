"""Dashboards and rules as they are defined, and the files that are made of them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.supervisor.snapshots import snapshot
from tools.monitoring import alerts, grafana, recordings
from tools.monitoring.files import dashboards, files
from tools.monitoring.model import Recording, View
from tools.monitoring.objectives import CLIENT_FAULTS, Objectives
from trtserve.errors import request_error_classes
from trtserve.metrics import SERVER_FAULTS
from trtserve.supervisor.exposition import Exposition

ROOT = Path(__file__).parents[2]
OURS = Objectives()
DASHBOARDS = dashboards(OURS)
PANELS = [
    pytest.param(panel, id=f"{dashboard.uid}: {panel.title}")
    for dashboard in DASHBOARDS for panel in dashboard.panels
]
RULES = [
    rule for group in (*recordings.groups(OURS), *alerts.GROUPS) for rule in group.rules
]


def exposed():
    """The name of every sample that a scrape may get."""
    _, body = Exposition(1).encode(snapshot(), "")
    return {
        re.split(r"[ {]", line)[0] for line in body.decode().splitlines()
        if line and not line.startswith("#")
    }


EXPOSED = exposed()
RECORDED = {rule.record for rule in RULES if isinstance(rule, Recording)}


def names(expr):
    """The metrics that an expression asks for."""
    return set(re.findall(r"\b(?:trtserve|nv)_\w+|\btrtserve:[\w:]+", expr))


@pytest.mark.parametrize("path", files(OURS))
def test_the_files_in_the_chart_are_up_to_date(path):
    assert (ROOT / path).read_text() == files(OURS)[path], "run `make dashboards`"


def test_nothing_else_lies_beside_them():
    made = {path for path in files(OURS) if "/dashboards/" in path}
    there = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "helm/trtserve/dashboards").glob("*.json")
    }
    assert there == made


def test_other_objectives_make_other_files(tmp_path):
    done = subprocess.run(
        [sys.executable, "tools/make_dashboards.py", "--check"], cwd=ROOT, check=False,
        capture_output=True, text=True, env={"OBJECTIVE_AVAILABILITY": "0.95"},
    )
    assert done.returncode == 1
    assert "alerts.yaml" in done.stderr
    assert "vector(0.95)" in files(Objectives(availability=0.95))["helm/trtserve/files/alerts.yaml"]


@pytest.mark.parametrize(
    ("values", "message"),
    [({"latency_seconds": 0.3}, "no edge of the histogram"), ({"availability": 1.5}, "no share")],
)
def test_objectives_that_can_not_be_measured_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Objectives(**values)


def test_every_outcome_counts_for_somebody():
    assert {*SERVER_FAULTS, *CLIENT_FAULTS} == request_error_classes().keys()
    assert not {*SERVER_FAULTS} & {*CLIENT_FAULTS}


# --- panels ------------------------------------------------------------------------------


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_explains_itself_and_asks_for_what_there_is(panel):
    assert panel.title
    assert len(panel.description) > 15
    assert panel.description.rstrip().endswith(".")
    assert panel.queries
    for query in panel.queries:
        found = names(query.promql)
        assert found or "ALERTS" in query.expr
        assert found <= EXPOSED | RECORDED
        assert "{here}" not in query.promql
        assert "{model}" not in query.promql
        assert query.legend or len(panel.queries) == 1


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_a_dashboard_uses_only_variables_that_it_has(dashboard):
    document = grafana.document(dashboard)
    has = {variable["name"] for variable in document["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(document)))
    assert used - has <= {"__rate_interval", "__range", "__all"}
    assert {"datasource", "namespace", "job", "instance"} <= has
    assert ("model" in has) == dashboard.models


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_panels_have_places_of_their_own(dashboard):
    panels = grafana.document(dashboard)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= grafana.COLUMNS
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells


def test_dashboards_find_one_another():
    uids = [dashboard.uid for dashboard in DASHBOARDS]
    assert len(set(uids)) == 4
    for dashboard in DASHBOARDS:
        document = grafana.document(dashboard)
        assert len(dashboard.uid) <= 40  # Grafana's limit
        (link,) = document["links"]
        assert link["includeVars"]
        assert link["keepTime"]
        assert set(link["tags"]) <= set(document["tags"])


def test_figures_of_one_number_have_colours():
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels:
            values = [threshold.value for threshold in panel.thresholds]
            assert values == sorted(values)
            assert panel.view is not View.NUMBER or len(panel.queries) == 1


# --- rules -------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: getattr(rule, "name", "") or rule.record)
def test_a_rule_asks_for_what_there_is(rule):
    assert names(rule.expr) <= EXPOSED | RECORDED


def test_promtool_finds_nothing_wrong_with_the_rules(promtool):
    path = ROOT / "helm/trtserve/files/alerts.yaml"
    done = subprocess.run(
        [promtool, "check", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


@pytest.mark.parametrize("alert", alerts.alerts(), ids=lambda alert: alert.name)
def test_an_alert_has_its_runbook(alert):
    rules = yaml.safe_load((ROOT / "helm/trtserve/files/alerts.yaml").read_text())
    (written,) = (
        rule for group in rules["groups"] for rule in group["rules"]
        if rule.get("alert") == alert.name
    )
    page, _, anchor = written["annotations"]["runbook_url"].partition("#")
    assert anchor == alert.name.lower()
    text = (ROOT / page).read_text()
    section = text.partition(f"### {alert.name}\n")[2].partition("\n##")[0]
    for part in ("**Means.**", "**Causes.**", "**Look at.**", "**Do.**"):
        assert part in section, part


def test_no_runbook_is_for_an_alert_that_is_gone():
    text = (ROOT / "docs/operations.md").read_text()
    runbooks = re.findall(r"^### (Trtserve\w+)$", text, re.M)
    assert runbooks == [alert.name for alert in alerts.alerts()]
