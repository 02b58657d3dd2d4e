"""The settings of `trtserve serve`: every flag, and what is stronger than what."""

import functools
import inspect

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from trtserve.cli import serve
from trtserve.config import Settings
from trtserve.errors import ConfigurationError

NAMES = [name for name in Settings.__struct_fields__ if name != "repository"]


@pytest.fixture
def parse():
    """Parse a command line as `serve` does: the settings, before devices are looked for."""
    found = []

    @functools.wraps(serve.serve)  # its parameters too
    def look(context, **_):
        found.append(serve.settings(context))

    app = typer.Typer()
    app.command()(look)

    def parse(*arguments, **environment):
        result = CliRunner().invoke(app, arguments, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return found.pop()

    return parse


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "trtserve.toml"

    def write(text):
        path.write_text(text)
        return str(path)

    return write


def test_the_defaults_are_those_of_the_settings(parse):
    assert parse("models") == Settings(repository="models")


def test_every_setting_has_a_variable_and_help():
    parameters = inspect.signature(serve.serve).parameters
    for name in NAMES:
        option = parameters[name].annotation.__metadata__[0]
        assert option.envvar == f"TRTSERVE_{name.upper()}"
        assert option.help.endswith(".")
        assert option.rich_help_panel, f"{name} stands under no heading of --help"
    assert set(parameters) == {*NAMES, "repository", "context", "config", "json"}


SWITCHES = [name for name in NAMES if isinstance(getattr(Settings(repository=""), name), bool)]


@pytest.mark.parametrize("name", SWITCHES)
def test_switches(parse, file, name):
    path = file(f"{name} = true\n")
    variable = f"TRTSERVE_{name.upper()}"
    assert getattr(parse("models", "--config", path), name)
    assert not getattr(parse("models", "--config", path, **{variable: "false"}), name)
    assert getattr(parse("models", f"--{name.replace('_', '-')}", **{variable: "false"}), name)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SWITCHES])
def test_flag_over_environment_over_file_over_default(parse, file, name):
    default = getattr(Settings(repository=""), name)
    choices = {
        "log_level": ("debug", "warning", "error"), "log_format": ("json",) * 3,
        "model_control_mode": ("explicit", "poll", "explicit"),
        "devices": ("cpu", "all", "cuda:0,cuda:1"),
        "arena_bytes": (2**29 + 1, 2**29 + 2, 2**29 + 3),
        "otlp_endpoint": ("http://a", "https://b", "http://c:4318/v1/traces"),
        "trace_sample_ratio": (0.1, 0.2, 0.3),
    }
    values = choices.get(
        name, (11, 12, 13) if isinstance(default, int | float) else ("aa", "bb", "cc")
    )
    path = file(f"{name} = {values[0]!r}\n")
    flag, variable = f"--{name.replace('_', '-')}", f"TRTSERVE_{name.upper()}"
    by_file = parse("models", "--config", path)
    assert getattr(by_file, name) == values[0]
    environment = {"TRTSERVE_CONFIG": path, variable: str(values[1])}
    assert getattr(parse("models", **environment), name) == values[1]
    by_flag = parse("models", flag, str(values[2]), **environment)
    assert by_flag == msgspec.structs.replace(
        Settings(repository="models"), **{name: values[2]}
    )


def test_the_repository_too(parse, file):
    path = file("repository = 'file'")
    assert parse("--config", path).repository == "file"
    environment = {"TRTSERVE_REPOSITORY": "environment", "TRTSERVE_CONFIG": path}
    assert parse(**environment).repository == "environment"
    assert parse("flag", **environment).repository == "flag"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grpc_prot = 1", "grpc_prot: there is no such setting. Did you mean grpc_port?"),
        ("grpc-port = 1", "grpc-port: there is no such setting. Did you mean grpc_port?"),
        ("x = 1", "x: there is no such setting. `trtserve serve --help`"),
        ("grpc_port = '1'", "grpc_port: Expected `int`, got `str`"),
        ("host = 1", "host: Expected `str`, got `int`"),
        ("[serve]\nhost = 'a'", "serve: there is no such setting"),
        ("\nhost = oops\n", "it is not TOML: Invalid value (at line 2, column 8)"),
    ],
)
def test_mistakes_in_the_file_are_named_with_it(parse, file, text, words):
    path = file(text)
    with pytest.raises(ConfigurationError) as caught:
        parse("models", "--config", path)
    assert str(caught.value).startswith(path)
    assert words in str(caught.value)


def test_no_such_file(parse):
    with pytest.raises(ConfigurationError, match=r"none\.toml: it can not be read: No such file"):
        parse("models", "--config", "none.toml")


def test_values_that_can_not_work_are_refused(parse):
    with pytest.raises(ConfigurationError, match="front_ends: -1 is negative"):
        parse("models", "--front-ends", "-1")
