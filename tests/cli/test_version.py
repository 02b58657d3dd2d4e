import json
import sys

from typer import Typer
from typer.testing import CliRunner

from trtserve import __version__
from trtserve.cli import version

app = Typer()
app.command()(version.version)


def test_the_table_names_every_component():
    result = CliRunner().invoke(app)
    assert result.exit_code == 0
    lines = dict(line.split(None, 1) for line in result.output.splitlines())
    assert lines["trtserve"].strip() == __version__
    assert lines["python"].strip() == sys.version.split()[0]
    assert set(version.PACKAGES) <= set(lines)


def test_what_is_absent_is_said(monkeypatch):
    monkeypatch.setattr(version, "PACKAGES", ("numpy", "no-such-package"))
    assert "not installed" in CliRunner().invoke(app).output
    described = json.loads(CliRunner().invoke(app, ["--json"]).output)
    assert described["no-such-package"] is None
    assert described["numpy"]
