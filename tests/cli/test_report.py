"""The start-up report, and the shapes of output that all commands share."""

import json

import msgspec

from tests.supervisor.snapshots import NASTY, snapshot
from trtserve.cli import output
from trtserve.cli.report import report, report_json
from trtserve.config import Settings
from trtserve.errors import InvalidRequest, OperatorError


def test_the_report_says_what_is_served_and_what_is_not(capsys):
    report(Settings(repository="/models"), snapshot())
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "Models in /models"
    (toy,) = [line for line in lines if line.startswith("toy")]
    assert toy.split() == ["toy", "1", "ready", "0.25", "s", "8", "model:", "x", "FP32[1..8,", "3]"]
    assert "<script>& version 1 does not serve: a <b> reason" in lines
    assert "lanes   1.5 on cpu" in lines
    assert "gRPC    127.0.0.1:8001 and unix:/run/x.sock" in lines
    assert lines[-1] == "Serving, but not ready: 1 of 2 models do not serve."
    assert NASTY.count("\n") == 1


def test_the_report_of_a_ready_daemon(capsys):
    ready = snapshot()
    ready = type(ready)(
        ready.addresses, True, (), ready.processes, ready.models[1:], ready.statistics
    )
    report(Settings(repository="/models"), ready)
    assert capsys.readouterr().out.endswith("Ready.\n")


def test_brackets_are_text(capsys):
    output.print_table(("[a]",), [("[red]x[/red]",)])
    output.print_line("[bold]y")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["[a]", "[red]x[/red]", "[bold]y"]


def test_json_takes_structs(capsys):
    output.print_json([Settings(repository="r")])
    (settings,) = json.loads(capsys.readouterr().out)
    assert msgspec.convert(settings, Settings) == Settings(repository="r")


def test_errors_name_the_cause_and_the_cure(capsys):
    output.print_error(OperatorError("it is [wrong]", where="there", cure="Mend it"))
    output.print_error(InvalidRequest("no such input"))
    assert capsys.readouterr().err.splitlines() == [
        "error: there: it is [wrong]", "cure:  Mend it", "error: no such input",
    ]


def test_the_same_as_json(capsys):
    report_json(Settings(repository="/models"), snapshot())
    found = json.loads(capsys.readouterr().out)
    assert found["repository"] == "/models"
    assert found["addresses"]["grpc"] == snapshot().addresses.grpc
    assert [model["name"] for model in found["models"]] == [
        update.model for update in snapshot().models
    ]
    assert found["ready"] is snapshot().ready
    served = [model for model in found["models"] if model["state"] == "READY"]
    assert all(model["variants"] for model in served)
    assert all(model["reason"] for model in found["models"] if model not in served)
