"""Labels and weights in a configuration: what they mean, and each way to get them wrong."""

from pathlib import Path

import pytest

from trtserve.errors import ConfigurationError
from trtserve.model.configuration import apply, read_configuration
from trtserve.model.repository import scan
from trtserve.model.spec import ShapeRange, TensorSpec, VariantSpec
from trtserve.model.version_labels import VersionNames

SPECIFIC = "version_policy { specific { versions: [ 1, 2 ] } }\n"


def parameter(name: str, text: str) -> str:
    return f'parameters {{ key: "version_{name}" value {{ string_value: "{text}" }} }}\n'


def read(tmp_path: Path, text: str, file: str = "config.pbtxt") -> VersionNames:
    (tmp_path / "det").mkdir()
    (tmp_path / "det" / file).write_text(text)
    return read_configuration(tmp_path / "det").names


def error_of(tmp_path: Path, text: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text)
    assert caught.value.cure
    return caught.value


def test_both_are_read(tmp_path):
    names = read(tmp_path, parameter("labels", "stable=1,canary = 2 , beta=2")
                 + parameter("weights", "1=90, 2=10"))
    assert names.labels_of(1) == ("stable",)
    assert names.labels_of(2) == ("beta", "canary")
    assert names.labels_of(3) == ()
    assert [names.weight_of(version) for version in (1, 2, 3)] == [90, 10, 0]


@pytest.mark.parametrize(("file", "text"), [
    ("config.yaml", "parameters:\n  version_labels: {string_value: stable=1}\n"),
    ("config.json", '{"parameters": {"version_labels": {"string_value": "stable=1"}}}'),
])
def test_in_every_form(tmp_path, file, text):
    assert read(tmp_path, text, file).labels == {"stable": 1}


def test_without_weights_there_is_no_split(tmp_path):
    assert read(tmp_path, "").weight_of(1) is None


def test_the_engine_never_sees_them(tmp_path):
    (tmp_path / "det").mkdir()
    (tmp_path / "det" / "config.pbtxt").write_text(
        parameter("labels", "stable=1") + 'parameters { key: "a" value { string_value: "b" } }'
    )
    assert read_configuration(tmp_path / "det").parameters == {"a": "b"}


@pytest.mark.parametrize(("name", "text", "problem"), [
    ("labels", "1=2", "'1' is a number"),
    ("labels", "_x=2", "'_x' is no label"),
    ("labels", "a=1,a=2", "label 'a' comes twice"),
    ("labels", "a", "'a' is not NAME=VALUE"),
    ("labels", "", "'' is not NAME=VALUE"),
    ("labels", "a=1,", "'' is not NAME=VALUE"),
    ("labels", "a=0", "'0' is no version"),
    ("labels", "a=b", "'b' is no version"),
    ("weights", "1=-1", "'-1' is no weight of version 1"),
    ("weights", "1=1.5", "'1.5' is no weight of version 1"),
    ("weights", "1=1,1=2", "version 1 comes twice"),
    ("weights", "1=0,2=0", "all weights are 0"),
    ("weights", "stable=1", "'stable' is no version"),
])
def test_mistakes_name_the_line(tmp_path, name, text, problem):
    error = error_of(tmp_path, "max_batch_size: 4\n" + parameter(name, text))
    assert problem in error.problem
    assert error.problem.startswith(f"version_{name}: ")
    assert error.where.endswith("config.pbtxt:2")


def scanned(tmp_path: Path, text: str) -> str:
    for version in (1, 2):
        folder = tmp_path / "det" / str(version)
        folder.mkdir(parents=True)
        (folder / "m.onnx").write_bytes(b"\x08\x07")
    (tmp_path / "det" / "config.pbtxt").write_text(text)
    (model,) = scan(tmp_path, (".onnx",)).models
    return model.error


@pytest.mark.parametrize(("name", "text"), [("labels", "stable=1"), ("weights", "1=5,2=5")])
def test_versions_that_are_not_chosen_are_an_error_with_its_cure(tmp_path, name, text):
    error = scanned(tmp_path, parameter(name, text))
    assert "version 1, which the version_policy does not choose" in error
    wanted = "[1]" if name == "labels" else "[1, 2]"
    assert f"specific {{ versions: {wanted[:-1]}" in error
    assert "config.pbtxt:1" in error


def test_versions_that_are_not_there_are_an_error(tmp_path):
    error = scanned(tmp_path, SPECIFIC + parameter("labels", "canary=3"))
    assert "label 'canary' names version 3, which is not there" in error
    assert "name one of 1, 2" in error


def test_with_the_right_policy_nothing_is_wrong(tmp_path):
    text = SPECIFIC + parameter("labels", "stable=1, canary=2") + parameter("weights", "1=9,2=1")
    assert scanned(tmp_path, text) == ""


def test_a_version_carries_its_own(tmp_path):
    scanned(tmp_path, SPECIFIC + parameter("labels", "stable=1, canary=2")
            + parameter("weights", "1=9"))
    configuration = read_configuration(tmp_path / "det")
    x = TensorSpec("x", "FP32", (-1, 4))
    variant = VariantSpec("a", (x,), (x,), (ShapeRange((1, 4), (8, 4)),), 8)
    first, second = (apply(configuration, "det", number, "onnx", (variant,)) for number in (1, 2))
    assert (first.labels, first.weight) == (("stable",), 9)
    assert (second.labels, second.weight) == (("canary",), 0)
