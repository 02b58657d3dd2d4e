"""The start-up report, and the shapes of output that all commands share."""

import dataclasses
import json

import msgspec

from tests.supervisor.snapshots import NASTY, snapshot
from trtserve.cli import output
from trtserve.cli.devices import Choice, Unused
from trtserve.cli.report import report, report_json
from trtserve.config import Settings
from trtserve.errors import InvalidRequest, OperatorError
from trtserve.model.spec import ModelState

CHOICE = Choice(
    ("cpu", "cuda:1"), "cpu, cuda:1 (not used: cuda:0: it is old)",
    unused=(Unused("cuda:0", "it is old"),),
)
SETTINGS = Settings(repository="/models")


def test_the_report_says_what_is_served_and_what_is_not(capsys):
    report(CHOICE, SETTINGS, snapshot())
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "Models in /models"
    (toy,) = [line for line in lines if line.startswith("toy")]
    assert toy.split() == [
        "toy", "1", "ready", "0.25", "s", "8,", "24", "MiB", "8", "model:", "x", "FP32[1..8,", "3]",
    ]
    assert "<script>& version 1 does not serve: a <b> reason" in lines
    assert "devices cpu, cuda:1 (not used: cuda:0: it is old)" in lines
    assert "lanes   1.5 on cpu" in lines
    assert "gRPC    127.0.0.1:8001 and unix:/run/x.sock" in lines
    assert lines[-1] == "Serving, but not ready: 1 of 2 models do not serve."
    assert NASTY.count("\n") == 1


def test_the_report_of_a_ready_daemon(capsys):
    ready = snapshot()
    ready = type(ready)(
        ready.addresses, True, (), ready.processes, ready.models[1:], ready.statistics
    )
    report(CHOICE, SETTINGS, ready)
    assert capsys.readouterr().out.endswith("Ready.\n")


def on_two_devices(**changes):
    """A snapshot in which a second worker has the models too, some of them in another way."""
    found = snapshot()
    second = [
        msgspec.structs.replace(update, **changes) if update.model == "toy" else update
        for update in found.models
    ]
    both = sorted((*found.models, *second), key=lambda update: update.model)
    return dataclasses.replace(found, models=tuple(both))


def test_a_model_on_several_devices_is_reported_once(capsys):
    report(CHOICE, SETTINGS, on_two_devices(load_seconds=3.5, warnings=("mind this",)))
    lines = capsys.readouterr().out.splitlines()
    (toy,) = [line for line in lines if line.startswith("toy")]
    assert "3.50 s" in toy  # the longer of the two
    assert len([line for line in lines if "does not serve" in line]) == 1
    assert lines.count("warning: toy version 1: mind this") == 1
    assert lines[-1] == "Serving, but not ready: 1 of 2 models do not serve."
    report_json(CHOICE, SETTINGS, on_two_devices())
    assert len(json.loads(capsys.readouterr().out)["models"]) == 2


def test_a_model_that_one_device_does_not_serve_is_reported_twice(capsys):
    gone = on_two_devices(state=ModelState.UNAVAILABLE, reason="no room", spec=None)
    report(CHOICE, SETTINGS, gone)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines if line.startswith("toy")] == [
        "ready", "unavailable"
    ]
    assert "model toy version 1 does not serve: no room" in lines


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
    report_json(CHOICE, SETTINGS, snapshot())
    found = json.loads(capsys.readouterr().out)
    assert found["repository"] == "/models"
    assert msgspec.convert(found["devices"], Choice) == CHOICE
    assert found["devices"]["unused"] == [{"device": "cuda:0", "reason": "it is old"}]
    assert found["addresses"]["grpc"] == snapshot().addresses.grpc
    assert [model["name"] for model in found["models"]] == [
        update.model for update in snapshot().models
    ]
    assert found["ready"] is snapshot().ready
    served = [model for model in found["models"] if model["state"] == "READY"]
    assert all(model["variants"] for model in served)
    assert all(model["reason"] for model in found["models"] if model not in served)
