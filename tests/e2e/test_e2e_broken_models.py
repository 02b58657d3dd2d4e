"""Broken models beside a good one: they say why, and it serves."""

import json
import os
import subprocess
import sys

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.daemon_process import running
from tests.e2e.repositories import add_model, add_plus
from trtserve.client import Client, Unavailable


def make_garbage(path: str) -> None:
    with open(path, "w") as file:
        file.write("no model")


def fill(repository) -> None:
    add_plus(repository)
    add_model(repository, "garbage", make_garbage)
    add_plus(repository, "misnamed", config='name: "another"\n')


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    fill(folder / "models")
    with running(folder / "models", folder) as daemon:
        yield daemon


def test_the_good_one_serves(mixed):
    x = np.ones((2, 3), np.float32)
    with Client(mixed.grpc, retry=False) as client:
        np.testing.assert_array_equal(client.infer("plus", {"x": x})["y"], x + 1)
        assert client.model_ready("plus")
        assert not client.model_ready("garbage")
        assert not client.ready()
        with pytest.raises(Unavailable, match=r"'garbage' version 1 is not ready.*an ONNX"):
            client.infer("garbage", {"x": x})


def test_the_others_say_why(mixed, tmp_path_factory):
    with Client(mixed.grpc) as client:
        states = {status.name: status for status in client.models()}
    assert {name: status.state for name, status in states.items()} == {
        "plus": "READY", "garbage": "UNAVAILABLE", "misnamed": "UNAVAILABLE",
    }
    assert "not an ONNX model" in states["garbage"].reason
    assert "name is 'another'" in states["misnamed"].reason
    reasons = {model["name"]: model["reason"] for model in mixed.ready["models"]}
    for name, status in states.items():
        # Clients are not told where the files are, the operator is.
        assert str(tmp_path_factory.getbasetemp()) not in status.reason
        assert reasons[name].endswith(status.reason)


def test_the_daemon_is_live_and_not_ready(mixed):
    status, body = mixed.get("/readyz")
    assert status == 503
    assert "garbage" in body
    assert "misnamed" in body
    assert "plus" not in body
    assert mixed.get("/livez")[0] == 200
    assert mixed.metric("trtserve_ready") == 0
    assert mixed.metric("trtserve_model_state", model="garbage", state="UNAVAILABLE") == 1
    with grpc.insecure_channel(mixed.grpc) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING


def test_check_names_them(tmp_path):
    fill(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "trtserve", "check", str(tmp_path), "--json"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 1, done.stderr
    errors = {
        finding["where"]: finding["cure"] for finding in json.loads(done.stdout)["findings"]
        if finding["severity"] == "error"
    }
    assert set(errors) == {
        str(tmp_path / "garbage" / "1" / "model.onnx"), f"{tmp_path}/misnamed/config.pbtxt:1"
    }
    assert all(errors.values())
