import hashlib
import os
import stat

import msgspec
import pytest

from tests.model.test_plan_manifest import FULL
from trtserve.build.engine_cache import EngineCache, PlanIdentity, file_sha256
from trtserve.errors import ConfigurationError
from trtserve.model.plan_manifest import PlanGpu, PlanOptions, PlanProfile
from trtserve.model.spec import ShapeRange

PLAN = b"the plan"
MANIFEST = msgspec.structs.replace(FULL, plan_sha256=hashlib.sha256(PLAN).hexdigest())
SHAPES = {"x": ShapeRange((1, 3), (8, 3), (4, 3))}
IDENTITY = PlanIdentity(
    onnx_sha256="ab", fix=False, precision="", profiles=(PlanProfile("224", SHAPES),),
    options=PlanOptions(), module="tensorrt", module_version="11.4", versions={"onnx": "1.22"},
    gpu=PlanGpu("NVIDIA L4", "8.9", "13.0", "13.3"),
)


@pytest.fixture
def cache(tmp_path):
    cache = EngineCache(tmp_path / "cache")
    cache.open()
    return cache


def changed(**fields):
    return msgspec.structs.replace(IDENTITY, **fields).key


@pytest.mark.parametrize(
    "fields",
    [
        {"onnx_sha256": "cd"},
        {"fix": True},
        {"precision": "fp16"},
        {"profiles": (PlanProfile("224", {"x": ShapeRange((1, 3), (8, 3), (8, 3))}),)},
        {"profiles": (*IDENTITY.profiles, *IDENTITY.profiles)},
        {"options": PlanOptions(level=5)},
        {"options": PlanOptions(compute_capabilities=("SM86",))},
        {"module": "tensorrt_rtx"},
        {"module_version": "11.5"},
        {"versions": {"onnx": "1.23"}},
        {"gpu": PlanGpu("NVIDIA L40", "8.9")},
        {"gpu": PlanGpu("NVIDIA L4", "9.0")},
        {"gpu": None},
    ],
)
def test_whatever_has_a_say_in_a_plan_is_in_its_key(fields):
    assert changed(**fields) != IDENTITY.key


def test_what_has_none_is_not():
    assert changed(profiles=(PlanProfile("other name", SHAPES),)) == IDENTITY.key
    assert changed(gpu=PlanGpu("NVIDIA L4", "8.9", "14.0", "13.9")) == IDENTITY.key


def test_the_order_of_profiles_is_in_the_key_and_that_of_inputs_is_not():
    one, two = ShapeRange((1, 3), (1, 3), (1, 3)), ShapeRange((2, 3), (2, 3), (2, 3))
    profiles = (PlanProfile("a", {"x": one, "y": two}), PlanProfile("b", {"x": two, "y": two}))
    assert changed(profiles=profiles) != changed(profiles=profiles[::-1])
    turned = (PlanProfile("a", {"y": two, "x": one}), profiles[1])
    assert changed(profiles=turned) == changed(profiles=profiles)


def test_a_plan_is_found_again(cache):
    assert cache.get("key") is None
    put = cache.put("key", PLAN, MANIFEST)
    assert not put.hit
    got = cache.get("key")
    assert (got.hit, got.manifest, got.path.read_bytes()) == (True, MANIFEST, PLAN)
    assert cache.get("other") is None
    again = EngineCache(cache.folder)
    again.open()
    assert again.get("key") == got


@pytest.mark.parametrize("damage", ["plan", "manifest", "plan gone"])
def test_what_is_damaged_is_built_again(cache, damage):
    plan = cache.put("key", PLAN, MANIFEST).path
    if damage == "plan":
        plan.write_bytes(b"another plan")
    elif damage == "plan gone":
        plan.unlink()
    else:
        (plan.parent / "key.json").write_text("{")
    assert cache.get("key") is None
    cache.put("key", PLAN, MANIFEST)
    assert cache.get("key").path.read_bytes() == PLAN


def test_only_its_owner_can_write_it(cache):
    assert stat.S_IMODE((cache.folder / "engines").stat().st_mode) == 0o700


def test_a_folder_that_others_can_write_is_refused(tmp_path):
    folder = tmp_path / "shared"
    (folder / "engines").mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(ConfigurationError, match="can be changed by") as raised:
        EngineCache(folder).open()
    assert f"chmod go-w {folder}" in raised.value.cure
    assert "--cache" in raised.value.cure


def test_a_folder_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="can not be used") as raised:
        EngineCache(tmp_path / "file").open()
    assert str(tmp_path / "file") in raised.value.where


def test_a_full_disk_is_an_error_with_a_cure(cache):
    (cache.folder / "engines").rmdir()
    with pytest.raises(ConfigurationError, match="can not be written") as raised:
        cache.put("key", PLAN, MANIFEST)
    assert "--cache" in raised.value.cure


def test_a_hash_is_that_of_sha256sum(tmp_path):
    (tmp_path / "f").write_bytes(PLAN)
    assert file_sha256(tmp_path / "f") == hashlib.sha256(PLAN).hexdigest()
    assert os.listdir(tmp_path) == ["f"]
