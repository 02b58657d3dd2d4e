"""Scanning repositories: what is found, and what each mistake is told."""

import os
from pathlib import Path

import pytest

from trtserve.model.layout import model_folders
from trtserve.model.repository import Repository, read_model, scan
from trtserve.model.version_folder import without_plans

SUFFIXES = (".onnx",)


def put(root: Path, *files: str, content: bytes = b"\x08\x07onnx") -> None:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def configure(root: Path, model: str, text: str, name: str = "config.pbtxt") -> None:
    put(root, f"{model}/{name}", content=text.encode())


def only_finding(repository: Repository):
    (finding,) = repository.findings
    assert finding.cure
    assert str(finding).startswith(finding.where)
    return finding


def test_models_versions_and_variants(tmp_path):
    put(tmp_path, "det/1/b.onnx", "det/1/a.onnx", "det/1/weights.bin", "cls/3/model.onnx",
        "cls/2/model.onnx", "cls/labels.txt", ".git/1/x.onnx", "det/.cache/1/x.onnx",
        "det/1/.hidden.onnx", "README.md")
    (tmp_path / "lost+found").mkdir()
    repository = scan(tmp_path, SUFFIXES)
    assert repository.findings == ()
    assert [model.name for model in repository.models] == ["cls", "det"]
    cls, det = repository.models
    assert [version.version for version in cls.versions] == [3]
    assert [file.name for file in det.versions[0].files] == ["a.onnx", "b.onnx"]
    assert det.path == tmp_path / "det"
    assert det.versions[0].path == tmp_path / "det" / "1"
    assert det.configuration is not None
    assert det.error == det.versions[0].error == ""


@pytest.mark.parametrize(("policy", "versions"), [
    ("", [10]), ("latest { num_versions: 2 }", [9, 10]), ("all {}", [2, 9, 10]),
    ("specific { versions: [10, 2] }", [2, 10]),
])
def test_the_version_policy_chooses(tmp_path, policy, versions):
    put(tmp_path, *(f"det/{number}/m.onnx" for number in (9, 10, 2)))
    configure(tmp_path, "det", f"version_policy {{ {policy} }}")
    (model,) = scan(tmp_path, SUFFIXES).models
    assert [version.version for version in model.versions] == versions


def test_a_specific_version_that_is_missing(tmp_path):
    put(tmp_path, "det/1/m.onnx", "det/2/m.onnx")
    configure(tmp_path, "det", "version_policy { specific { versions: [2, 7] } }")
    repository = scan(tmp_path, SUFFIXES)
    finding = only_finding(repository)
    assert "names version 7" in finding.problem
    assert "there is 1, 2" in finding.cure
    two, seven = repository.models[0].versions
    assert two.files
    assert not two.error
    assert not seven.files
    assert seven.error == str(finding)


def test_the_default_model_filename_counts_alone(tmp_path):
    put(tmp_path, "det/1/a.onnx", "det/1/b.onnx", "det/1/b.plan")
    put(tmp_path, "det/1/c.onnx", content=b"")
    configure(tmp_path, "det", 'default_model_filename: "b.onnx"')
    repository = scan(tmp_path, SUFFIXES)
    assert repository.findings == ()
    assert [file.name for file in repository.models[0].versions[0].files] == ["b.onnx"]


@pytest.mark.parametrize(("name", "problem"), [
    ("z.onnx", "'z.onnx' is not there; there is a.onnx, b.bin, c.plan"),
    ("b.bin", "'b.bin' is no kind of file that is served"),
    ("c.plan", "no TensorRT is installed here, which TensorRT plans need"),
])
def test_a_default_model_filename_that_does_not_serve(tmp_path, name, problem):
    put(tmp_path, "det/1/a.onnx", "det/1/b.bin", "det/1/c.plan")
    configure(tmp_path, "det", f'default_model_filename: "{name}"')
    repository = scan(tmp_path, SUFFIXES)
    assert problem in only_finding(repository).problem
    assert repository.models[0].versions[0].error
    assert not repository.models[0].error


def test_roots_that_are_none(tmp_path):
    put(tmp_path, "file")
    (tmp_path / "empty").mkdir()
    for name, problem in (
        ("missing", "does not exist"), ("file", "is a file"), ("empty", "holds no models"),
    ):
        repository = scan(tmp_path / name, SUFFIXES)
        assert repository.models == ()
        finding = only_finding(repository)
        assert problem in finding.problem
        assert finding.severity == "error"
        assert finding.where == str(tmp_path / name)


@pytest.mark.parametrize(("files", "problem", "cure"), [
    (["det/model.onnx"], "model.onnx lies in the model's folder", "Move it to det/1/"),
    (["det/v1/model.onnx"], "no folder of the model is a version; there is v1", "1, 2, 3"),
    (["det/01/model.onnx"], "there is 01", "1, 2, 3"),
    (["det/0/model.onnx"], "there is 0", "1, 2, 3"),
    (["det/notes.txt"], "no version folder", "det/1/"),
    (["1/model.onnx"], "model.onnx lies in", "is the model, serve the folder that holds it"),
    (["my model/1/model.onnx"], "'my model' is no model name", "letters"),
    (["-x/1/model.onnx"], "'-x' is no model name", "begin with a letter"),
])
def test_models_that_are_laid_out_wrongly(tmp_path, files, problem, cure):
    put(tmp_path, *files)
    repository = scan(tmp_path, SUFFIXES)
    finding = only_finding(repository)
    assert finding.severity == "error"
    assert problem in finding.problem
    assert cure in finding.cure
    (model,) = repository.models
    assert model.versions == ()
    assert model.error == str(finding)


@pytest.mark.parametrize(("files", "problem"), [
    (["det/1/notes.txt", "det/1/model.pt"], "no engine file; there is model.pt, notes.txt"),
    (["det/1/.keep"], "no engine file; it is empty"),
    (["det/1/model.plan"], "no TensorRT is installed here, which TensorRT plans need"),
    (["det/1/model.engine"], "no TensorRT is installed here, which TensorRT plans need"),
])
def test_versions_without_an_engine(tmp_path, files, problem):
    put(tmp_path, *files)
    repository = scan(tmp_path, SUFFIXES)
    finding = only_finding(repository)
    assert problem in finding.problem
    assert ".onnx" in finding.cure
    assert repository.models[0].versions[0].error == str(finding)


def test_plans_are_engines_where_they_are_served(tmp_path):
    put(tmp_path, "det/1/model.plan")
    repository = scan(tmp_path, (".onnx", ".plan"))
    assert repository.findings == ()
    assert [file.name for file in repository.models[0].versions[0].files] == ["model.plan"]


def test_plans_are_left_out_where_something_else_can_be_served(tmp_path):
    put(tmp_path, "both/1/a.plan", "both/1/b.onnx", "only/1/a.plan", "none/1/b.onnx")
    both, none, only = (
        without_plans(model.versions[0]) for model in scan(tmp_path, (".onnx", ".plan")).models
    )
    assert [file.name for file in both.files] == ["b.onnx"]
    (warning,) = both.warnings
    assert warning.startswith(f"{tmp_path}/both/1/a.plan: left out")
    assert ([file.name for file in only.files], only.warnings) == (["a.plan"], ())
    assert ([file.name for file in none.files], none.warnings) == (["b.onnx"], ())


@pytest.mark.parametrize(("files", "where", "problem"), [
    (["model.onnx"], "model.onnx", "in the repository's root"),
    (["config.pbtxt"], "config.pbtxt", "not read"),
    (["det/model.onnx"], "det/model.onnx", "beside the versions"),
    (["det/2b/model.onnx"], "det/2b", "no version number"),
    (["det/1/model.plan"], "det/1/model.plan", "TensorRT plans"),
])
def test_engines_in_the_wrong_place_beside_right_ones_are_warned_about(
    tmp_path, files, where, problem
):
    put(tmp_path, "det/1/model.onnx", *files)
    repository = scan(tmp_path, SUFFIXES)
    finding = only_finding(repository)
    assert finding.severity == "warning"
    assert finding.where == str(tmp_path / where)
    assert problem in finding.problem
    (model,) = repository.models
    assert not model.error
    assert not model.versions[0].error


@pytest.mark.parametrize(("content", "problem"), [
    (b"", "the file is empty"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
])
def test_files_that_are_no_models(tmp_path, content, problem):
    put(tmp_path, "det/1/a.onnx")
    put(tmp_path, "det/1/b.onnx", content=content)
    finding = only_finding(scan(tmp_path, SUFFIXES))
    assert finding.where == str(tmp_path / "det/1/b.onnx")
    assert problem in finding.problem


def test_a_folder_with_an_engines_name(tmp_path):
    (tmp_path / "det/1/model.onnx").mkdir(parents=True)
    assert "no file" in only_finding(scan(tmp_path, SUFFIXES)).problem


def test_links_are_followed(tmp_path):
    put(tmp_path, "data/real/1/model.bin")
    root = tmp_path / "root"
    (root / "det" / "1").mkdir(parents=True)
    (root / "det" / "1" / "model.onnx").symlink_to(tmp_path / "data/real/1/model.bin")
    (root / "linked").symlink_to(root / "det")
    repository = scan(root, SUFFIXES)
    assert repository.findings == ()
    assert [len(model.versions[0].files) for model in repository.models] == [1, 1]


def test_links_that_lead_nowhere(tmp_path):
    (tmp_path / "det" / "1").mkdir(parents=True)
    (tmp_path / "det" / "1" / "model.onnx").symlink_to(tmp_path / "gone")
    (tmp_path / "gone-model").symlink_to(tmp_path / "gone")
    findings = scan(tmp_path, SUFFIXES).findings
    assert [finding.where for finding in findings] == [
        str(tmp_path / "gone-model"), str(tmp_path / "det/1/model.onnx")
    ]
    assert all("leads nowhere" in finding.problem for finding in findings)


def test_one_broken_model_never_hides_the_others(tmp_path):
    put(tmp_path, "a/1/m.onnx", "b/1/m.onnx", "c/m.onnx", "d/1/m.onnx", "e/1/m.onnx")
    configure(tmp_path, "b", "max_batch_size: 4\nmax_batch_sice: 4")
    configure(tmp_path, "d", "name: [", "config.yaml")
    (tmp_path / "e" / "config.json").symlink_to(tmp_path / "gone")
    repository = scan(tmp_path, SUFFIXES)
    assert [bool(model.error) for model in repository.models] == [False, True, True, True, True]
    a, b, _, _, e = repository.models
    assert a.versions[0].files
    assert f"{tmp_path}/b/config.pbtxt:2: " in b.error
    assert "Did you mean max_batch_size?" in b.error
    assert f"{tmp_path}/e/config.json: can not be read" in e.error
    assert b.configuration is None
    assert len(repository.findings) == 4


def test_warnings_of_a_configuration_are_findings(tmp_path):
    put(tmp_path, "det/1/m.onnx")
    configure(tmp_path, "det", "backend: 'onnxruntime'\nresponse_cache { enable: true }")
    repository = scan(tmp_path, SUFFIXES)
    (finding,) = repository.findings
    assert finding.severity == "warning"
    assert finding.where == f"{tmp_path}/det/config.pbtxt:2"
    assert "'response_cache.enable' is not served" in finding.problem
    assert not repository.models[0].error


def test_one_model_is_read_from_any_folder(tmp_path):
    put(tmp_path, "scratch/1/m.onnx", "scratch/1/golden/a.npz")
    configure(tmp_path, "scratch", 'name: "det"')
    model = read_model("det", tmp_path / "scratch", SUFFIXES)
    assert (model.name, model.path, model.findings) == ("det", tmp_path / "scratch", ())
    (version,) = model.versions
    assert [file.name for file in version.files] == ["m.onnx"]
    assert version.findings == ()  # golden cases are no engines
    assert "name is 'det'" in read_model("other", tmp_path / "scratch", SUFFIXES).error
    assert "is no model name" in read_model("../det", tmp_path / "scratch", SUFFIXES).error
    assert "can not be read" in read_model("det", tmp_path / "missing", SUFFIXES).error


def test_folders_whose_names_are_no_text_are_passed_over(tmp_path):
    """Nobody could name them in a call, and no message could tell of them."""
    for name in (b"caf\xe9", b"good"):
        os.makedirs(os.fsencode(tmp_path) + b"/" + name + b"/1")
        with open(os.fsencode(tmp_path) + b"/" + name + b"/1/a.onnx", "wb") as file:
            file.write(b"x")
    found = scan(tmp_path, [".onnx"])
    assert [model.name for model in found.models] == ["good"]
    (finding,) = found.own_findings
    assert (finding.severity, "'caf\\udce9'" in finding.problem) == ("warning", True)
    assert list(model_folders(str(tmp_path))) == ["good"]


def test_an_engine_file_whose_name_is_no_text(tmp_path):
    (tmp_path / "det/1").mkdir(parents=True)
    (tmp_path / "det/1" / os.fsdecode(b"caf\xe9.onnx")).write_bytes(b"x")
    (version,) = scan(tmp_path, SUFFIXES).models[0].versions
    assert "the file's name is no UTF-8. Rename it" in version.error
