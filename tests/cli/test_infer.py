import json

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from trtserve.cli.infer import infer
from trtserve.errors import OperatorError

app = Typer()
app.command()(infer)


@pytest.fixture
def run(address):
    return lambda *arguments: CliRunner().invoke(app, [*arguments, "--address", address])


def test_a_file_goes_in_and_comes_out_again(run, server, tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "x.npy", array)
    result = run(
        "echo", "--input", f"x=@{tmp_path}/x.npy", "--output-dir", str(tmp_path / "out"),
        "--version", "2", "--output", "x", "--deadline", "20",
    )
    assert result.exit_code == 0, result.output
    assert "echo version 2" in result.output
    assert ["x", "FP32", "[2,", "3]", "0", "5", "2.5"] in [
        line.split() for line in result.output.splitlines()
    ]
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "x.npy"), array)
    (request,) = server.requests
    assert request.model_version == "2"
    assert [output.name for output in request.outputs] == ["x"]


def test_json_describes_the_outputs_and_the_receipt(run, tmp_path):
    result = run(
        "echo", "--input", "x=zeros:1x3", "--input", "names=random:4", "--receipt", "--json",
        "--output-dir", str(tmp_path),
    )
    assert json.loads(result.output) == {
        "model": "echo",
        "version": "1",
        "outputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 3], "min": 0.0, "max": 0.0,
             "mean": 0.0, "file": f"{tmp_path}/x.npy"},
            {"name": "names", "datatype": "BYTES", "shape": [4], "file": f"{tmp_path}/names.npy"},
        ],
        "receipt": {"queue_us": 12, "variant": "model.onnx"},
    }


def test_the_receipt_is_a_table_too(run):
    result = run("echo", "--input", "x=zeros:0x3", "--receipt")
    lines = [line.split() for line in result.output.splitlines()]
    assert ["queue_us", "12"] in lines
    assert ["x", "FP32", "[0,", "3]", "-", "-", "-"] in lines


@pytest.mark.parametrize(
    ("arguments", "problem", "cure"),
    [
        (("missing", "--input", "x=zeros:3"), "no model 'missing'", ""),
        (("echo", "--input", "y=zeros:3"), "no input 'y'", "x FP32[-1, 3], names BYTES[-1]"),
        (("echo", "--input", "x=zeros:3", "--input", "x=zeros:3"), "given twice", "once"),
        (("echo", "--input", "x=3"), "another form", "NAME=@FILE.npy"),
        (("echo", "--input", "x=@none.npy"), "none.npy can not be read", "numpy.save"),
    ],
)
def test_errors_have_a_cause_and_a_cure(run, arguments, problem, cure):
    error = run(*arguments).exception
    assert isinstance(error, OperatorError)
    assert problem in error.problem
    assert cure in error.cure


def test_an_overloaded_daemon_says_when_to_come_back(run, server):
    server.refusals = 99
    error = run("busy", "--input", "x=zeros:3").exception
    assert isinstance(error, OperatorError)
    assert error.cure == "Try again in 0.02 s"
