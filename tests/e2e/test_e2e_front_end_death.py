"""kill -9 of a front end: the others serve on, it comes back, the worker keeps nothing of it."""

import os
import signal
import threading
from contextlib import ExitStack

import grpc
import numpy as np
import psutil

from tests.e2e import calls
from tests.e2e.daemon_process import PATIENCE_S, Daemon
from tests.e2e.repositories import add_plus, add_work

VICTIM, SURVIVOR = "front end 1", "front end 2"

MAX_CHANNELS = 64
"""Connections to open until both front ends have some: the kernel chooses by a hash."""


class Asker:
    """A client with a connection of its own, and a thread that asks until `over`.

    `failures` counts calls that a dying connection failed; each is asked again.
    """

    def __init__(self, address: str, seed: int, over: threading.Event) -> None:
        self.channel = grpc.insecure_channel(address, options=(
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.enable_retries", 0),
        ))
        grpc.channel_ready_future(self.channel).result(PATIENCE_S)
        self.answers = 0
        self.failures = 0
        self.wrong: list[str] = []
        self._random = np.random.default_rng(seed)
        self._over = over
        self.thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        infer = calls.infer(self.channel)
        while not self._over.is_set():
            x = self._random.standard_normal((2, 2048), np.float32)
            call = infer.future(calls.plus_request(x), wait_for_ready=True)
            error = call.exception()
            if error is None:
                self.answers += 1
                if not np.array_equal(calls.floats(call.result()), x + 1):
                    self.wrong.append("a wrong answer")
            elif error.code() is grpc.StatusCode.UNAVAILABLE:
                self.failures += 1
            else:
                self.wrong.append(str(error))


def connected(pid: int) -> int:
    """How many clients' connections a process has."""
    return sum(
        connection.status == psutil.CONN_ESTABLISHED
        for connection in psutil.Process(pid).net_connections("tcp")
    )


def connect(daemon: Daemon, over: threading.Event, front_ends: dict[str, int]) -> list[Asker]:
    """Clients until both front ends have two."""
    askers: list[Asker] = []
    while any(connected(pid) < 2 for pid in front_ends.values()):
        assert len(askers) < MAX_CHANNELS, "a front end gets no connections"
        askers.append(Asker(daemon.grpc, len(askers), over))
    return askers


def more_answers(daemon: Daemon, askers: list[Asker]) -> None:
    """Wait until every client got some answers more."""
    before = [asker.answers for asker in askers]
    daemon.until(
        lambda: all(a.answers > b + 2 for a, b in zip(askers, before, strict=True)),
        "answers for everybody",
    )


def test_the_others_go_on_and_it_is_replaced(start, tmp_path):
    add_plus(tmp_path / "models")
    daemon = start("--front-ends", "2")
    before = daemon.children()
    over = threading.Event()
    with ExitStack() as stack:
        stack.callback(over.set)
        askers = connect(daemon, over, {name: before[name] for name in (VICTIM, SURVIVOR)})
        for asker in askers:
            stack.callback(asker.channel.close)
            asker.thread.start()
            stack.callback(asker.thread.join)
        stack.callback(over.set)
        more_answers(daemon, askers)
        at_survivor = connected(before[SURVIVOR])

        os.kill(before[VICTIM], signal.SIGKILL)
        daemon.until(lambda: daemon.replaced(VICTIM, before[VICTIM]), "a new front end")
        more_answers(daemon, askers)

    failed = [asker for asker in askers if asker.failures]
    assert not [wrong for asker in askers for wrong in asker.wrong]
    # Only the dead one's clients noticed, and each lost no more than the call it was in; and one
    # more if it came back so soon that the kernel still gave it to the dead one's listener, which
    # a process at its end closes after its connections.
    assert len(failed) <= len(askers) - at_survivor
    assert {asker.failures for asker in failed} <= {1, 2}
    after = daemon.children()
    assert after["worker cpu"] == before["worker cpu"]
    assert after[SURVIVOR] == before[SURVIVOR]
    assert daemon.metric("trtserve_worker_restarts_total", process=VICTIM) == 1
    assert daemon.metric("trtserve_worker_restarts_total") == 1
    daemon.until_idle()


def test_requests_of_the_dead_leave_the_worker(start, tmp_path):
    add_work(tmp_path / "models", config="dynamic_batching { }")
    daemon = start("--lanes", "1")
    front_end = daemon.children()["front end 1"]
    with grpc.insecure_channel(daemon.grpc, options=(("grpc.enable_retries", 0),)) as channel:
        infer = calls.infer(channel)
        lost = [infer.future(calls.work_request(8000)) for _ in range(5)]
        daemon.until_metric(4, "trtserve_queued_requests")
        os.kill(front_end, signal.SIGKILL)
        assert {calls.error_of(call)[0] for call in lost} == {"UNAVAILABLE"}
        # What waited is forgotten at once; what ran ends, and its memory is given back.
        daemon.until_metric(0, "trtserve_queued_requests")
        daemon.until(lambda: daemon.replaced("front end 1", front_end), "a new front end")
        answer = infer(calls.work_request(1), wait_for_ready=True, timeout=PATIENCE_S)
        assert calls.floats(answer).max() == 1
        assert daemon.metric("nv_inference_count") <= 2
    daemon.until_idle()
