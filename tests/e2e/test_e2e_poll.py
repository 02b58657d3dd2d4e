"""Models that follow the repository's folders while the real daemon serves."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.daemon_process import Daemon
from tests.e2e.repositories import add_plus
from trtserve.client import Client, Unimplemented
from trtserve.testing.models import make_add

X = np.zeros((1, 4), np.float32)
POLL = ("--model-control-mode", "poll", "--repository-settle-seconds", "0.3",
        "--repository-poll-seconds", "0.5")


def added(client: Client, model: str = "plus") -> float:
    """What a model adds."""
    return float(client.infer(model, {"x": X}, deadline=30)["y"][0, 0])


def test_models_come_change_and_go_with_their_folders(
    start: Callable[..., Daemon], tmp_path: Path
) -> None:
    models = tmp_path / "models"
    add_plus(models)
    daemon = start(*POLL, "--socket", str(tmp_path / "socket"))
    daemon.until(lambda: daemon.get("/readyz")[0] == 200, "the first model")
    with Client(daemon.grpc) as client, Client(f"unix:{tmp_path / 'socket'}") as near:
        assert added(client) == 1
        add_plus(models, "more", 100.0)
        daemon.until(lambda: client.model_ready("more"), "a new model")
        assert added(client, "more") == 100
        make_add(str(models / ".new"), 2.0, ("N", "M"))
        os.replace(models / ".new", models / "plus/1/model.onnx")
        daemon.until(lambda: added(client) == 2, "the model's new file")
        (models / "plus/1/model.onnx").write_bytes(b"this is no model")
        # With the colon: the report at the start may say that it is "not loaded yet".
        daemon.until(lambda: "model plus is not loaded:" in daemon.log, "the failure")
        assert added(client) == 2
        assert daemon.get("/readyz")[0] == 200
        shutil.rmtree(models / "more")
        daemon.until(lambda: not client.model_ready("more"), "the model to go")
        assert client.ready()
        assert daemon.get("/readyz")[0] == 200
        assert daemon.log.count("model plus is not loaded:") == 1, daemon.log
        with pytest.raises(Unimplemented, match="model_control_mode poll"):
            near.load("plus")


def test_a_half_copied_model_is_never_loaded(
    start: Callable[..., Daemon], tmp_path: Path
) -> None:
    models = tmp_path / "models"
    add_plus(models)
    make_add(str(tmp_path / "whole"), 7.0, ("N", "M"))
    content = (tmp_path / "whole").read_bytes()
    daemon = start(*POLL)
    with Client(daemon.grpc) as client:
        (models / "late/1").mkdir(parents=True)
        with (models / "late/1/model.onnx").open("wb", buffering=0) as file:
            file.write(content[: len(content) // 2])
            # Others that come later are loaded meanwhile: the settle time has long passed.
            for name in ("one", "two"):
                add_plus(models, name)
                daemon.until(partial(client.model_ready, name), "another model")
            (status,) = [status for status in client.models() if status.name == "late"]
            assert (status.state, status.reason) == ("UNAVAILABLE", "unloaded")
            assert "late" not in daemon.log
            file.write(content[len(content) // 2 :])
        daemon.until(lambda: client.model_ready("late"), "the whole model")
        assert added(client, "late") == 7
        assert "late is not loaded" not in daemon.log


def test_a_link_that_is_swapped_is_one_change(
    start: Callable[..., Daemon], tmp_path: Path
) -> None:
    """As Kubernetes mounts configuration: every name leads through one link."""
    models = tmp_path / "models"
    for number in (1, 2):
        make_add(str(tmp_path / "file"), float(number), ("N", "M"))
        folder = models / f"..{number}" / "plus" / "1"
        folder.mkdir(parents=True)
        shutil.move(tmp_path / "file", folder / "model.onnx")
    (models / "..data").symlink_to("..1")
    (models / "plus").symlink_to("..data/plus")
    daemon = start(*POLL)
    with Client(daemon.grpc) as client:
        daemon.until(lambda: client.model_ready("plus"), "the first model")
        assert added(client) == 1
        (models / "..new").symlink_to("..2")
        os.replace(models / "..new", models / "..data")
        daemon.until(lambda: added(client) == 2, "the other model")
    assert daemon.log.count("model plus is loaded") <= 2
