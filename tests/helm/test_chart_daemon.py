"""What the chart renders, run: the real daemon with a container's arguments and variables."""

import stat
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.daemon_process import running
from tests.e2e.repositories import add_plus
from tests.helm.chart import SIDECARS, containers, environment
from trtserve.client import Client

pytestmark = pytest.mark.e2e


def mapped(container, folder: Path):
    """A container's variables, with its paths under `folder` and free ports.

    `running` gives the repository, the ports and the ready file by flags, which are stronger.
    """
    variables = environment(container)
    assert container["args"] == ["serve"]
    assert variables.pop("TRTSERVE_REPOSITORY") == "/models"
    path = folder / "run" / Path(variables["TRTSERVE_SOCKET"]).name
    path.parent.mkdir()
    return {**variables, "TRTSERVE_SOCKET": str(path), "HOME": str(folder)}, path


def test_the_deployment_s_container_serves(helm, tmp_path):
    add_plus(tmp_path / "models")
    values = {"gpu": {"enabled": False}, "settings": {"front_ends": 1, "arena_bytes": 1 << 28}}
    container = containers(helm.render(values))["trtserve"]
    variables, path = mapped(container, tmp_path)
    variables["TRTSERVE_DRAIN_DELAY_SECONDS"] = "0"  # nobody is there to notice
    with running(tmp_path / "models", tmp_path, environment=variables) as daemon:
        assert daemon.get(container["readinessProbe"]["httpGet"]["path"]) == (200, "ready\n")
        assert daemon.get(container["livenessProbe"]["httpGet"]["path"])[0] == 200
        assert daemon.ready["grpc"].startswith("0.0.0.0:")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert '"level"' in daemon.log  # log_format json
        with Client(f"unix:{path}", retry=False) as client:
            assert client.infer("plus", {"x": np.ones((1, 2), np.float32)})["y"].max() == 2


def test_the_sidecar_s_container_serves(helm, application, tmp_path):
    add_plus(tmp_path / "models")
    rendered = helm.render({"trtserve-sidecar": SIDECARS["sidecar"]}, application)
    variables, path = mapped(containers(rendered)["trtserve"], tmp_path)
    variables["TRTSERVE_SOCKET_GROUP"] = str(path.parent.stat().st_gid)  # a group that we are in
    with running(tmp_path / "models", tmp_path, environment=variables) as daemon:
        assert daemon.ready["http"].startswith("0.0.0.0:")
        assert daemon.ready["grpc"].startswith("127.0.0.1:")
        assert daemon.get("/readyz")[0] == 200
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with Client(f"unix:{path}", retry=False) as client:
            assert client.infer("plus", {"x": np.ones((1, 2), np.float32)})["y"].max() == 2
