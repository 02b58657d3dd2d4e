"""What the operator sets and sees: settings, process titles, the socket, the other commands."""

import json
import os
import subprocess
import sys

import numpy as np
import psutil
import pytest

from tests.e2e.repositories import add_plus
from trtserve.client import Client


def test_flags_are_stronger_than_the_environment_and_that_than_the_file(start, tmp_path):
    add_plus(tmp_path / "models")
    settings, path, wrong = tmp_path / "settings.toml", tmp_path / "grpc.sock", tmp_path / "wrong"
    settings.write_text(
        f'host = "127.0.0.3"\nfront_ends = 3\nsocket = "{path}"\nready_file = "{wrong}"\n'
    )
    daemon = start("--host", "127.0.0.1", "--config", str(settings), environment={
        "TRTSERVE_HOST": "127.0.0.2", "TRTSERVE_FRONT_ENDS": "2",
        "TRTSERVE_READY_FILE": str(wrong), "TRTSERVE_GRPC_PORT": "1",
    })
    assert daemon.ready["grpc"].startswith("127.0.0.1:")  # the flag's
    assert daemon.ready["http"].startswith("127.0.0.1:")
    assert not wrong.exists()
    assert set(daemon.ready["pids"]) == {  # the environment's
        "supervisor", "worker cpu", "front end 1", "front end 2",
    }
    assert daemon.ready["socket"] == str(path)  # the file's
    x = np.ones((1, 2), np.float32)
    for address in (f"unix:{path}", daemon.grpc):
        with Client(address, retry=False) as client:
            assert client.infer("plus", {"x": x})["y"].max() == 2


def test_the_log_and_the_report_say_which_devices_there_are(house):
    lines = house.log.splitlines()
    assert "devices cpu" in lines
    (logged,) = [line for line in lines if line.endswith("INFO    devices cpu")]
    assert "supervisor" in logged


def test_devices_are_chosen_by_what_is_there(start, tmp_path):
    add_plus(tmp_path / "models", config="instance_group { kind: KIND_CPU count: 1 }")
    daemon = start(environment={"TRTSERVE_DEVICES": "auto", "TRTSERVE_FRONT_ENDS": "0"})
    assert {"worker cpu", "front end 1"} <= set(daemon.ready["pids"])
    with Client(daemon.grpc, retry=False) as client:
        assert client.infer("plus", {"x": np.ones((1, 2), np.float32)})["y"].max() == 2


def test_processes_have_titles(house):
    for name, pid in house.ready["pids"].items():
        assert " ".join(psutil.Process(pid).cmdline()).strip() == f"trtserve {name}"
    assert set(house.ready["pids"]) == {"supervisor", "worker cpu", "front end 1"}


@pytest.mark.parametrize(("flags", "words"), [
    (("--grpc-port", "70000"), ("grpc_port", "70000")),
    (("--log-level", "loud"), ("log_level", "loud")),
    (("--arena-bytes", "5"), ("arena_bytes", "max_message_bytes")),
    (("--devices", "cpu,gpu"), ("devices", "'gpu' is no device")),
    (("--devices", "cpu,cuda:99"), ("devices", "cuda:99 can not be used", "cure:")),
])
def test_a_wrong_setting_is_named(tmp_path, flags, words):
    done = command("serve", str(tmp_path), *flags)
    assert done.returncode != 0
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_a_repository_that_is_not_there_ends_the_daemon_with_the_reason(tmp_path):
    done = command("serve", str(tmp_path / "nothing"), "--grpc-port", "0", "--http-port", "0")
    assert done.returncode == 1
    assert str(tmp_path / "nothing") in done.stderr
    assert "Traceback" not in done.stderr


def test_models_lists_what_is_served(house):
    done = command("models", "--address", house.grpc, "--json")
    assert done.returncode == 0, done.stderr
    listed = {model["name"]: model for model in json.loads(done.stdout)}
    assert listed["half"]["state"] == "READY"
    assert listed["half"]["inputs"] == [{"name": "x", "datatype": "FP16", "shape": [-1, 3]}]


def test_infer_sends_a_file(house, tmp_path):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "x.npy", x)
    done = command(
        "infer", "plus", "--address", house.grpc, "--input", f"x=@{tmp_path / 'x.npy'}",
        "--output-dir", str(tmp_path / "out"), "--receipt", "--json",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "plus"
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "y.npy"), x + 1)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `trtserve ...`."""
    return subprocess.run(
        [sys.executable, "-m", "trtserve", *arguments], capture_output=True, text=True,
        check=False, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
    )
