import json

from typer import Typer
from typer.testing import CliRunner

from trtserve.cli.models import models
from trtserve.errors import OperatorError

app = Typer()
app.command()(models)


def test_the_table_has_states_reasons_and_shapes(address):
    result = CliRunner().invoke(app, ["--address", address])
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    tensor = ["x", "FP32[-1,", "3]"]
    assert ["echo", "2", "stable", "(90)", "READY", *tensor, *tensor] in lines
    assert ["names", "BYTES[-1]"] in lines
    assert ["broken", "1", "UNAVAILABLE", "bad", "file"] in lines


def test_json_has_the_same(address):
    result = CliRunner().invoke(app, ["--address", address, "--json"])
    assert json.loads(result.output) == [
        {
            "name": "echo", "version": "2", "state": "READY", "reason": "",
            "labels": ["stable"], "weight": 90,
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [-1, 3]},
                {"name": "names", "datatype": "BYTES", "shape": [-1]},
            ],
            "outputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        },
        {
            "name": "broken", "version": "1", "state": "UNAVAILABLE", "reason": "bad file",
            "labels": [], "weight": None,
            "inputs": [], "outputs": [],
        },
    ]


def test_without_a_daemon_the_error_names_the_address(tmp_path):
    address = f"unix:{tmp_path}/nobody"
    result = CliRunner().invoke(app, ["--address", address])
    assert isinstance(result.exception, OperatorError)
    assert f"no server answers at {address}" in result.exception.problem
