"""Golden cases with the real engine: who computes something else does not serve."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.e2e.daemon_process import Daemon
from tests.e2e.repositories import add_model, add_plus
from trtserve.cli.main import app
from trtserve.client import Client, FailedPrecondition
from trtserve.testing.models import make_add, make_identity

X = np.ones((2, 3), np.float32)


def add_case(model: Path, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> None:
    """A golden case of version 1."""
    golden = model / "1" / "golden"
    golden.mkdir()
    np.savez(golden / "ones.npz", **{"inputs/x": x, "outputs/y": y})  # type: ignore[arg-type]


def test_a_model_that_computes_something_else_is_not_served(
    tmp_path: Path, start: Callable[..., Daemon]
) -> None:
    models = tmp_path / "models"
    for name in ("right", "wrong"):
        add_plus(models, name)
    add_case(models / "right", X, X + 1)
    add_case(models / "wrong", X, X + 3)
    add_model(models, "text", lambda path: make_identity(path, ("N", 3), "BYTES"))
    texts = np.array([["a", "bc", "é"]])
    add_case(models / "text", texts, texts)
    daemon = start()
    with Client(daemon.grpc, retry=False) as client:
        states = {status.name: status for status in client.models()}
        np.testing.assert_array_equal(client.infer("right", {"x": X})["y"], X + 1)
    assert {name: status.state for name, status in states.items()} == {
        "right": "READY", "text": "READY", "wrong": "UNAVAILABLE",
    }
    reason = states["wrong"].reason
    assert "golden case ones.npz: variant model.onnx: output 'y' is 2.0 at [0, 0]" in reason
    assert str(tmp_path) not in reason


def test_a_recorded_case_keeps_another_model_out(
    tmp_path: Path, start: Callable[..., Daemon]
) -> None:
    models = tmp_path / "models"
    add_plus(models)
    daemon = start(
        "--model-control-mode", "explicit", "--load-models", "*",
        "--socket", str(tmp_path / "socket"),
    )
    recorded = CliRunner().invoke(app, [
        "golden", "record", "plus", "--input", "x=random:4x3", "--output", "random.npz",
        "--repository", str(models), "--address", daemon.grpc,
    ])
    assert recorded.exit_code == 0, recorded.output
    assert [path.name for path in models.rglob("*.npz")] == ["random.npz"]
    with Client(f"unix:{tmp_path}/socket", retry=False) as client:
        client.load("plus")
        make_add(str(models / "plus/1/model.onnx"), 3.0, ("N", "M"))
        with pytest.raises(FailedPrecondition, match=r"golden case random\.npz: .* off by 2"):
            client.load("plus")
        np.testing.assert_array_equal(client.infer("plus", {"x": X})["y"], X + 1)
    checked = CliRunner().invoke(app, ["check", str(models), "--devices", "cpu"])
    assert checked.exit_code == 1
    assert "random.npz wrong" in checked.output
