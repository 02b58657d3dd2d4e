"""`trtserve models load` and `unload`."""

import json

import pytest
from typer.testing import CliRunner

from trtserve.cli.main import app
from trtserve.errors import ConfigurationError, OperatorError


@pytest.fixture
def run(address):
    """Run `trtserve models` with arguments."""

    def run(*arguments):
        result = CliRunner().invoke(app, ["models", *arguments, "--address", address])
        if isinstance(result.exception, OperatorError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return run


def test_a_load_shows_what_became_of_the_model(run, server):
    lines = [line.split() for line in run("load", "echo").splitlines()]
    assert lines == [["model", "version", "state", "reason"], ["echo", "2", "READY"]]
    assert [change.model_name for change in server.changes] == ["echo"]
    assert not server.changes[0].parameters


def test_a_configuration_comes_from_a_file(run, server, tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"max_batch_size": 8}')
    run("load", "echo", "--config", str(path))
    assert server.changes[0].parameters["config"].string_param == '{"max_batch_size": 8}'


@pytest.mark.parametrize(
    ("text", "words"), [(None, "can not be read: No such file"), ("{", "it is not JSON")]
)
def test_a_bad_file_is_named_before_anything_is_asked(run, server, tmp_path, text, words):
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError, match=words) as error:
        run("load", "echo", "--config", str(path))
    assert error.value.where == str(path)
    assert server.changes == []


def test_json_for_programs(run):
    assert json.loads(run("unload", "broken", "--json")) == [
        {"name": "broken", "version": "1", "state": "UNAVAILABLE", "reason": "bad file"}
    ]


def test_a_model_that_is_not_in_the_repository_any_more(run, server):
    assert "other is not in the repository" in run("unload", "other")
    assert [change.model_name for change in server.changes] == ["other"]


def test_the_server_s_reason_is_the_error(run):
    with pytest.raises(OperatorError, match="model 'missing' is not loaded: bad") as error:
        run("load", "missing")
    assert error.value.where == "FAILED_PRECONDITION"


def test_options_may_stand_before_the_command_too(address):
    result = CliRunner().invoke(app, ["models", "--address", address, "--json", "load", "echo"])
    assert json.loads(result.output)[0]["name"] == "echo"


@pytest.mark.parametrize("before", [True, False])
def test_so_may_what_proves_who_calls(server, address, before):
    proof = ["--tls-ca", "missing.pem"]
    result = CliRunner().invoke(app, [
        "models", "--address", address, *proof * before, "load", *proof * (not before), "echo",
    ])
    assert isinstance(result.exception, OperatorError)
    assert "missing.pem can not be read" in str(result.exception)
    assert server.changes == []


def test_what_proves_who_calls_is_forgotten_afterwards(address):
    CliRunner().invoke(app, ["models", "--tls-ca", "missing.pem", "--address", address])
    assert CliRunner().invoke(app, ["models", "load", "echo", "--address", address]).exit_code == 0
