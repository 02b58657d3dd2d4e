"""The images' own steps, run in a folder: what they install serves, and is small."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker.dockerfile import parse
from tests.e2e.daemon_process import running
from tests.e2e.repositories import add_plus
from tools.image_size import BASE_MB, BEGIN, END, PAGE, build_wheel, install, measure, table

ROOT = Path(__file__).parents[2]
TARGET_MB = 300
"""The whole CPU image, unpacked."""


def health_command():
    _, stages = parse(ROOT / "docker" / "Dockerfile.cpu")
    return stages[-1].last("HEALTHCHECK").exec_form


def health(port):
    """The exit code of the image's health check, for a daemon at that port."""
    _, *arguments = health_command()
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True,
        env={**os.environ, "TRTSERVE_HTTP_PORT": str(port)},
    )
    return done.returncode


@pytest.mark.e2e
def test_the_health_check_tells_ready_from_not_ready(tmp_path):
    add_plus(tmp_path / "models")
    with running(tmp_path / "models", tmp_path) as daemon:
        port = daemon.ready["http"].rpartition(":")[2]
        assert health(port) == 0
    assert health(port) != 0  # nobody listens any more


@pytest.mark.e2e
def test_the_health_check_sees_a_model_that_does_not_load(tmp_path):
    add_plus(tmp_path / "models")
    broken = tmp_path / "models" / "broken" / "1" / "model.onnx"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no model")
    with running(tmp_path / "models", tmp_path) as daemon:
        assert health(daemon.ready["http"].rpartition(":")[2]) != 0


def documented():
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0]


def test_the_documented_size_is_under_the_target():
    *_, last = [line for line in documented().splitlines() if line.startswith("|")]
    assert int(last.split("**")[3]) < TARGET_MB


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """/opt/trtserve, as the CPU image has it."""
    folder = tmp_path_factory.mktemp("image")
    install(build_wheel(folder), "cpu", folder / "trtserve")
    return folder / "trtserve"


@pytest.mark.slow
def test_the_cpu_image_is_small(image):
    layer = measure(image)
    assert layer.total / 1e6 + BASE_MB < TARGET_MB, table(layer)
    assert not list(image.rglob("pip")), "pip is not needed to serve"


@pytest.mark.slow
@pytest.mark.e2e
def test_what_is_installed_serves_and_stops(image, tmp_path):
    """By the entry point, with the image's command and with nothing else of this machine."""
    add_plus(tmp_path / "models")
    with subprocess.Popen(
        [image / "bin" / "trtserve", "serve"], cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True, env={
            "PATH": f"{image / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path),
            "PYTHONDONTWRITEBYTECODE": "1", "TRTSERVE_REPOSITORY": str(tmp_path / "models"),
            "TRTSERVE_GRPC_PORT": "0", "TRTSERVE_HTTP_PORT": "0", "TRTSERVE_DEVICES": "cpu",
        },
    ) as process:
        try:
            assert process.stdout is not None
            seen = ""
            while "plus" not in seen and (line := process.stdout.readline()):
                seen += line
            assert "plus" in seen, seen
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=60)
            assert process.returncode == 0, seen + rest
        finally:
            process.kill()
    done = subprocess.run(
        [image / "bin" / "trtserve", "check", str(tmp_path / "models")], capture_output=True,
        text=True, env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(tmp_path / "models")
