"""What the autoscalers ask Prometheus: the metrics exist, and the answers are right.

promtool evaluates the queries over series that are made up here.
"""

import re
import subprocess

import pytest
import yaml

from tests.helm.chart import CASES, CHART, MONITORING, one
from trtserve.metrics import METRICS, Kind

PODS = ("production-trtserve-7d9f-abcde", "production-trtserve-7d9f-fghij")
OURS = 'namespace="vision",pod=~"' + "|".join(PODS) + '"'
STRANGER = "other-trtserve-7d9f-abcde"

EXPOSED = {
    f"trtserve_{name}{end}" for name, metric in METRICS.items()
    for end in {Kind.HISTOGRAM: ("_sum", "_count", "_bucket"), Kind.COUNTER: ("_total",)}.get(
        metric.kind, ("",)
    )
} | {"trtserve_ready"}


def adapter_queries():
    """What the adapter asks for each metric of pods."""
    rules = yaml.safe_load((CHART / "files" / "adapter-rules.yaml").read_text())
    return {
        rule["name"]["as"]: rule["metricsQuery"]
        .replace("<<.LabelMatchers>>", OURS)
        .replace("<<.GroupBy>>", "pod")
        for rule in rules["rules"]["custom"]
    }


def keda_queries(helm):
    spec = one(helm.render(CASES["keda"]), "ScaledObject")["spec"]
    return [trigger["metadata"]["query"] for trigger in spec["triggers"]]


def evaluate(promtool, folder, query, series, samples):
    """Hold a query's answer, five minutes in, against what is expected."""
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "15s", "tests": [{
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{
            "expr": query, "eval_time": "5m",
            "exp_samples": [
                {"labels": labels, "value": value} for labels, value in samples.items()
            ],
        }],
    }]}))
    done = subprocess.run(
        [promtool, "test", "rules", str(file)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def sample(metric, pod, model="det"):
    labels = f'namespace="vision",pod="{pod}"'
    more = "" if metric == "trtserve_ready" else f',model="{model}",version="1"'
    return f"{metric}{{{labels}{more}}}"


@pytest.fixture
def series():
    """One pod with two models, 3 and 2 requests waiting, 100 requests in a second each, of which
    those of `det` wait 50 ms and those of `cls` 10 ms; one that had no request yet; a stranger."""
    busy, idle = PODS
    made = {sample("trtserve_ready", pod): "1x40" for pod in (busy, idle, STRANGER)}
    for model, waiting, seconds in (("det", 3, 0.05), ("cls", 2, 0.01)):
        made[sample("trtserve_queued_requests", busy, model)] = f"{waiting}x40"
        count, total = 1500, 1500 * seconds
        made[sample("trtserve_queue_duration_seconds_count", busy, model)] = f"0+{count}x40"
        made[sample("trtserve_queue_duration_seconds_sum", busy, model)] = f"0+{total:g}x40"
    made[sample("trtserve_queued_requests", STRANGER)] = "1000x40"
    return made


def test_the_adapter_tells_each_pod_s_waiting_requests_and_queue_time(promtool, tmp_path, series):
    busy, idle = (f'{{pod="{pod}"}}' for pod in PODS)
    queries = adapter_queries()
    waiting, queue_time = (
        queries[name] for name in ("trtserve_waiting_requests", "trtserve_queue_milliseconds")
    )
    evaluate(promtool, tmp_path, waiting, series, {busy: 5, idle: 0})
    evaluate(promtool, tmp_path, queue_time, series, {busy: 30, idle: 0})


def test_the_adapter_tells_zero_when_nothing_comes_any_more(promtool, tmp_path):
    pod = PODS[0]
    quiet = {
        sample("trtserve_ready", pod): "1x40",
        sample("trtserve_queue_duration_seconds_count", pod): "900x40",
        sample("trtserve_queue_duration_seconds_sum", pod): "9x40",
    }
    query = adapter_queries()["trtserve_queue_milliseconds"]
    evaluate(promtool, tmp_path, query, quiet, {f'{{pod="{pod}"}}': 0})


def test_the_autoscaler_asks_for_what_the_adapter_tells(helm):
    rendered = helm.render(CASES["hpa"])
    metrics = one(rendered, "HorizontalPodAutoscaler")["spec"]["metrics"]
    names = {metric["pods"]["metric"]["name"] for metric in metrics}
    assert names == set(adapter_queries())
    shipped = one(rendered, "ConfigMap", "production-trtserve-adapter-rules")["data"]["values.yaml"]
    rules = yaml.safe_load(shipped)["rules"]["custom"]
    assert {rule["name"]["as"] for rule in rules} == names
    assert "replicas" not in one(rendered, "Deployment")["spec"]  # an upgrade would reset them
    assert not [
        found for found in helm.render({"autoscaling": {"kind": "hpa", "adapterRules": False}})
        if found["kind"] == "ConfigMap"
    ]


def test_keda_sees_all_pods_of_the_release_and_no_others(helm, promtool, tmp_path, series):
    waiting, queue_time = keda_queries(helm)
    evaluate(promtool, tmp_path, waiting, series, {"{}": 5})
    evaluate(promtool, tmp_path, queue_time, series, {"{}": 30})


def test_keda_sees_zero_where_no_request_came_and_nothing_where_nothing_is_scraped(
    helm, promtool, tmp_path
):
    for query in keda_queries(helm):
        evaluate(promtool, tmp_path, query, {sample("trtserve_ready", PODS[0]): "1x40"}, {"{}": 0})
        evaluate(promtool, tmp_path, query, {"up": "1x40"}, {})


def test_keda_scales_our_deployment(helm):
    rendered = helm.render(CASES["keda"])
    spec = one(rendered, "ScaledObject")["spec"]
    assert spec["scaleTargetRef"]["name"] == one(rendered, "Deployment")["metadata"]["name"]
    assert {trigger["metadata"]["ignoreNullValues"] for trigger in spec["triggers"]} == {"false"}
    assert "replicas" not in one(rendered, "Deployment")["spec"]


def test_the_metrics_are_those_that_we_have(helm):
    for query in [*adapter_queries().values(), *keda_queries(helm)]:
        assert set(re.findall(r"trtserve_\w+(?=\{)", query)) <= EXPOSED


def test_rules_and_dashboards_are_the_files(helm):
    rendered = helm.render({"monitoring": MONITORING})
    rules = one(rendered, "PrometheusRule")["spec"]
    assert rules == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    dashboards = sorted((CHART / "dashboards").glob("*.json"))
    assert dashboards
    shown: dict[str, str] = {}
    for found in rendered:
        if found["metadata"]["labels"].get("grafana_dashboard") == "1":
            shown |= found["data"]
    assert shown == {path.name: path.read_text() for path in dashboards}
