"""Alerts fire when they should and are quiet when they should be: promtool runs the rules."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.monitoring.alert_cases import CASES, Case, Series
from tools.monitoring import alerts

RULES = Path(__file__).parents[2] / "helm/trtserve/files/alerts.yaml"

GROUPS = yaml.load(RULES.read_text(), yaml.CSafeLoader)["groups"]

SEVERITY = {alert.name: alert.severity for alert in alerts.alerts()}


def promtool_test(case: Case, series: Series, *, fires: bool) -> dict:
    """One test in promtool's words."""
    (rule,) = (
        rule for group in GROUPS for rule in group["rules"] if rule.get("alert") == case.alert
    )
    expected = {
        "exp_labels": {**case.labels, "severity": SEVERITY[case.alert]},
        "exp_annotations": {
            "summary": case.summary, "description": case.description,
            "runbook_url": rule["annotations"]["runbook_url"],
        },
    }
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{
            "eval_time": case.at, "alertname": case.alert,
            "exp_alerts": [expected] if fires else [],
        }],
    }


def run(promtool: str, folder: Path, case: Case, test: dict) -> subprocess.CompletedProcess[str]:
    path = folder / "test.yaml"
    path.write_text(json.dumps({
        "rule_files": [str(RULES)], "evaluation_interval": case.every, "tests": [test],
        "group_eval_order": [group["name"] for group in GROUPS],  # else it is by chance
    }))
    return subprocess.run(
        [promtool, "test", "rules", str(path)], capture_output=True, text=True, check=False
    )


def identity(case: Case) -> str:
    return f"{case.alert} at {case.at}"


@pytest.mark.parametrize("case", CASES, ids=identity)
def test_an_alert_fires_and_says_what_is_wrong(promtool, tmp_path, case):
    done = run(promtool, tmp_path, case, promtool_test(case, case.series, fires=True))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("case", "why"),
    [pytest.param(case, why, id=f"{case.alert}: {why}") for case in CASES for why in case.quiet],
)
def test_an_alert_is_quiet(promtool, tmp_path, case, why):
    done = run(promtool, tmp_path, case, promtool_test(case, case.quiet[why], fires=False))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_both_ways():
    assert {case.alert for case in CASES} == SEVERITY.keys()
    assert {case.alert for case in CASES if case.quiet} == SEVERITY.keys()


def test_promtool_would_notice(promtool, tmp_path):
    case = CASES[0]
    done = run(promtool, tmp_path, case, promtool_test(case, case.series, fires=False))
    assert done.returncode == 1
