"""`trtserve golden record`: what is written, where, and what is never replaced."""

import json

import ml_dtypes
import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from trtserve.cli.golden import record
from trtserve.cli.tensor_file import storable
from trtserve.errors import ConfigurationError, OperatorError, RepositoryError
from trtserve.model.golden import arrange, as_expected, read_golden
from trtserve.model.spec import ShapeRange, TensorSpec, VariantSpec, VersionSpec

app = Typer()
app.command()(record)

TENSORS = (TensorSpec("x", "FP32", (-1, 3)), TensorSpec("names", "BYTES", (-1,)))
RANGES = (ShapeRange((0, 3), (-1, 3)), ShapeRange((0,), (-1,)))
SPEC = VersionSpec("echo", 1, "", (VariantSpec("m", TENSORS, TENSORS, RANGES),))

INPUTS = ("--input", "x=random:2x3", "--input", "names=random:4")


@pytest.fixture
def run(address):
    return lambda *arguments: CliRunner().invoke(app, [*arguments, "--address", address])


def test_a_case_holds_what_was_sent_and_what_came(run, tmp_path):
    path = tmp_path / "golden" / "a.npz"
    result = run("echo", *INPUTS, "--output", str(path))
    assert result.exit_code == 0, result.output
    assert f"wrote {path}" in result.output
    lines = [line.split()[:5] for line in result.output.splitlines()]
    assert ["input", "x", "FP32", "[2,", "3]"] in lines
    assert ["expected", "names", "BYTES", "[4]", "-"] in lines
    (case,) = read_golden(tmp_path, SPEC).cases
    x, names = arrange(case, SPEC)
    np.testing.assert_array_equal(as_expected(case, TENSORS[0]), x)
    assert x.shape == (2, 3)
    assert as_expected(case, TENSORS[1]).tolist() == names.tolist()
    assert list(path.parent.iterdir()) == [path]


def test_only_some_outputs_of_a_version_may_be_expected(run, server, tmp_path):
    result = run(
        "echo", *INPUTS, "--output", str(tmp_path / "a.npz"), "--expect", "names",
        "--version", "2", "--json",
    )
    (request,) = server.requests
    assert [output.name for output in request.outputs] == ["names"]
    found = json.loads(result.output)
    assert (found["file"], found["model"], found["version"]) == (
        str(tmp_path / "a.npz"), "echo", "2",
    )
    assert [tensor["name"] for tensor in found["inputs"]] == ["x", "names"]
    assert found["inputs"][0]["shape"] == [2, 3]


def test_in_a_repository_it_goes_to_the_version_that_answered(run, tmp_path):
    (tmp_path / "echo" / "1").mkdir(parents=True)
    result = run("echo", *INPUTS, "--output", "a.npz", "--repository", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert len(read_golden(tmp_path / "echo" / "1", SPEC).cases) == 1
    error = run(
        "echo", *INPUTS, "--output", "a.npz", "--repository", str(tmp_path), "--version", "2"
    ).exception
    assert isinstance(error, RepositoryError)
    assert "version 2 of echo answered" in error.problem
    for strange in ("../echo/1", "stable"):
        error = run(
            "echo", *INPUTS, "--output", "b.npz", "--repository", str(tmp_path),
            "--version", strange,
        ).exception
        assert isinstance(error, RepositoryError)
    assert not list(tmp_path.rglob("b.npz"))


@pytest.mark.parametrize("home", [True, False])
def test_a_file_that_is_there_is_replaced_only_by_force(run, server, tmp_path, home):
    folder = tmp_path / "echo" / "1" / "golden"
    folder.mkdir(parents=True)
    path = folder / "a.npz"
    path.write_bytes(b"mine")
    where = ("--output", "a.npz", "--repository", str(tmp_path)) if home else (
        "--output", str(path),
    )
    error = run("echo", *INPUTS, *where).exception
    assert isinstance(error, ConfigurationError)
    assert error.where == str(path)
    assert "--force" in error.cure
    assert path.read_bytes() == b"mine"
    assert run("echo", *INPUTS, *where, "--force").exit_code == 0
    assert len(read_golden(folder.parent, SPEC).cases) == 1


@pytest.mark.parametrize(
    ("arguments", "problem", "cure"),
    [
        (("--output", "a.npy"), "'a.npy' is no name", "ends in .npz"),
        (("--output", ".a.npz"), "'.a.npz' is no name", "not begin with a dot"),
        (("--output", "b/a.npz", "--repository", "r"), "has a folder", "--output a.npz"),
        (("--output", "a.npz", "--input", "y=zeros:1"), "no input 'y'", "x FP32"),
        (("--output", "a.npz", "--input", "x"), "another form", "NAME=@FILE.npy"),
        (("--output", "/proc/none/a.npz"), "can not be written", "may write"),
    ],
)
def test_errors_have_a_cause_and_a_cure(run, tmp_path, monkeypatch, arguments, problem, cure):
    monkeypatch.chdir(tmp_path)
    error = run("echo", *INPUTS, *arguments).exception
    assert isinstance(error, OperatorError)
    assert problem in error.problem
    assert cure in error.cure
    assert not list(tmp_path.rglob("*.npz"))


def test_strings_that_numpys_files_would_cut_are_refused(run, tmp_path):
    np.save(tmp_path / "n.npy", np.array([b"a"], "S1"))
    fine = run("echo", "--input", f"names=@{tmp_path}/n.npy", "--input", "x=zeros:1x3",
               "--output", str(tmp_path / "a.npz"))
    assert fine.exit_code == 0
    with pytest.raises(ConfigurationError, match="'names' has strings that end in a zero byte"):
        storable("names", np.array([b"a\0", b"b"], np.object_))
    assert storable("names", np.array(["é"], np.object_)).tolist() == ["é"]
    assert storable("b", np.ones(2, ml_dtypes.bfloat16)).dtype == np.float32
