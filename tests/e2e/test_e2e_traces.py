"""Traces of the real daemon at a collector, exemplars in a real Prometheus, and lines about
requests that fail."""

import json
import socket
import urllib.parse
import urllib.request

import grpc
import numpy as np
import pytest

from tests.e2e.calls import infer, plus_request, stream
from tests.e2e.daemon_process import Daemon
from tests.e2e.repositories import add_plus
from tests.e2e.test_e2e_prometheus import scraping
from tests.frontend.collector import attributes, collecting
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.proto import trtserve_pb2 as v1

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331"
GOOD = plus_request(np.zeros((2, 4), np.float32), "good")
BAD = plus_request(np.zeros((2, 4, 5), np.float32))


def traced(flags="01", **more):
    return (("traceparent", f"{PARENT}-{flags}"), *more.items())


@pytest.fixture
def collector():
    with collecting() as collector:
        yield collector


@pytest.fixture
def daemon(collector, start, tmp_path):  # in this order: the daemon goes first
    add_plus(tmp_path / "models")
    # Of requests without a parent none is traced.
    return start("--otlp-endpoint", collector.address, "--trace-sample-ratio", "0")


def test_every_kind_of_call_is_a_span_below_the_callers(daemon, collector):
    batch = v1.InferBatchRequest(requests=[pb.ModelInferRequest.FromString(GOOD)] * 3)
    with grpc.insecure_channel(daemon.grpc) as channel:
        infer(channel)(GOOD, metadata=traced())
        infer(channel)(GOOD, metadata=traced("00"))  # the caller does not record it
        infer(channel)(GOOD)
        assert len(list(stream(channel)(iter([GOOD, GOOD]), metadata=traced()))) == 2
        channel.unary_unary("/trtserve.v1.InferenceService/InferBatch")(
            batch.SerializeToString(), metadata=traced()
        )
        with pytest.raises(grpc.RpcError):
            infer(channel)(BAD, metadata=traced(**{"x-request-id": "theirs"}))
    servers = collector.wait(7)
    assert len(servers) == 7
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert {span.parent_span_id.hex() for span in servers} == {PARENT[-16:]}
    methods = sorted(attributes(span)["rpc.method"] for span in servers)
    assert methods == ["InferBatch"] * 3 + ["ModelInfer"] * 2 + ["ModelStreamInfer"] * 2
    for span in servers:
        found = attributes(span)
        children = collector.children(span)
        if found["trtserve.outcome"] == "invalid":
            assert found["trtserve.request_id"] == "theirs"
            assert set(children) == {"admission"}
            continue
        assert found["trtserve.request_id"] == "good"
        assert (found["trtserve.model"], found["trtserve.worker"]) == ("plus", "worker cpu")
        assert {"admission", "queue", "compute", "answer"} <= set(children)
        assert len(span.links) <= found["trtserve.batch.requests"] - 1
        ends = [span.start_time_unix_nano]
        for name in ("admission", "queue", "compute", "answer"):
            assert ends[-1] <= children[name].start_time_unix_nano
            ends.append(children[name].end_time_unix_nano)
        assert ends == sorted(ends)
        assert ends[-1] == span.end_time_unix_nano
    daemon.until_metric(7, "trtserve_traces_total", outcome="sent")
    assert daemon.metric("trtserve_traces_total", outcome="dropped") == 0


def test_a_real_prometheus_keeps_the_exemplars(daemon, tmp_path, prometheus):
    with (
        grpc.insecure_channel(daemon.grpc) as channel,
        scraping(
            prometheus, str(daemon.ready["http"]), tmp_path, "--enable-feature=exemplar-storage"
        ) as address,
    ):
        call = infer(channel)

        def kept(name):
            call(GOOD, metadata=traced())
            query = urllib.parse.urlencode({"query": name, "start": 0, "end": 4e9})
            try:
                with urllib.request.urlopen(
                    f"http://{address}/api/v1/query_exemplars?{query}", timeout=5
                ) as answer:
                    found = json.load(answer)["data"]
            except OSError:  # it is starting
                return set()
            return {
                exemplar["labels"]["trace_id"]
                for series in found for exemplar in series["exemplars"]
            }

        for stage in ("request", "queue", "compute"):
            name = f"trtserve_{stage}_duration_seconds_bucket"
            assert daemon.until(lambda name=name: kept(name), name) == {TRACE}


def test_a_dead_collector_costs_one_warning_and_nothing_else(start, tmp_path):
    add_plus(tmp_path / "models")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    daemon = start("--otlp-endpoint", address, "--trace-sample-ratio", "1")
    with grpc.insecure_channel(daemon.grpc) as channel:
        for _ in range(200):
            assert infer(channel)(GOOD).id == "good"
        daemon.until(lambda: daemon.metric("trtserve_traces_total", outcome="dropped"), "drops")
        for _ in range(50):
            assert infer(channel)(GOOD).id == "good"
    warnings = [line for line in daemon.log.splitlines() if "WARNING" in line]
    assert len(warnings) == 1, daemon.log
    assert f"traces can not be sent to {address}" in warnings[0]


def test_without_the_packages_the_daemon_says_what_to_install(tmp_path):
    add_plus(tmp_path / "models")
    broken = tmp_path / "path" / "opentelemetry"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('not here')")
    daemon = Daemon(
        tmp_path / "models", tmp_path, "--otlp-endpoint", "http://localhost:4318",
        environment={"PYTHONPATH": str(broken.parent)},
    )
    try:
        assert daemon.end() == 1
    finally:
        daemon.close()
    assert "OpenTelemetry's exporter is not installed (not here)" in daemon.log
    assert "pip install 'trtserve[otel]'" in daemon.log


def test_failed_requests_are_lines_with_fields_at_a_bounded_rate(start, tmp_path):
    add_plus(tmp_path / "models")
    daemon = start("--log-format", "json")
    with grpc.insecure_channel(daemon.grpc) as channel:
        for number in range(100):
            message = pb.ModelInferRequest.FromString(BAD)
            message.id = f"{number}\n{{}}"
            with pytest.raises(grpc.RpcError):
                infer(channel)(message.SerializeToString())
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/inference.GRPCInferenceService/ModelMetadata")(
                pb.ModelMetadataRequest(name="none").SerializeToString(),
                metadata=(("x-request-id", "look"),),
            )

    def told():
        lines = [json.loads(line) for line in daemon.log.splitlines() if line.startswith("{")]
        found = [line for line in lines if line.get("outcome") == "invalid"]
        held = sum(line.get("suppressed", 0) for line in found)
        own = [line for line in found if "request_id" in line]
        return (own, held, lines) if len(own) + held == 100 else None

    own, held, lines = daemon.until(told, "a line or a count for each request")
    assert held > 50
    assert own[0]["request_id"] == r"0\n{}"
    assert own[0]["level"] == "info"
    assert own[0]["role"] == "front end 1"
    assert own[0]["duration_ms"] > 0
    assert "x must have 2 dimensions" in own[0]["message"]
    (look,) = [line for line in lines if line.get("outcome") == "not_found"]
    assert (look["method"], look["request_id"]) == ("ModelMetadata", "look")
