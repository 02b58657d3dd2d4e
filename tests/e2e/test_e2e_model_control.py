"""Models loaded, swapped and unloaded by calls while the real daemon serves."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.e2e.daemon_process import Daemon
from tests.e2e.repositories import add_plus, swap_plus
from tests.e2e.traffic import Traffic
from trtserve.client import Client, FailedPrecondition, NotFound, Unimplemented
from trtserve.testing.models import make_add

X = np.zeros((1, 4), np.float32)

SWAPS = 12
CALLERS = 4


def added(client: Client, model: str = "plus") -> float:
    """What a model adds."""
    return float(client.infer(model, {"x": X}, deadline=30)["y"][0, 0])


@pytest.fixture
def explicit(start: Callable[..., Daemon], tmp_path: Path) -> Daemon:
    """A daemon with `plus` loaded, `more` beside it, and two front ends."""
    add_plus(tmp_path / "models")
    add_plus(tmp_path / "models", "more", 100.0)
    return start(
        "--model-control-mode", "explicit", "--load-models", "plus", "--front-ends", "2",
        "--socket", str(tmp_path / "socket"), "--scratch-folder", str(tmp_path / "scratch"),
        "--allow-config-override", "--allow-file-override",
    )


@pytest.fixture
def control(explicit: Daemon) -> Iterator[Client]:
    """A client that may change models."""
    with Client(f"unix:{explicit.ready['socket']}", retry=False) as client:
        yield client


def test_swaps_under_traffic_fail_no_call_and_show_in_every_front_end_at_once(
    explicit: Daemon, control: Client, tmp_path: Path
) -> None:
    with Traffic(explicit.grpc, [added] * CALLERS) as traffic:
        traffic.each_gets(12)
        for value in range(2, 2 + SWAPS):
            swap_plus(tmp_path / "models", value)
            control.load("plus")
            for _ in range(4):  # new connections: some to each front end
                with Client(explicit.grpc, retry=False) as other:
                    assert added(other) == value
            traffic.each_gets(5)
            assert explicit.get("/readyz")[0] == 200
    assert {each for mine in traffic.answers for each in mine} == set(range(1, 2 + SWAPS))


def test_a_load_that_fails_leaves_the_old_serving(
    explicit: Daemon, control: Client, tmp_path: Path
) -> None:
    with Traffic(explicit.grpc, [added] * CALLERS) as traffic:
        traffic.each_gets(5)
        (tmp_path / "models/plus/1/model.onnx").write_bytes(b"this is no model")
        with pytest.raises(FailedPrecondition, match=r"not loaded: .*ONNX.*serves on") as failed:
            control.load("plus")
        assert str(tmp_path) not in failed.value.message
        traffic.each_gets(5)
    assert {each for mine in traffic.answers for each in mine} == {1}
    assert control.ready()
    assert explicit.get("/readyz")[0] == 200
    assert [s.state for s in control.models() if s.name == "plus"] == ["READY"]


def test_a_first_load_that_fails_does_not_make_the_daemon_not_ready(
    explicit: Daemon, control: Client, tmp_path: Path
) -> None:
    (tmp_path / "models/more/1/model.onnx").write_bytes(b"this is no model")
    with pytest.raises(FailedPrecondition) as failed:
        control.load("more")
    assert "serves on" not in failed.value.message
    (status,) = [status for status in control.models() if status.name == "more"]
    assert (status.state, status.version) == ("UNAVAILABLE", "1")
    assert control.ready()
    assert explicit.get("/readyz")[0] == 200


def test_an_unloaded_model_is_gone_and_the_daemon_ready(
    explicit: Daemon, control: Client
) -> None:
    control.load("more")
    assert added(control, "more") == 100
    control.unload("more")
    assert control.ready()
    assert explicit.get("/readyz")[0] == 200
    for _ in range(4):
        with Client(explicit.grpc, retry=False) as other:
            assert not other.model_ready("more")
            with pytest.raises(NotFound):
                added(other, "more")
    listed = {status.name: (status.state, status.reason) for status in control.models()}
    assert listed == {"more": ("UNAVAILABLE", "unloaded"), "plus": ("READY", "")}
    with pytest.raises(NotFound, match="'more' is not loaded"):
        control.unload("more")
    control.unload("plus")
    assert control.ready()


def test_a_crash_brings_back_what_was_switched_to_last(
    explicit: Daemon, control: Client, tmp_path: Path
) -> None:
    make_add(str(tmp_path / "file"), 5.0, ("N", "M"))
    control.load("more", files={"3/any.onnx": (tmp_path / "file").read_bytes()})
    control.unload("plus")
    worker = explicit.children()["worker cpu"]
    os.kill(worker, signal.SIGKILL)
    explicit.until(lambda: explicit.replaced("worker cpu", worker), "a new worker")
    assert added(control, "more") == 5
    assert {status.name for status in control.models() if status.state == "READY"} == {"more"}
    with pytest.raises(NotFound):
        added(control)
    front_end = explicit.children()["front end 2"]
    os.kill(front_end, signal.SIGKILL)
    explicit.until(lambda: explicit.replaced("front end 2", front_end), "a new front end")
    for _ in range(4):
        with Client(explicit.grpc) as other:
            assert other.ready()
            assert added(other, "more") == 5


def test_what_calls_bring_lies_in_the_scratch_folder_as_long_as_it_serves(
    explicit: Daemon, control: Client, tmp_path: Path
) -> None:
    content = (tmp_path / "models/more/1/model.onnx").read_bytes()

    def kept() -> list[str]:
        (home,) = (tmp_path / "scratch").iterdir()
        assert home.stat().st_mode & 0o077 == 0
        return sorted(  # os.walk passes over what is removed meanwhile
            os.path.relpath(os.path.join(folder, name), home)
            for folder, _, names in os.walk(home) for name in names if name.endswith(".onnx")
        )

    assert kept() == []
    control.load("new", files={"1/a.onnx": content})
    assert kept() == ["1/1/a.onnx"]
    control.load("new", files={"1/b.onnx": content})
    explicit.until(lambda: kept() == ["2/1/b.onnx"], "the replaced files to go")
    for path in ("../x.onnx", "1/../x.onnx", "/etc/x.onnx", "1/.x", "1/a/b", "0/x", "x", "1/", ""):
        with pytest.raises(Exception, match="is no place for a file"):
            control.load("new", files={path: content})
    with pytest.raises(FailedPrecondition):
        control.load("new", files={"1/c.onnx": b"broken"})
    explicit.until(lambda: kept() == ["2/1/b.onnx"], "the failed files to go")
    control.unload("new")
    explicit.until(lambda: kept() == [], "the unloaded files to go")
    assert added(control) == 1


def test_a_configuration_that_comes_with_a_load(control: Client) -> None:
    before = control.config("plus")
    assert before["max_batch_size"] == 32
    control.load("plus", config={**before, "max_batch_size": 4})
    assert control.config("plus")["max_batch_size"] == 4
    assert added(control) == 1
    control.load("plus")
    assert control.config("plus")["max_batch_size"] == 32
    with pytest.raises(Exception, match='no field named "max_batch"'):
        control.load("plus", config={"max_batch": 4})
    with pytest.raises(Exception, match="max_batch_size -1 is negative"):
        control.load("plus", config=json.dumps({"max_batch_size": -1}))


def test_triton_s_own_client(explicit: Daemon, tmp_path: Path) -> None:
    with triton.InferenceServerClient(f"unix:{explicit.ready['socket']}") as client:
        assert "model_repository" in client.get_server_metadata().extensions
        assert not client.is_model_ready("more")
        client.load_model("more")
        assert client.is_model_ready("more")
        client.load_model("more", config='{"maxBatchSize": 2}')
        assert client.get_model_config("more").config.max_batch_size == 2
        content = (tmp_path / "models/plus/1/model.onnx").read_bytes()
        client.load_model("more", config="{}", files={"file:7/model.onnx": content})
        index = client.get_model_repository_index(as_json=True)["models"]
        assert {"name": "more", "version": "7", "state": "READY"} in index
        x = triton.InferInput("x", [1, 4], "FP32")
        x.set_data_from_numpy(X)
        assert client.infer("more", [x]).as_numpy("y")[0, 0] == 1
        client.unload_model("more", unload_dependents=True)
        assert not client.is_model_ready("more")
        with pytest.raises(InferenceServerException, match="the repository has no model 'none'"):
            client.load_model("none")


def test_what_is_not_allowed_says_how_to_get_it(
    start: Callable[..., Daemon], tmp_path: Path
) -> None:
    add_plus(tmp_path / "models")
    socket = str(tmp_path / "socket")
    plain = start("--socket", socket)
    with Client(f"unix:{socket}", retry=False) as client:
        for call in (client.load, client.unload):
            with pytest.raises(Unimplemented, match="--model-control-mode explicit"):
                call("plus")
    plain.signal(signal.SIGTERM)
    plain.end()
    add_plus(tmp_path / "models", "more")
    shutil.rmtree(tmp_path / "models/plus")
    start("--socket", socket, "--model-control-mode", "explicit", "--load-models", "*")
    with Client(f"unix:{socket}", retry=False) as client:
        assert added(client, "more") == 1
        with pytest.raises(FailedPrecondition, match="--allow-config-override"):
            client.load("more", config="{}")
        with pytest.raises(FailedPrecondition, match="--allow-file-override"):
            client.load("more", files={"1/model.onnx": b""})
        with pytest.raises(NotFound, match="models there: more"):
            client.load("plus")
