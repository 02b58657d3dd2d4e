"""Every query of every panel and every rule, against the real daemon and a real Prometheus."""

import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.e2e.conftest import fill_house
from tests.e2e.daemon_process import Daemon, running
from tests.monitoring.site import Prometheus, filled, prometheus
from tests.security.authority import Authority
from tools.monitoring import alerts, grafana, recordings
from tools.monitoring.device import GPU, LOST, NVML
from tools.monitoring.files import dashboards
from tools.monitoring.model import Recording
from tools.monitoring.objectives import Objectives
from trtserve.client import Client, Security
from trtserve.client.errors import InferenceError

pytestmark = pytest.mark.e2e

RULES = Path(__file__).parents[2] / "helm/trtserve/files/alerts.yaml"

DASHBOARDS = dashboards(Objectives())
QUERIES = [
    pytest.param(query.promql, id=f"{dashboard.uid}: {panel.title}: {query.legend}")
    for dashboard in DASHBOARDS for panel in dashboard.panels
    if panel.only not in (GPU, NVML, LOST)
    for query in panel.queries
]
EMPTY_HERE = {
    ("Device memory", GPU), ("Scratch memory", GPU), ("Devices lost", LOST),
    ("Utilisation", NVML), ("Power", NVML), ("Temperature", NVML),
    ("Clocks held down", NVML), ("Memory errors", NVML), ("Errors of the driver", NVML),
}
"""The panels without data where there is no GPU, and none was lost. All others have some here:
TLS is served, and control calls are refused."""

CLIENTS = 4


class Site(NamedTuple):
    """What the tests look at."""

    daemon: Daemon
    prometheus: Prometheus


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, prometheus_program: str) -> Iterator[Site]:
    """A daemon under load, and a Prometheus that knows it by two addresses, as two instances."""
    folder = tmp_path_factory.mktemp("site")
    fill_house(folder / "models")
    over = threading.Event()

    authority = Authority(folder)
    certificate, key = authority.server()

    def ask(address: str) -> None:
        small, large = (np.zeros((1, side, side), np.float32) for side in (8, 16))
        security = Security(ca=authority.ca)
        with Client(address, retry=False, security=security) as client:
            while not over.wait(0.01):
                client.infer("plus", {"x": np.zeros((2, 4), np.float32)})
                for x in (small, large):
                    client.infer("sized", {"x": x})
                client.infer_many([("half", {"x": np.zeros((1, 3), np.float16)})] * 8)
                with suppress(InferenceError):  # an index out of range: the engine fails
                    client.infer("look_up", {"x": np.array([[99]])})
                with suppress(InferenceError):
                    client.infer("nobody", {"x": small})
                with suppress(InferenceError):  # not over TCP
                    client.unload("plus")

    flags = ("--tls-certificate", certificate, "--tls-key", key)
    with running(folder / "models", folder, *flags) as daemon:
        threads = [threading.Thread(target=ask, args=(daemon.grpc,)) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        _, _, port = str(daemon.ready["http"]).rpartition(":")
        targets = [f"{host}:{port}" for host in ("127.0.0.1", "localhost")]
        try:
            with prometheus(prometheus_program, RULES, targets, folder) as server:
                yield Site(daemon, server)
        finally:
            over.set()
            for thread in threads:
                thread.join()


@pytest.fixture(scope="module")
def prometheus_program(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("prometheus"))


@pytest.mark.parametrize("promql", QUERIES)
def test_a_panel_s_query_returns_data(site, promql):
    query = filled(promql)
    site.daemon.until(lambda: site.prometheus.values(query), query)


def test_the_panels_without_data_are_known():
    found = {
        (panel.title, panel.only) for dashboard in DASHBOARDS for panel in dashboard.panels
        if panel.only in (GPU, NVML, LOST)
    }
    assert found == EMPTY_HERE


def test_panels_without_data_ask_what_prometheus_understands(site):
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels:
            if panel.only:
                for query in panel.queries:
                    assert site.prometheus.ask("query", query=filled(query.promql)) is not None


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_variables_have_something_to_choose(site, dashboard):
    for variable in grafana.document(dashboard)["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
            assert match
            series, label = filled(match[1]), match[2]
            counted = f'count by ({label}) ({series.replace("}", f",{label}!=``}}")})'
            if "{" not in series:
                counted = f'count by ({label}) ({series}{{{label}!=""}})'
            site.daemon.until(lambda: site.prometheus.values(counted), counted)  # noqa: B023


def documented():
    """Each query of the documentation."""
    text = (RULES.parents[3] / "docs/operations.md").read_text()
    for block in re.findall(r"^```promql\n(.*?)^```$", text, re.M | re.S):
        for part in block.split("\n\n"):
            yield "\n".join(line for line in part.splitlines() if not line.startswith("#"))


@pytest.mark.parametrize("query", list(documented()))
def test_the_documentation_s_queries_are_understood(site, query):
    assert site.prometheus.ask("query", query=query) is not None


def test_marks_for_restarts_are_understood(site):
    (mark,) = grafana.document(DASHBOARDS[0])["annotations"]["list"]
    assert site.prometheus.ask("query", query=filled(mark["expr"])) is not None


@pytest.mark.parametrize(
    "record",
    [
        rule.record for group in recordings.groups(Objectives()) for rule in group.rules
        if isinstance(rule, Recording)
    ],
)
def test_a_recording_rule_records(site, record):
    site.daemon.until(lambda: site.prometheus.values(record), record)


def test_rules_are_evaluated_without_an_error(site):
    def evaluated():
        data = site.prometheus.ask("rules")
        rules = [rule for group in data["groups"] for rule in group["rules"]] if data else []
        return rules if all(rule["health"] != "unknown" for rule in rules) else []

    rules = site.daemon.until(evaluated, "the rules' first evaluation")
    assert {rule["lastError"] for rule in rules if "lastError" in rule} <= {""}
    assert {rule["health"] for rule in rules} == {"ok"}
    assert {rule["name"] for rule in rules if rule["type"] == "alerting"} == {
        alert.name for alert in alerts.alerts()
    }


def test_the_engine_s_failures_burn_the_budget(site):
    burning = 'trtserve:failed:ratio_5m{model="look_up"}'
    values = site.daemon.until(lambda: site.prometheus.values(burning), burning)
    assert values == [pytest.approx(1)]
    fine = site.prometheus.values('trtserve:failed:ratio_5m{model="plus"}')
    assert fine == [0]
