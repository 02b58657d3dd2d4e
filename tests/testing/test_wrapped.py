"""ONNX Runtime with something around each run, alone and in the daemon."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.daemon_process import running
from tests.e2e.repositories import add_plus
from trtserve.client import Client
from trtserve.device.host import HostDevice
from trtserve.engine.interface import Runtime
from trtserve.ipc.channel import Channel
from trtserve.ipc.message import Start
from trtserve.testing import models, other_daemon
from trtserve.testing.engine import memory_of, read
from trtserve.testing.wrapped import WrappedContext, WrappedRuntime, serve_wrapped

ROOT = Path(__file__).parents[2]
NOTE = "TRTSERVE_TEST_NOTE"
"""Names the file that every run adds a byte to."""


class NotingContext(WrappedContext):
    def enqueue(self, stream, inputs, outputs):
        with Path(os.environ[NOTE]).open("a") as note:
            note.write("x")
        return super().enqueue(stream, inputs, outputs)


def main(control: Channel, start: Start) -> int:
    return serve_wrapped(control, start, NotingContext)


def test_a_run_goes_through_the_wrapper_to_the_engine(tmp_path, monkeypatch):
    monkeypatch.setenv(NOTE, str(tmp_path / "note"))
    path = str(tmp_path / "model.onnx")
    models.make_add(path, 2.0, ("N", "M"))
    runtime: Runtime = WrappedRuntime(NotingContext)
    device = HostDevice()
    engine = runtime.load(path, device, {})
    stream = device.create_stream()
    context = engine.create_context(0, stream)
    x = np.ones((1, 4), np.float32)
    assert context.output_shapes([x.shape]) == [(1, 4)]
    (y,) = context.enqueue(stream, [memory_of(x)], [None])
    np.testing.assert_array_equal(read(y, "FP32"), x + 2)
    assert (tmp_path / "note").read_text() == "x"
    context.close()
    engine.close()


@pytest.mark.e2e
def test_the_daemon_takes_another_worker(tmp_path):
    add_plus(tmp_path / "models")
    note = tmp_path / "note"
    environment = {
        "PYTHONPATH": str(ROOT), NOTE: str(note),
        other_daemon.WORKER: "tests.testing.test_wrapped:main",
    }
    with (
        running(tmp_path / "models", tmp_path, module=other_daemon.__name__,
                environment=environment) as daemon,
        Client(daemon.grpc, retry=False) as client,
    ):
        assert client.infer("plus", {"x": np.ones((1, 4), np.float32)})["y"][0, 0] == 2
        assert note.read_text()
