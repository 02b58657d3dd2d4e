"""/metrics, judged by Prometheus's own promtool and its own parsers."""

import subprocess

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.supervisor.snapshots import NASTY, TRACE, snapshot
from trtserve.metrics import METRICS
from trtserve.supervisor.exposition import NOT_EXPOSED, Exposition
from trtserve.supervisor.host import CpuMeter, memory, resident_bytes

OPEN_METRICS = "application/openmetrics-text; version=1.0.0, text/plain;version=0.0.4;q=0.5"


def scrape(accept="text/plain"):
    content_type, body = Exposition(supervisor_pid=1).encode(snapshot(), accept)
    return content_type, body.decode()


@pytest.fixture(scope="module")
def text():
    return scrape()[1]


def samples(text, parse=parse_text):
    """Each sample's value by name and labels; the families' types by name."""
    families = list(parse(text))
    values = {
        # This parser puts _total behind every counter's name that has none.
        (sample.name.removesuffix("_total") if sample.name.startswith("nv_") else sample.name,
         tuple(sorted(sample.labels.items()))): sample.value
        for family in families for sample in family.samples
    }
    return values, {family.name: family.type for family in families}


def test_promtool_has_nothing_to_say_about_our_names(text, promtool):
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True
    )
    # 3: it parses, but a name is not to promtool's taste. Triton chose its names, not we.
    assert done.returncode == 3, done.stdout + done.stderr
    complaints = (done.stdout + done.stderr).splitlines()
    assert complaints
    assert [line for line in complaints if not line.startswith("nv_")] == []


def test_every_metric_of_the_table_is_there(text):
    _, types = samples(text)
    for metric in METRICS.values():
        if metric.name not in NOT_EXPOSED:
            assert types[f"trtserve_{metric.name}"] == metric.kind
    assert not [name for name in types if "_sums" in name]


def test_histograms_are_cumulative(text):
    values, _ = samples(text)
    version = (("model", "toy"), ("version", "1"))
    counts = {
        dict(labels)["le"]: value for (name, labels), value in values.items()
        if name == "trtserve_batch_rows_bucket"
    }
    assert (counts["1.0"], counts["2.0"], counts["256.0"], counts["+Inf"]) == (1, 3, 3, 7)
    assert values["trtserve_batch_rows_count", version] == 7
    assert values["trtserve_batch_rows_sum", version] == 12.5


def test_what_the_supervisor_knows(text):
    values, _ = samples(text)
    assert values["trtserve_ready", ()] == 0
    assert values["trtserve_worker_restarts_total", (("process", "worker cpu"),)] == 2
    resident = {
        dict(labels)["process"] for name, labels in values
        if name == "trtserve_process_resident_memory_bytes"
    }
    assert resident == {"supervisor", "worker cpu"}
    states = {
        (dict(labels)["model"], dict(labels)["state"]): value
        for (name, labels), value in values.items() if name == "trtserve_model_state"
    }
    assert states == {
        ("toy", "READY"): 1, ("toy", "LOADING"): 0, ("toy", "UNAVAILABLE"): 0,
        (NASTY, "READY"): 0, (NASTY, "LOADING"): 0, (NASTY, "UNAVAILABLE"): 1,
    }
    loaded = values["trtserve_model_load_duration_seconds",
                    (("model", "toy"), ("version", "1"))]
    assert loaded == 0.25


def test_tritons_counters_have_their_names_types_and_units(text):
    version = '{model="toy",version="1"}'
    for line in (
        "# TYPE nv_inference_request_success counter",
        "# TYPE nv_inference_compute_input_duration_us counter",
        "# TYPE nv_inference_request_failure counter",
        "# TYPE nv_inference_pending_request_count gauge",
        f"nv_inference_request_success{version} 5.0",
        f"nv_inference_exec_count{version} 2.0",
        f"nv_inference_compute_input_duration_us{version} 7.0",
        f"nv_inference_queue_duration_us{version} 0.0",
        f"nv_inference_pending_request_count{version} 1.5",
        f"nv_model_load_duration_secs{version} 0.25",
    ):
        assert line in text.splitlines()
    assert "untyped" not in text
    values, _ = samples(text)
    failures = {
        (dict(labels)["model"], dict(labels)["reason"]): value
        for (name, labels), value in values.items() if name == "nv_inference_request_failure"
    }
    assert failures == {
        ("toy", "REJECTED"): 0, ("toy", "CANCELED"): 1, ("toy", "BACKEND"): 0,
        ("toy", "OTHER"): 7, (NASTY, "REJECTED"): 2,
    }


def test_open_metrics_for_who_asks_for_it(text):
    content_type, body = scrape(OPEN_METRICS)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    opened, types = samples(body, parse_open)
    assert types["nv_inference_count"] == "unknown"

    def lasting(values):  # what does not change from scrape to scrape
        return {
            key: value for key, value in values.items()
            if "memory" not in key[0] and "cpu_utilization" not in key[0]
        }

    assert lasting(opened) == lasting(samples(text)[0])


def test_exemplars_come_with_open_metrics_only(text):
    """They lie inside their buckets, which the parser checks."""
    _, body = scrape(OPEN_METRICS)
    found = {
        (sample.name, sample.labels["le"]): sample.exemplar
        for family in parse_open(body) for sample in family.samples if sample.exemplar is not None
    }
    assert set(found) == {
        ("trtserve_request_duration_seconds_bucket", "0.0002"),
        ("trtserve_request_duration_seconds_bucket", "+Inf"),
    }
    exemplar = found["trtserve_request_duration_seconds_bucket", "0.0002"]
    assert exemplar.labels == {"trace_id": TRACE}
    assert (exemplar.value, float(exemplar.timestamp)) == (0.00015, 1.7e9)
    assert TRACE not in text


def test_what_the_machine_says():
    total, used = memory()
    assert 0 < used < total
    assert 0 <= CpuMeter().share() <= 1
    assert (resident_bytes(1) or 0) > 0
    assert resident_bytes(2**30) is None


def test_what_loading_took_is_told_of_versions_that_serve(text):
    values, types = samples(text)
    labels = (("device", "cpu"), ("model", "toy"), ("version", "1"))
    assert values["trtserve_model_memory_bytes", labels] == 8 << 20
    assert values["trtserve_model_memory_peak_bytes", labels] == 24 << 20
    assert types["trtserve_model_memory_bytes"] == "gauge"
    assert sum(name == "trtserve_model_memory_bytes" for name, _ in values) == 1
