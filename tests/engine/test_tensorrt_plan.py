import hashlib
import os
from pathlib import Path

import pytest

from tests.engine.plan_manifests import write_manifest
from tests.engine.tensorrt_stand import Stand
from trtserve.engine.tensorrt_plan import PlanRules, opened
from trtserve.errors import ModelLoadError
from trtserve.model.plan_manifest import PlanOptions, manifest_path
from trtserve.testing.tensorrt_plan import make_plan


@pytest.fixture
def stand(tmp_path) -> Stand:
    stand = Stand(tmp_path)
    make_plan(stand.path)
    return stand


def refusal(stand: Stand) -> ModelLoadError:
    with pytest.raises(ModelLoadError) as caught:
        stand.load()
    assert stand.module.runtimes == 0, "it was refused too late"
    assert caught.value.where == stand.path
    return caught.value


def test_a_plan_with_its_manifest_loads(stand):
    write_manifest(stand.path)
    stand.load()


@pytest.mark.parametrize(
    ("differs", "problem"),
    [({"version": "11.3.0.1"}, "built with TensorRT 11.3.0.1, and 11.4.0.106 runs here"),
     ({"capability": "8.6"}, "compute capability 8.6.* Fake GPU has compute capability 9.0"),
     ({"gpu": "NVIDIA H100"}, "built on NVIDIA H100 .* this is Fake GPU"),
     ({"sha256": "a" * 64}, "not the one that its manifest describes"),
     ({"module": "tensorrt_rtx"}, "built with TensorRT-RTX")],
)
def test_a_plan_for_elsewhere(stand, differs, problem):
    write_manifest(stand.path, **differs)
    error = refusal(stand)
    with pytest.raises(ModelLoadError, match=problem):
        raise error
    assert error.cure.startswith("Build it again here: trtserve build net.onnx")


def test_a_manifest_that_is_none(stand):
    manifest_path(Path(stand.path)).write_text("{}")
    with pytest.raises(ModelLoadError, match="not a plan's manifest"):
        stand.load()


def test_a_plan_that_others_can_write(stand):
    os.chmod(stand.path, 0o666)
    stand.load()
    strict = Stand(Path(stand.path).parent, rules=PlanRules())
    error = refusal(strict)
    assert "can be changed by its group and everybody" in error.problem
    assert "allow_writable_plans" in error.cure


def test_host_code_only_where_it_is_allowed(stand):
    make_plan(stand.path, host_code=True)
    write_manifest(stand.path, options=PlanOptions(version_compatible=True))
    assert "allow_engine_host_code" in refusal(stand).cure
    Stand(Path(stand.path).parent, rules=PlanRules(writable=True, host_code=True)).load()


def test_only_listed_plans(stand):
    sha256 = hashlib.sha256(Path(stand.path).read_bytes()).hexdigest()
    folder = Path(stand.path).parent
    Stand(folder, rules=PlanRules(writable=True, hashes=frozenset([sha256]))).load()
    other = Stand(folder, rules=PlanRules(writable=True, hashes=frozenset(["0" * 64])))
    assert "plan_hashes" in refusal(other).problem


def test_the_file_is_mapped_and_let_go(stand):
    with opened(stand.path) as data:
        assert bytes(data) == Path(stand.path).read_bytes()
    assert data.closed
