"""Traces on their way to a collector: a real one, one that refuses, one that is not there."""

import logging
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.frontend.collector import attributes, collecting
from tests.frontend.test_trace_context import SPAN, TRACE
from tests.frontend.test_tracing import Scene
from trtserve.config import Settings
from trtserve.errors import Unavailable
from trtserve.frontend.otlp import (
    BATCH,
    MAX_WAITING,
    OtlpShipper,
    TraceSender,
    make_sender,
    traces_url,
)

POOLS = """
from google.protobuf import descriptor_pool
from opentelemetry.proto.trace.v1 import trace_pb2
from trtserve.proto import grpc_service_pb2

pool = descriptor_pool.Default()
pool.FindMessageTypeByName(trace_pb2.Span.DESCRIPTOR.full_name)
try:
    pool.FindMessageTypeByName(grpc_service_pb2.ModelInferRequest.DESCRIPTOR.full_name)
except KeyError:
    print("unknown")
"""


@pytest.fixture
def scene():
    scene = Scene()
    yield scene
    scene.stand.close()


class Shipper:
    """Takes what it is told to; `gate` closed, it hangs."""

    def __init__(self):
        self.problem = ""
        self.shipped = []
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.closed = False

    def ship(self, traced):
        self.begun.set()
        assert self.gate.wait(20)
        if self.problem == "raise":
            raise ValueError("a bug")
        self.shipped.append(list(traced))
        return self.problem

    def give_up(self):
        self.gate.set()

    def close(self):
        self.closed = True


@pytest.fixture
def exporter():
    """OpenTelemetry's exporter to an address, closed after the test."""
    with ExitStack() as stack:

        def make(address, **attributes):
            shipper = OtlpShipper(address, attributes)
            stack.callback(shipper.close)
            return shipper

        yield make


@pytest.fixture
def shipper():
    return Shipper()


@pytest.fixture
def sender(shipper):
    return TraceSender(shipper, "http://there")


def test_spans_arrive_as_a_tree_with_links(scene, exporter):
    with collecting() as collector:
        shipper = exporter(collector.address, **{"service.name": "trtserve"})
        scene.ask("01", request_id="r1")
        scene.ask("", request_id="r2")
        scene.answer()
        assert shipper.ship(scene.traced) == ""
    assert collector.paths == {"/v1/traces"}
    assert collector.resources[0]["service.name"] == "trtserve"
    first, second = collector.servers
    assert first.name == "service/Method"
    assert first.trace_id.hex() == TRACE
    assert first.parent_span_id.hex() == SPAN
    assert first.trace_state == "a=b"
    assert (second.parent_span_id, second.trace_state) == (b"", "")
    found = attributes(first)
    assert (found["rpc.system"], found["rpc.service"], found["rpc.method"]) == (
        "grpc", "service", "Method"
    )
    assert (found["rpc.grpc.status_code"], found["trtserve.outcome"]) == (0, "ok")
    assert (found["trtserve.model"], found["trtserve.version"], found["trtserve.variant"]) == (
        "m", 1, "v"
    )
    assert (found["trtserve.bucket"], found["trtserve.rows"]) == ("4", 1)
    assert (found["trtserve.batch.requests"], found["trtserve.batch.rows"]) == (2, 2)
    assert (found["trtserve.worker"], found["trtserve.lane"]) == ("w1", 1)
    assert found["trtserve.request_id"] == "r1"
    for one, other in ((first, second), (second, first)):
        (link,) = one.links
        assert (link.trace_id, link.span_id) == (other.trace_id, other.span_id)
        children = collector.children(one)
        assert list(children) == [
            "admission", "queue", "stage", "h2d", "compute", "d2h", "answer"
        ]
        for child in children.values():
            assert child.trace_id == one.trace_id
        assert children["compute"].end_time_unix_nano - (
            children["compute"].start_time_unix_nano
        ) == 3_000
    assert len({span.span_id for span in collector.spans}) == len(collector.spans) == 16


def test_errors_of_ours_make_the_span_an_error_those_of_callers_do_not(scene, exporter):
    with collecting() as collector:
        shipper = exporter(collector.address)
        scene.ask(model_version="9")
        scene.ask()
        scene.stand.dispatcher.fail_all(lambda: Unavailable("going"))
        assert shipper.ship(scene.traced) == ""
    lost, failed = collector.servers
    assert lost.status.code == Status.STATUS_CODE_UNSET
    assert attributes(lost)["rpc.grpc.status_code"] == 5
    assert attributes(lost)["error.type"] == "not_found"
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert failed.status.message == "going"
    assert attributes(failed)["trtserve.outcome"] == "unavailable"


def test_a_collector_that_refuses_says_why(scene, exporter):
    with collecting() as collector:
        collector.status = 400
        shipper = exporter(collector.address)
        scene.ask()
        scene.answer()
        assert "400" in shipper.ship(scene.traced)
        collector.status = 200
        assert shipper.ship(scene.traced) == ""


def test_a_dead_collector_costs_one_warning_and_no_request(caplog):
    caplog.set_level(logging.INFO)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    sender = TraceSender(OtlpShipper(address, {}), address)
    scene = Scene(sender.offer)
    sender.start()
    for _ in range(3):
        scene.ask()
        scene.answer()
        assert len(scene.stand.reply.answers) == 1
    # It gives up its tries at once: the end does not wait for the collector's return.
    sender.close(seconds=0.1)
    assert (sender.sent, sender.unsent) == (0, 3)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"traces can not be sent to {address}: ")
    assert "refused" in line
    scene.stand.close()


def test_one_warning_until_it_works_again(sender, shipper, caplog):
    caplog.set_level(logging.INFO)

    def send(problem):
        shipper.problem = problem
        sender.offer(object())
        sender.send_waiting()

    for problem in ("away", "away", "raise", "", "", "away"):
        send(problem)
    assert [record.getMessage() for record in caplog.records] == [
        "traces can not be sent to http://there: away. They are dropped until it answers",
        "traces are sent to http://there again",
        "traces can not be sent to http://there: away. They are dropped until it answers",
    ]
    assert (sender.sent, sender.unsent) == (2, 4)


def test_the_queue_is_bounded_while_the_collector_hangs(sender, shipper):
    shipper.gate.clear()
    sender.start()
    for _ in range(2 * BATCH):
        sender.offer(object())
    assert shipper.begun.wait(20)
    for _ in range(2 * MAX_WAITING):
        sender.offer(object())
    assert sender.waiting == MAX_WAITING
    assert sender.dropped > 0
    shipper.gate.set()
    sender.close(20)
    assert shipper.closed
    assert sender.sent + sender.dropped == 2 * BATCH + 2 * MAX_WAITING
    assert max(map(len, shipper.shipped)) == BATCH


def test_what_waits_at_the_end_is_sent(sender, shipper):
    sender.start()
    sender.offer(object())
    sender.close(20)
    assert sender.sent == 1


@pytest.mark.parametrize(("endpoint", "url"), [
    ("http://c:4318", "http://c:4318/v1/traces"),
    ("http://c:4318/", "http://c:4318/v1/traces"),
    ("https://c/otlp/traces", "https://c/otlp/traces"),
])
def test_a_bare_address_gets_the_path_of_the_standard(endpoint, url):
    assert traces_url(endpoint) == url


def test_without_a_collector_there_is_nothing():
    assert make_sender(Settings(repository="models"), "front end 1") is None


def test_the_environment_names_the_service(monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "vision")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=blue")
    with collecting() as collector:
        sender = make_sender(
            Settings(repository="models", otlp_endpoint=collector.address), "front end 1"
        )
        assert sender is not None
        sender.start()
        scene = Scene(sender.offer)
        scene.ask()
        scene.answer()
        scene.stand.close()
        sender.close(20)
    (resource,) = collector.resources
    assert resource["service.name"] == "vision"
    assert resource["deployment.environment"] == "blue"
    assert resource["trtserve.process"] == "front end 1"


def test_messages_of_both_have_pools_of_their_own():
    """OpenTelemetry's messages live in protobuf's default pool, ours do not."""
    # In a process of its own: in this one, other tests import others' messages of the same names.
    done = subprocess.run(
        [sys.executable, "-c", POOLS], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "unknown\n"), done.stderr
