"""`trtserve check` and golden cases: run where the engine loads here, read where it does not."""

import hashlib
import json
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from tests.model.test_plan_manifest import FULL
from trtserve.cli.check import check
from trtserve.cli.checking import Checked, Checker
from trtserve.cli.checking_golden import CheckedCase
from trtserve.cli.checking_plans import PlanChecker
from trtserve.device.host import HostDevice
from trtserve.engine.onnxruntime import OnnxRuntime
from trtserve.model.plan_manifest import encode_manifest, manifest_path
from trtserve.testing.models import make_add, make_identity

app = Typer()
app.command()(check)

Array: TypeAlias = np.ndarray[Any, Any]

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def add_case(version: Path, x: Array, y: Array, name: str = "a.npz", output: str = "y") -> Path:
    """A golden case."""
    path = version / "golden" / name
    path.parent.mkdir(exist_ok=True)
    arrays: dict[str, Any] = {"inputs/x": x, f"outputs/{output}": y}
    np.savez(path, **arrays)
    return path


@pytest.fixture
def version(tmp_path):
    """A version that adds 1 to x FP32[N, 3]."""
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    make_add(str(folder / "model.onnx"), 1.0, ("N", 3))
    return folder


def checked(version: Path, plans: PlanChecker | None = None) -> Checked:
    checker = Checker((OnnxRuntime(),), HostDevice(), ("cpu",), lambda _: None, plans)
    return checker.check(version.parents[1])


def test_cases_that_are_met_are_shown_in_the_table_and_in_json(version):
    add_case(version, X, X + 1)
    add_case(version, X[:1], X[:1] + 1, "b.npz")
    root = str(version.parents[1])
    result = CliRunner().invoke(app, [root, "--devices", "cpu"])
    assert result.exit_code == 0, result.output
    assert "golden cases" in result.stdout
    assert "a.npz ok" in result.stdout
    found = json.loads(CliRunner().invoke(app, [root, "--devices", "cpu", "--json"]).stdout)
    assert found["versions"][0]["golden"] == [
        {"name": name, "state": "ok", "variants": ["model.onnx"]} for name in ("a.npz", "b.npz")
    ]


def test_each_case_that_is_not_met_is_an_error(version):
    wrong = [add_case(version, X, X + 2, name) for name in ("a.npz", "c.npz")]
    add_case(version, X, X + 1, "b.npz")
    found = checked(version)
    assert not found.ok
    assert not found.versions[0].ok
    assert [(case.name, case.state) for case in found.versions[0].golden] == [
        ("a.npz", "wrong"), ("b.npz", "ok"), ("c.npz", "wrong"),
    ]
    assert [finding.where for finding in found.findings] == list(map(str, wrong))
    problem = found.findings[0].problem
    assert "variant model.onnx: output 'y' is 1.0 at [0, 0], where 2.0 is expected" in problem
    assert "write the case again" in found.findings[0].cure
    result = CliRunner().invoke(app, [str(version.parents[1]), "--devices", "cpu"])
    assert result.exit_code == 1
    assert "c.npz wrong" in result.stdout


def test_each_variant_that_takes_a_case_runs_it(version):
    make_add(str(version / "model.onnx"), 1.0, ("N", 3))
    make_add(str(version / "other.onnx"), 5.0, ("N", 3))
    make_add(str(version / "third.onnx"), 1.0, ("N", 4))
    add_case(version, X, X + 1)
    found = checked(version)
    assert found.versions[0].golden == (
        CheckedCase("a.npz", "wrong", ("model.onnx", "other.onnx")),
    )
    (finding,) = found.findings
    assert "variant other.onnx" in finding.problem


def test_strings_and_whole_shapes_without_a_batch(tmp_path):
    version = tmp_path / "text" / "1"
    version.mkdir(parents=True)
    make_identity(str(version / "model.onnx"), (2, 3), "BYTES")
    texts = np.array([["a", "", "é"], ["b", "c", "d"]])
    add_case(version, texts, texts)
    assert checked(version).versions[0].golden[0].state == "ok"
    add_case(version, texts, texts[::-1])
    assert checked(version).versions[0].golden[0].state == "wrong"


@pytest.mark.parametrize(("x", "output", "problem", "states"), [
    (X, "z", "no output 'z'", []),
    (X[:, :2], "y", "no variant takes x [2, 2]", ["wrong"]),
])
def test_a_case_that_does_not_fit_the_version_is_an_error(version, x, output, problem, states):
    add_case(version, x, X, output=output)
    found = checked(version)
    assert not found.versions[0].ok
    assert problem in found.findings[0].problem
    assert [case.state for case in found.versions[0].golden] == states


def test_plans_do_not_run_here_and_their_cases_are_read_all_the_same(tmp_path):
    version = tmp_path / "m" / "1"
    version.mkdir(parents=True)
    plan = version / "224.plan"
    plan.write_bytes(b"a plan")
    plan.chmod(0o644)
    manifest = msgspec.structs.replace(FULL, plan_sha256=hashlib.sha256(b"a plan").hexdigest())
    manifest_path(plan).write_bytes(encode_manifest(manifest))
    plans = PlanChecker((), {})
    (variant,) = plans.check(plan).variants
    assert [(each.name, each.datatype) for each in variant.inputs] == [("x", "FP16")]
    zeros = np.zeros(variant.ranges[0].min, np.float16)
    add_case(version, zeros, zeros, output=variant.outputs[0].name)
    found = checked(version, plans)
    assert found.versions[0].ok
    assert found.versions[0].golden == (CheckedCase("a.npz", "not run"),)
    add_case(version, zeros, zeros, output="none")
    found = checked(version, plans)
    assert not found.versions[0].ok
    assert "no output 'none'" in found.findings[-1].problem
