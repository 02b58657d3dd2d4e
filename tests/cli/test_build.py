import json
import os
import shlex
import signal
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.build.test_builder import OCR
from trtserve.cli.main import app
from trtserve.errors import ConfigurationError, ModelLoadError, RepositoryError
from trtserve.model.plan_fit import rebuild_command
from trtserve.model.plan_manifest import read_manifest
from trtserve.testing.models import make_add, make_matmul


class Desk:
    """A model, and a folder to build into."""

    def __init__(self, folder):
        self.folder = folder
        self.repository = folder / "models"
        self.model = folder / "my net.onnx"
        make_add(str(self.model), 1.0, ("N", 3, "H", "W"))

    def arguments(self, *extra, sizes="16,32"):
        common = ["--repository", str(self.repository), "--cache", str(self.folder / "cache")]
        return ["build", str(self.model), *common, *(["--sizes", sizes] if sizes else []), *extra]

    def run(self, *extra, **options):
        # Wide, so that no word of a table is broken.
        return CliRunner().invoke(app, self.arguments(*extra, **options), env={"COLUMNS": "300"})

    def described(self, *extra, **options):
        result = self.run(*extra, "--json", **options)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def failed(result, kind):
    assert isinstance(result.exception, kind), result.output
    return result.exception


def test_a_build_says_what_it_made_and_what_comes_next(desk):
    result = desk.run("--batch", "1,2,4", "--split")
    assert result.exit_code == 0, result.output
    out = result.stdout
    assert f"Plans in {desk.repository}/my_net/1" in out
    assert "16.plan" in out
    assert "32: x[1..4, 3, 32, 32]" in out
    assert "[2, 3, 32, 32]" in out
    assert f"Next: trtserve check {desk.repository}" in out
    assert f"trtserve serve {desk.repository}" in out
    assert "from the cache" not in out
    assert "Building 16.plan" in result.stderr
    again = desk.run("--batch", "1,2,4", "--split").stdout
    assert again.count("there already") == 2
    assert f"Plans in {desk.repository}/my_net/1" in again
    other = desk.run("--batch", "1,2,4", "--split", "--version", "5").stdout
    assert other.count("from the cache") == 2
    changed = desk.run("--batch", "1,2,8", "--split").stdout
    assert "Version 6 is new" in changed


def test_paths_under_the_current_folder_are_relative(desk, monkeypatch):
    monkeypatch.chdir(desk.folder)
    out = desk.run().stdout
    assert "Plans in models/my_net/1\n" in out
    assert "trtserve check models\n" in out


def test_json_has_the_same(desk):
    made = desk.described("--name", "net", "--version", "7")
    (plan,) = made["plans"]
    assert made["folder"] == f"{desk.repository}/net/7"
    assert (plan["file"], plan["cached"], plan["unchanged"]) == ("net.plan", False, False)
    assert [profile["name"] for profile in plan["profiles"]] == ["16", "32"]
    assert desk.described("--name", "net", "--version", "7")["plans"][0]["unchanged"]


def test_every_option_reaches_the_request(desk):
    make_matmul(str(desk.model), 64, 32)
    np.savez(desk.folder / "s.npz", x=np.ones((4, 64), np.float32))
    desk.described(
        "--profile", "x=1x64,2x64,4x64", "--profile", "x=8x64", "--precision", "fp16",
        "--samples", str(desk.folder / "s.npz"), "--fix", "--level", "4", "--workspace", "64",
        "--module", "tensorrt_rtx", "--compute-capability", "sm86,SM120", "--split", "--name", "n",
        sizes="",
    )
    manifest = read_manifest(desk.repository / "n/1/profile-1.plan")
    assert manifest is not None
    words = shlex.split(rebuild_command(manifest))
    assert words == [
        "trtserve", "build", str(desk.model), "--repository", str(desk.repository), "--name", "n",
        "--version", "1", "--profile", "x=1x64,2x64,4x64", "--profile", "x=8x64", "--split",
        "--precision", "fp16", "--samples", str(desk.folder / "s.npz"), "--fix", "--level", "4",
        "--workspace", "64", "--compute-capability", "SM86,SM120", "--module", "tensorrt_rtx",
        "--force",
    ]
    # The command line takes its own words.
    result = CliRunner().invoke(app, [*words[1:], "--cache", str(desk.folder / "cache")])
    assert result.exit_code == 0, result.output


def test_the_error_of_a_conversion_is_shown(desk):
    make_matmul(str(desk.model), 64, 32)
    out = desk.run("--precision", "fp16", sizes="").stdout
    assert "Compared with the model as it was, on generated" in out
    assert "relative error" in out


def test_lint_only_says_what_is_wrong_and_builds_nothing(desk):
    make_add(str(desk.model), 1.0, (1, 16))
    result = desk.run("--lint-only", sizes="")
    assert result.exit_code == 0
    assert "fixed-batch" in result.stdout
    assert "one image" in result.stdout
    assert not desk.repository.exists()
    found = json.loads(desk.run("--lint-only", "--json", sizes="").stdout)
    assert found["ok"]
    assert found["findings"][0]["code"] == "fixed-batch"
    assert "Nothing is wrong." in desk.run("--lint-only", "--fix", sizes="").stdout


def test_lint_only_needs_no_repository(desk):
    result = CliRunner().invoke(app, ["build", str(desk.model), "--lint-only", "--sizes", "16"])
    assert result.exit_code == 0, result.output


def test_errors_of_the_model_stop_the_build(desk):
    desk.model = OCR / "ch_ppocr_mobile_v2.0_cls_infer.onnx"
    shapes = "x=1x3x48x192,8x3x48x192,32x3x48x192"
    result = desk.run("--profile", shapes, sizes="")
    assert result.exit_code == 1
    assert "shared-symbol" in result.stdout
    assert "Not built" in result.stdout
    assert desk.run("--lint-only", "--profile", shapes, sizes="").exit_code == 1
    assert not desk.repository.exists()
    assert desk.run("--profile", shapes, "--fix", sizes="").exit_code == 0


@pytest.mark.parametrize(
    ("extra", "where"),
    [
        (["--profile", "x=1x3x16x16"], "profile"),
        (["--batch", "one"], "batch"),
        (["--name", "../x"], "name"),
        (["--samples", "my net.onnx"], "samples"),
        (["--compute-capability", "SM90"], "compute_capability"),
        (["--hardware-compatibility", "ampere_plus"], "hardware_compatibility"),
        (["--version-compatible"], "version_compatible"),
    ],
)
def test_what_can_not_be_is_refused_with_the_option(desk, extra, where, monkeypatch):
    monkeypatch.chdir(desk.folder)
    error = failed(desk.run(*extra, "--module", "tensorrt_rtx"), ConfigurationError)
    assert error.where == where
    assert error.cure


def test_a_repository_is_needed_to_build(desk):
    result = CliRunner().invoke(app, ["build", str(desk.model)], env={"TRTSERVE_REPOSITORY": None})
    assert failed(result, ConfigurationError).where == "repository"


def test_a_plan_that_is_there_is_not_lost(desk):
    desk.described("--name", "net", "--version", "1")
    result = desk.run("--name", "net", "--version", "1", "--batch", "1,2,4")
    assert "--force" in failed(result, RepositoryError).cure
    assert desk.run("--name", "net", "--version", "1", "--batch", "1,2,4", "--force").exit_code == 0


def test_a_file_that_is_no_model_is_named(desk):
    desk.model.write_text("nonsense")
    assert failed(desk.run(), ModelLoadError).where == str(desk.model)


def test_a_failed_build_names_the_reason_and_the_model(desk):
    from trtserve.testing.models import make_product

    make_product(str(desk.model))
    error = failed(desk.run("--profile", "a=1x4;b=5x3", sizes=""), ModelLoadError)
    assert error.where == str(desk.model)
    assert not desk.repository.exists()


def test_check_knows_what_was_built(desk):
    desk.described("--name", "net")
    version = desk.repository / "net" / "1"
    (version / "net.onnx").write_bytes(desk.model.read_bytes())
    result = CliRunner().invoke(app, ["check", str(desk.repository), "--devices", "cpu", "--json"])
    checked = json.loads(result.stdout)
    assert result.exit_code == 0, checked
    assert [variant["name"] for variant in checked["versions"][0]["variants"]] == ["net.onnx"]
    assert "left out" in checked["findings"][0]["problem"]
    (version / "net.onnx").unlink()
    result = CliRunner().invoke(app, ["check", str(desk.repository), "--devices", "cpu", "--json"])
    assert result.exit_code == 1
    checked = json.loads(result.stdout)
    assert checked["versions"][0]["ok"] is False
    assert "GPUs only" in checked["findings"][0]["problem"]


def test_ctrl_c_ends_it_and_leaves_nothing_behind(desk):
    desk.model = OCR / "ch_PP-OCRv4_rec_infer.onnx"
    process = subprocess.Popen(
        [sys.executable, "-m", "trtserve", *desk.arguments(
            "--profile", "x=1x3x48x320,8x3x48x320,32x3x48x640", sizes="")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
    )
    assert process.stderr is not None
    # It takes a second from here on.
    while not process.stderr.readline().startswith("Building"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Nothing was written" in err
    assert out == ""
    assert not desk.repository.exists()
    assert not list((desk.folder / "cache" / "engines").iterdir())
