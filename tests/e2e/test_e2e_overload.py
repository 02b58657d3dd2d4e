"""More than the daemon can do: refused at once; and too late: never executed."""

import queue

import grpc
import numpy as np
import pytest

from tests.e2e import calls
from tests.e2e.daemon_process import PATIENCE_S, Daemon, running
from tests.e2e.repositories import add_plus, add_work
from trtserve.client import Client, InferenceError, Item, Overloaded, Result

LONG = 20_000
"""Steps of a request that holds the only lane while a test looks: a second, rather than less."""

MAX_IN_FLIGHT = 16

QUEUE = "dynamic_batching { default_queue_policy { max_queue_size: 2 } }"


@pytest.fixture(scope="module")
def tight(tmp_path_factory):
    """A daemon with one lane and little of everything."""
    folder = tmp_path_factory.mktemp("tight")
    add_plus(folder / "models")
    add_work(folder / "models", config=QUEUE)
    with running(
        folder / "models", folder, "--lanes", "1", "--max-in-flight", str(MAX_IN_FLIGHT),
        "--max-message-bytes", str(1 << 20), "--arena-bytes", str(1 << 20),
    ) as daemon:
        yield daemon


@pytest.fixture
def infer(tight):
    """ModelInfer with bytes; at the end of the test the daemon is idle."""
    with grpc.insecure_channel(tight.grpc, options=(("grpc.enable_retries", 0),)) as channel:
        yield calls.infer(channel)
    tight.until_idle()


@pytest.fixture
def busy(tight, infer):
    """A request that holds the only lane."""
    call = infer.future(calls.work_request(LONG))
    tight.until_metric(1, "trtserve_lanes_busy")
    yield call
    assert calls.floats(call.result()).max() == 1


def executed(daemon: Daemon) -> float:
    """Requests to `work` that ran."""
    return daemon.metric("nv_inference_count", model="work")


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(tight, infer, busy):
    done: queue.Queue = queue.Queue()
    waiting = [infer.future(calls.work_request(1)) for _ in range(6)]
    for call in waiting:
        call.add_done_callback(done.put)
    refused = [done.get(timeout=PATIENCE_S) for _ in range(4)]
    assert not busy.done()
    for call in refused:
        code, details = calls.error_of(call)
        assert code == "RESOURCE_EXHAUSTED"
        assert "max_queue_size" in details
        assert int(dict(call.trailing_metadata())["grpc-retry-pushback-ms"]) > 0
    for call in set(waiting) - set(refused):
        assert calls.floats(call.result()).max() == 1


def test_our_client_comes_again_by_itself(tight, infer, busy):
    waiting = [infer.future(calls.work_request(1)) for _ in range(2)]
    tight.until_metric(2, "trtserve_queued_requests")
    inputs = {"x": np.zeros(16, np.float32), "steps": np.array([1])}
    with Client(tight.grpc, retry=False) as client:
        with pytest.raises(Overloaded) as caught:
            client.infer("work", inputs)
        assert caught.value.retry_after
    with Client(tight.grpc) as client:
        try:
            client.infer("work", inputs)
        except Overloaded:  # its four attempts were over before the lane was free
            pass
    assert tight.metric("trtserve_requests_total", model="work", outcome="overloaded") >= 2
    for call in waiting:
        assert calls.floats(call.result()).max() == 1


def test_requests_beyond_the_limit_in_flight_are_refused(tight, infer):
    x = np.zeros((1, 4), np.float32)
    with Client(tight.grpc, retry=False) as client:
        results = client.infer_many([("plus", {"x": x})] * (MAX_IN_FLIGHT + 5))
    kinds = [type(result) for result in results]
    assert kinds == [Result] * MAX_IN_FLIGHT + [Overloaded] * 5
    assert "max_in_flight" in str(results[-1])


def test_a_full_arena_refuses_and_answers_what_fits(tight, infer):
    # Eight blocks of 128 KiB fill the front end's megabyte.
    arrays = [np.full((1, 25_000), value, np.float32) for value in range(10)]
    with Client(tight.grpc, retry=False) as client:
        results = client.infer_many([Item("plus", {"x": x}) for x in arrays])
    assert {type(result) for result in results} == {Result, Overloaded}
    for x, result in zip(arrays, results, strict=True):
        if isinstance(result, InferenceError):
            assert "memory" in str(result)
        else:
            np.testing.assert_array_equal(result["y"], x + 1)


def test_what_expires_or_is_cancelled_in_the_queue_is_never_executed(tight, infer, busy):
    before = executed(tight)
    late = infer.future(calls.work_request(1, timeout_us=20_000))
    code, details = calls.error_of(late)
    assert code == "DEADLINE_EXCEEDED"
    assert "without a free lane" in details
    code, _ = calls.error_of(infer.future(calls.work_request(1), timeout=0.02))
    assert code == "DEADLINE_EXCEEDED"
    left = infer.future(calls.work_request(1))
    tight.until_metric(1, "trtserve_queued_requests")
    left.cancel()
    tight.until_metric(0, "trtserve_queued_requests")
    assert not busy.done()
    busy.result()
    infer(calls.work_request(1))
    tight.until_idle()
    tight.until_metric(before + 2, "nv_inference_count", model="work")

    def outcomes(outcome: str) -> float:
        return float(tight.metric("trtserve_requests_total", model="work", outcome=outcome))

    # Of a deadline of gRPC's own the server hears twice, at the same moment: the call is
    # cancelled, and the request has expired. Either may come first.
    assert outcomes("deadline") + outcomes("cancelled") == 3
    assert outcomes("deadline") >= 1
    assert outcomes("cancelled") >= 1
