from pathlib import Path

import pytest

from tests.build.explain.plans import write_plan
from tests.build.explain.reports import conv_10, report_10
from tests.build.explain.test_explain_plan import layer_file, times_file
from trtserve.build.explain.subject import explain_file, find_files, pairs
from trtserve.errors import ConfigurationError, RepositoryError
from trtserve.testing.models import make_add


@pytest.fixture
def repository(tmp_path):
    """m: versions 2, with a plan and a model, and 10; broken: nothing in it."""
    for version in (2, 10):
        folder = tmp_path / "m" / str(version)
        write_plan(folder / "a.plan")
        if version == 2:
            make_add(str(folder / "b.onnx"), 1.0)
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    return tmp_path


def found(repository, name, version=None):
    return [
        path.relative_to(repository).as_posix() for path in find_files(name, repository, version)
    ]


def test_a_model_means_all_files_of_its_highest_version(repository):
    assert found(repository, "m") == ["m/10/a.plan"]
    assert found(repository, "m", 2) == ["m/2/a.plan", "m/2/b.onnx"]
    assert found(repository, "m/2") == ["m/2/a.plan", "m/2/b.onnx"]
    assert found(repository, "m/10", 2) == ["m/10/a.plan"], "what is nearer counts"


def test_a_file_means_itself_without_a_repository(repository):
    path = repository / "m" / "2" / "b.onnx"
    assert find_files(str(path), None, None) == (path,)


def test_a_manifest_means_its_plan(repository):
    plan = repository / "m" / "2" / "a.plan"
    assert find_files(f"{plan}.json", None, None) == (plan,)


def test_json_that_is_no_manifest_means_itself(tmp_path):
    path = layer_file(tmp_path, report_10(conv_10()))
    assert find_files(str(path), None, None) == (path,)
    alone = tmp_path / "gone.plan.json"
    alone.write_text("{}")
    assert find_files(str(alone), None, None) == (alone,)


@pytest.mark.parametrize(("name", "version", "problem"), [
    ("unknown", None, "the model 'unknown' can not be read: No such file or directory"),
    ("m", 3, "the model has no version 3; there is 2, 10"),
    ("empty", None, "the model has no version folder"),
    ("broken", None, "the version has no engine file; it is empty"),
])
def test_what_the_repository_lacks_is_said(repository, name, version, problem):
    with pytest.raises(RepositoryError) as error:
        find_files(name, repository, version)
    assert error.value.problem == problem
    assert error.value.cure


@pytest.mark.parametrize(("name", "problem"), [
    ("there/is/none.onnx", "there is no such file"),
    ("none.plan", "there is no such file"),
    ("a/b/c", "there is no such file, and it is no model's name"),
    ("m", "there is no file 'm', and no repository to look for a model in"),
])
def test_what_is_no_file_is_said(name, problem):
    with pytest.raises(ConfigurationError) as error:
        find_files(name, None, None)
    assert error.value.problem == problem
    assert error.value.cure


def test_each_file_is_explained_by_what_it_is(repository, tmp_path):
    plan, model = find_files("m/2", repository, None)
    assert explain_file(plan).kind == "plan"
    assert explain_file(model, cuda=False).kind == "onnx"
    assert explain_file(layer_file(tmp_path, report_10(conv_10()))).kind == "layers"


def test_options_that_are_for_other_files_are_refused(repository, tmp_path):
    plan, model = find_files("m/2", repository, None)
    with pytest.raises(ConfigurationError, match=r"--run is for .onnx files"):
        explain_file(plan, run="x=1x16")
    with pytest.raises(ConfigurationError, match="--times is for plans"):
        explain_file(model, times=times_file(tmp_path))


def test_files_are_compared_by_name_or_as_the_only_ones():
    a, b, c, other = (Path(name) for name in ("1/a.plan", "1/b.plan", "1/c.onnx", "2/b.plan"))
    assert pairs((a,), (b,)) == [(a, b)]
    assert pairs((a, b, c), (other,)) == [(b, other)]
    with pytest.raises(ConfigurationError, match=r"a.plan, c.onnx on one side and b.plan"):
        pairs((a, c), (other,))
