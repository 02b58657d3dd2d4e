"""Rules as the file that Prometheus reads."""

from typing import Any

import yaml

from tools.monitoring import alerts, recordings
from tools.monitoring.model import Alert, Group, Recording
from tools.monitoring.objectives import Objectives

RUNBOOKS = "docs/operations.md"

_HEAD = """\
# Made by `make dashboards` from tools/monitoring: do not edit. Other objectives:
# make dashboards OBJECTIVE_AVAILABILITY=0.995 OBJECTIVE_LATENCY=0.95 OBJECTIVE_LATENCY_SECONDS=0.25
"""


def text(objectives: Objectives) -> str:
    """The whole file."""
    dumped = yaml.dump(
        document(objectives), Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True
    )
    return _HEAD + str(dumped)


def document(objectives: Objectives) -> dict[str, Any]:
    """What is in it."""
    groups = (*recordings.groups(objectives), *alerts.GROUPS)
    return {"groups": [_group(group) for group in groups]}


def _group(group: Group) -> dict[str, Any]:
    found: dict[str, Any] = {"name": group.name}
    if group.interval:
        found["interval"] = group.interval
    return {**found, "rules": [_rule(rule) for rule in group.rules]}


def _rule(rule: Recording | Alert) -> dict[str, Any]:
    if isinstance(rule, Recording):
        return {"record": rule.record, "expr": rule.expr}
    return {
        "alert": rule.name,
        "expr": rule.expr,
        "for": rule.lasts,
        "labels": {"severity": rule.severity},
        "annotations": {
            "summary": rule.summary,
            "description": rule.description,
            "runbook_url": f"{RUNBOOKS}#{rule.name.lower()}",
        },
    }


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such."""


def _string(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _string)
