"""The daemon on a CUDA device and the CPU at once: choice, placement, and a worker's death."""

import os
import signal
from pathlib import Path

import numpy as np

from tests.e2e.daemon_process import running
from tests.e2e.repositories import add_plus
from trtserve.cli.devices import decide
from trtserve.client import Client
from trtserve.config import Settings

BOTH = (
    "max_batch_size: 8 instance_group {{ kind: KIND_GPU {} }} "
    "instance_group {{ kind: KIND_CPU }}"
)


def test_auto_is_every_cuda_device(tmp_path: Path, cuda_devices: int):
    in_force, choice = decide(Settings(repository=str(tmp_path)))
    expected = tuple(f"cuda:{index}" for index in range(cuda_devices))
    assert choice.devices == expected
    assert in_force.devices == ",".join(expected)
    assert choice.driver_version in choice.line
    assert "compute capability" in choice.line
    assert "ONNX Runtime" in choice.line
    assert not choice.unused


def test_the_cpu_is_there_too_where_a_model_asks_for_it(tmp_path: Path):
    add_plus(tmp_path, config="instance_group { kind: KIND_CPU }")
    assert decide(Settings(repository=str(tmp_path)))[1].devices[0] == "cpu"


def test_both_devices_serve_and_one_takes_over_when_the_other_dies(tmp_path: Path):
    models = tmp_path / "models"
    add_plus(models, config=BOTH.format("gpus: 0 count: 1"))
    add_plus(models, "gpu_only", config="max_batch_size: 8")
    flags = ("--devices", "cpu,cuda:0", "--front-ends", "1")
    x = np.arange(4, dtype=np.float32).reshape(2, 2)
    with running(models, tmp_path, *flags) as daemon, Client(daemon.grpc, retry=False) as client:
        assert {"worker cpu", "worker cuda:0"} <= set(daemon.ready["pids"])
        assert daemon.get("/readyz")[0] == 200
        for model in ("plus", "gpu_only"):
            np.testing.assert_allclose(client.infer(model, {"x": x})["y"], x + 1)
        pid = daemon.children()["worker cuda:0"]
        os.kill(pid, signal.SIGKILL)
        for _ in range(20):  # long before the next worker serves
            np.testing.assert_allclose(client.infer("plus", {"x": x})["y"], x + 1)
        np.testing.assert_allclose(client.infer("gpu_only", {"x": x})["y"], x + 1)
        daemon.until(lambda: daemon.replaced("worker cuda:0", pid), "the next worker")
