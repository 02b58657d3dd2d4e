"""The real daemon on a real device: a device that is lost, and one that is full."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.daemon_process import running
from tests.e2e.repositories import add_model, add_plus
from tests.gpu.faulty_worker import SPOIL
from tests.gpu.models import ROW_BYTES, SIDE, make_huge
from trtserve.client import Client, Unavailable
from trtserve.device.cuda import CudaDevice

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
CALLERS = 8
WORKER = "worker cuda:0"


class Callers:
    """Clients that ask without pause and take no wrong answer and no failure."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._over = threading.Event()
        self._answered = threading.Condition()
        self.answers = [0] * CALLERS

    def run(self, caller: int) -> None:
        random = np.random.default_rng(caller)
        with Client(self._address, retry=False) as client:
            while not self._over.is_set():
                # Two widths: one that comes often enough for contexts of its own, one that varies.
                width = 32 if caller % 2 else int(random.integers(1, 64))
                x = random.standard_normal((int(random.integers(1, 9)), width), np.float32)
                y = client.infer("plus", {"x": x})["y"]
                assert np.array_equal(y, x + 1), "a wrong answer"
                with self._answered:
                    self.answers[caller] += 1
                    self._answered.notify_all()

    def each_gets(self, more: int) -> None:
        """Wait until every caller has had so many answers more."""
        with self._answered:
            wanted = [count + more for count in self.answers]
            assert self._answered.wait_for(
                lambda: all(map(lambda have, want: have >= want, self.answers, wanted)), 120
            ), f"{self.answers}, wanted {wanted}"

    def stop(self) -> None:
        self._over.set()


def test_an_illegal_access_ends_the_worker_and_loses_no_request(tmp_path: Path) -> None:
    trigger = tmp_path / "spoil"
    add_plus(tmp_path / "models")
    environment = {**ENVIRONMENT, SPOIL: str(trigger)}
    with running(
        tmp_path / "models", tmp_path, "--devices", "cuda:0", environment=environment,
        module="tests.gpu.faulty_daemon",
    ) as daemon, ThreadPoolExecutor(CALLERS) as pool:
        callers = Callers(daemon.grpc)
        done = [pool.submit(callers.run, number) for number in range(CALLERS)]
        try:
            callers.each_gets(20)
            old = daemon.children()[WORKER]
            trigger.touch()
            daemon.until(lambda: daemon.get("/readyz")[0] == 503, "readiness to fall")
            daemon.until(lambda: daemon.replaced(WORKER, old), "another worker")
            callers.each_gets(20)
        finally:
            callers.stop()
        for future in done:
            future.result()
        assert not trigger.exists()
        assert daemon.metric(
            "trtserve_device_errors_total", device="cuda:0", error="cudaErrorIllegalAddress"
        ) == 1
        assert daemon.metric("trtserve_requests_total", model="plus", outcome="ok") == sum(
            callers.answers
        )
        print(f"{sum(callers.answers)} requests answered, "
              f"{daemon.metric('trtserve_replayed_requests_total'):g} of them sent again")
        daemon.until_idle()


def test_a_model_that_does_not_fit_says_so_and_leaves_the_others(
    tmp_path: Path, device: CudaDevice
) -> None:
    add_plus(tmp_path / "models")
    add_model(tmp_path / "models", "huge", make_huge, config="max_batch_size: 4")
    free, _ = device.memory()
    filling = device.allocate(free - 3 * ROW_BYTES)
    with running(
        tmp_path / "models", tmp_path, "--devices", "cuda:0", environment=ENVIRONMENT
    ) as daemon, Client(daemon.grpc) as client:
        states = {model["name"]: model for model in daemon.ready["models"]}
        assert states["plus"]["state"] == "READY"
        assert states["huge"]["state"] == "UNAVAILABLE"
        reason = states["huge"]["reason"]
        print(reason)
        assert str(ROW_BYTES)[:4] in reason or "bytes" in reason
        assert "free" in reason
        x = np.ones((3, 16), np.float32)
        for _ in range(20):
            np.testing.assert_array_equal(client.infer("plus", {"x": x})["y"], x + 1)
        with pytest.raises(Unavailable, match="not ready"):
            client.infer("huge", {"x": np.ones((1, 1, SIDE, SIDE), np.float32)})
    filling.close()
