import json

import pytest
from typer import Typer
from typer.testing import CliRunner

from tests.build.explain.plans import but, profile, write_plan
from tests.build.explain.test_explain_onnx import make_conv_relu
from tests.build.explain.test_explain_plan import times_file
from trtserve.cli.explain import explain
from trtserve.errors import ConfigurationError
from trtserve.testing.models import make_add

app = Typer()
app.command()(explain)


@pytest.fixture
def repository(tmp_path):
    """m: version 1 tuned for 8 images, version 2 for 16; net: an ONNX model."""
    root = tmp_path / "models"
    write_plan(root / "m" / "1" / "m.plan")
    write_plan(root / "m" / "2" / "m.plan", but(profiles=(profile(opt=16),)))
    (root / "net" / "1").mkdir(parents=True)
    make_conv_relu(root / "net" / "1" / "model.onnx")
    return root


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments), "--cpu"])


def test_a_model_of_the_repository(repository):
    result = run("m", "--repository", repository)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"{repository}/m/2/m.plan"
    assert "Layers that run" in result.stdout
    assert "4 nodes (and 1 constant) became 3 layers." in lines
    assert any("GPU" in line and "NVIDIA H200 (compute capability 9.0)" in line for line in lines)


def test_the_repository_may_come_from_the_environment(repository):
    result = CliRunner().invoke(
        app, ["m", "--version", "1"], env={"TRTSERVE_REPOSITORY": str(repository)}
    )
    assert result.stdout.splitlines()[0].endswith("m/1/m.plan")


def test_json_is_everything(repository):
    result = run("m/1", "--repository", repository, "--json")
    found = json.loads(result.stdout)
    assert found["comparisons"] == []
    (file,) = found["files"]
    assert file["totals"]["fused"] == 2
    assert file["profiles"][0]["shapes"]["x"]["opt"] == [8, 3, 224, 224]
    assert [layer["kind"] for layer in file["after"]] == ["Reformat", "CaskConvolution", "gemm"]


def test_an_onnx_model_is_run_and_measured(repository):
    result = run("net", "--repository", repository, "--run", "x=2x3x16x16", "--json")
    assert result.exit_code == 0, result.output
    (file,) = json.loads(result.stdout)["files"]
    assert {"conv", "relu"} in [set(layer["fused"]) for layer in file["after"]]
    assert sum(layer["time_share"] for layer in file["after"]) == pytest.approx(1)


def test_two_versions_are_compared(repository):
    result = run("m/1", "--against", "m/2", "--repository", repository)
    assert result.exit_code == 0, result.output
    line = next(one for one in result.stdout.splitlines() if "x opt" in one)
    assert "8x3x224x224" in line
    assert "16x3x224x224" in line
    assert result.stdout.splitlines()[-1] == (
        f"{repository}/m/1/m.plan against {repository}/m/2/m.plan: 1 difference; "
        "2 layers alike, 0 not."
    )


def test_only_what_has_a_counterpart_is_explained_when_comparing(repository):
    make_add(str(repository / "m" / "1" / "other.onnx"), 1.0)
    result = run("m/1", "--against", "m/2", "--repository", repository, "--json")
    found = json.loads(result.stdout)
    assert [file["name"] for file in found["files"]] == ["m.plan"]
    assert found["comparisons"][0]["differences"][0]["what"] == "profile 0, x opt"


def test_a_page_is_written_too(repository, tmp_path):
    target = tmp_path / "page.html"
    result = run("m/1", "--against", "m/2", "--repository", repository, "--html", target)
    assert result.stdout.splitlines()[-1] == f"wrote {target}"
    text = target.read_text()
    assert text.startswith("<!doctype html>")
    assert "Comparison" in text
    assert "<svg" in text


def test_json_stays_json_when_a_page_is_written(repository, tmp_path):
    result = run("m", "--repository", repository, "--html", tmp_path / "p.html", "--json")
    json.loads(result.stdout)


def test_times_are_of_one_plan(repository, tmp_path):
    times = times_file(tmp_path, {"name": "/fc/MatMul", "averageMs": 1.0})
    result = run("m/1", "--repository", repository, "--times", times)
    assert "100.0 %" in result.stdout
    write_plan(repository / "m" / "1" / "second.plan")
    result = run("m/1", "--repository", repository, "--times", times)
    assert isinstance(result.exception, ConfigurationError)
    assert "there are 2" in str(result.exception)


def test_a_page_that_can_not_be_written_is_said_before_anything_else(repository, tmp_path):
    result = run("nobody", "--repository", repository, "--html", tmp_path / "no" / "p.html")
    assert isinstance(result.exception, ConfigurationError)
    assert "there is no folder" in str(result.exception)
    result = run("m", "--repository", repository, "--html", tmp_path)
    assert "can not be written: Is a directory" in str(result.exception)


def test_a_profile_that_is_not_there_is_said(repository):
    result = run("m", "--repository", repository, "--profile", "3")
    assert isinstance(result.exception, ConfigurationError)
    assert "there is no profile 3" in str(result.exception)
