"""The real daemon on a real device: a device that is lost, and one that is full."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.daemon_process import running
from tests.e2e.repositories import add_model, add_plus
from tests.e2e.traffic import Traffic
from tests.gpu import faulty_worker
from tests.gpu.models import ROW_BYTES, SIDE, make_huge
from trtserve.client import Client, Unavailable
from trtserve.device.cuda import CudaDevice
from trtserve.testing import other_daemon

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
CALLERS = 8
WORKER = "worker cuda:0"


def added(random: np.random.Generator, width: int | None, client: Client) -> float:
    """What `plus` adds to a few random rows. None: of another width each time."""
    # Of a width that comes often there are contexts of its own, of others there are none.
    columns = width or int(random.integers(1, 64))
    x = random.standard_normal((int(random.integers(1, 9)), columns), np.float32)
    y = client.infer("plus", {"x": x})["y"]
    assert np.array_equal(y, x + 1), "a wrong answer"
    return 1


def test_an_illegal_access_ends_the_worker_and_loses_no_request(tmp_path: Path) -> None:
    trigger = tmp_path / "spoil"
    add_plus(tmp_path / "models")
    environment = {
        **ENVIRONMENT, faulty_worker.SPOIL: str(trigger),
        other_daemon.WORKER: f"{faulty_worker.__name__}:main",
    }
    asks = [
        partial(added, np.random.default_rng(caller), 32 if caller % 2 else None)
        for caller in range(CALLERS)
    ]
    with running(
        tmp_path / "models", tmp_path, "--devices", "cuda:0", environment=environment,
        module=other_daemon.__name__,
    ) as daemon:
        with Traffic(daemon.grpc, asks) as traffic:
            traffic.each_gets(20)
            old = daemon.children()[WORKER]
            trigger.touch()
            daemon.until(lambda: daemon.get("/readyz")[0] == 503, "readiness to fall")
            daemon.until(lambda: daemon.replaced(WORKER, old), "another worker")
            traffic.each_gets(20)
        assert not trigger.exists()
        assert daemon.metric(
            "trtserve_device_errors_total", device="cuda:0", error="cudaErrorIllegalAddress"
        ) == 1
        assert daemon.metric("trtserve_requests_total", model="plus", outcome="ok") == (
            traffic.total
        )
        print(f"{traffic.total} requests answered, "
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
