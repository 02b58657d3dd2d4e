import json

import pytest
from typer import Typer
from typer.testing import CliRunner

from tests.cli.chrome_trace import checked, track_names
from tests.client.timeline_server import TimelineServer, running
from trtserve.cli.timeline import timeline
from trtserve.clock import NS_PER_MS, NS_PER_S
from trtserve.errors import OperatorError
from trtserve.proto import trtserve_pb2 as v1

app = Typer()
app.command()(timeline)


def reply(device="cuda:0", missed=0, **fields):
    """One batch that takes 1 s of the recording, of which it computes 0.5."""
    return v1.TimelineReply(now_ns=2 * NS_PER_S, missed=missed, batches=[v1.TracedBatch(**{
        "device": device, "id": 1, "model": "m", "version": 1, "variant": "v",
        "rows": 3, "padded_rows": 4, "started_ns": NS_PER_S, "began_ns": NS_PER_S,
        "h2d_ns": 300 * NS_PER_MS, "compute_ns": 500 * NS_PER_MS, "d2h_ns": 200 * NS_PER_MS,
        "requests": [v1.TracedRequest(front_end="front end 1", id=1, arrived_ns=NS_PER_S - 5)],
        **fields,
    })])


@pytest.fixture
def run(tmp_path):
    def run(*replies, arguments=(), output=tmp_path / "trace.json"):
        with running(TimelineServer(*replies)) as address:
            return CliRunner().invoke(
                app, ["--address", address, "--output", str(output), *arguments]
            )

    return run


def test_it_writes_a_trace_and_prints_a_table(run, tmp_path):
    result = run(reply())
    assert result.exit_code == 0, result.output
    found = checked(json.loads((tmp_path / "trace.json").read_text()))
    assert track_names(found) == ["lane 0 H2D", "lane 0 compute", "lane 0 D2H"]
    lines = [line.split() for line in result.stdout.splitlines()]
    assert result.stdout.startswith("2.00 s: ")
    assert max(map(len, result.stdout.splitlines()[:3])) <= 80, "it fits a terminal"
    assert ["cuda:0", "1", "1", "3", "25.0", "%", "15.0", "%", "25.0", "%", "10.0", "%",
            "0.0", "%"] in lines
    assert f"wrote {tmp_path}/trace.json: open it at https://ui.perfetto.dev" in result.stdout
    assert "cpu" not in result.stdout
    assert "missing" not in result.stdout
    assert "failed" not in result.stdout
    assert result.stderr == "", "there is no progress bar where nobody looks"


def test_json_has_the_same_figures_unrounded(run, tmp_path):
    result = run(reply(missed=2), arguments=["--json", "--seconds", "4"])
    assert json.loads(result.stdout) == {
        "file": f"{tmp_path}/trace.json", "seconds": 4.0, "missed": 2, "devices": [{
            "device": "cuda:0", "batches": 1, "failed": 0, "requests": 1, "rows": 3,
            "padded": 0.25, "copy_in_busy": 0.075, "compute_busy": 0.125, "copy_out_busy": 0.05,
            "copies_hidden": 0.0,
        }],
    }


def test_it_says_what_copy_in_is_on_the_cpu(run):
    result = run(reply("cpu", h2d_ns=0, d2h_ns=0))
    assert "On cpu, copy in is the gathering of inputs" in result.stdout
    (row,) = (line.split() for line in result.stdout.splitlines() if line.startswith("cpu"))
    assert row[-1] == "-"


def test_it_says_what_is_missing_and_what_failed(run):
    assert "2 batches are missing" in run(reply(missed=2)).stdout
    assert "1 of the batches on cuda:0 failed" in run(reply(error="no")).stdout


def test_without_traffic_the_file_is_valid_and_the_command_succeeds(run, tmp_path):
    result = run()
    assert result.exit_code == 0
    assert "Nothing ran in these 2.00 s" in result.stdout
    assert not any(checked(json.loads((tmp_path / "trace.json").read_text())).values())


def test_the_server_says_which_times_are_good(run, tmp_path):
    error = run(arguments=["--seconds", "-1"]).exception
    assert isinstance(error, OperatorError)
    assert error.problem == "ask for more than 0"
    assert not (tmp_path / "trace.json").exists()


def test_without_a_daemon_the_error_names_the_address(tmp_path):
    address = f"unix:{tmp_path}/nobody"
    error = CliRunner().invoke(app, ["--address", address]).exception
    assert isinstance(error, OperatorError)
    assert f"no server answers at {address}" in error.problem


def test_a_file_that_can_not_be_written_is_the_operator_s(run, tmp_path):
    error = run(output=tmp_path / "nowhere" / "trace.json").exception
    assert isinstance(error, OperatorError)
    assert f"there is no folder {tmp_path}/nowhere" in error.problem
    error = run(output=tmp_path).exception
    assert isinstance(error, OperatorError)
    assert "can not be written: Is a directory" in error.problem
