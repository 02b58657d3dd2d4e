import json
import os

import msgspec
import pytest
import tensorrt_rtx

from tests.build.test_builder import OCR, Watcher
from trtserve.build.engine_cache import EngineCache, file_sha256
from trtserve.build.make import PlanMaker, Target, lint_only
from trtserve.errors import ConfigurationError, ModelLoadError, RepositoryError
from trtserve.model.plan_fit import check_manifest
from trtserve.model.plan_manifest import PlanOptions, PlanPlace, PlanRequest, read_manifest
from trtserve.model.plan_safety import places, writable_by_others
from trtserve.testing.models import make_add, make_matmul, make_product


class Recorder(Watcher):
    """Keeps which plans are really built."""

    def __init__(self):
        super().__init__()
        self.built = []

    def begin(self, title):
        self.built.append(title)


class Bench:
    """A repository, a cache, and a model to build."""

    def __init__(self, folder):
        self.repository = folder / "models"
        self.cache = EngineCache(folder / "cache")
        self.watcher = Recorder()
        self.model = folder / "net.onnx"
        make_add(str(self.model), 1.0, ("N", 3, "H", "W"))

    def make(self, version=None, *, force=False, **request):
        self.watcher.built.clear()
        maker = PlanMaker(tensorrt_rtx, None, "no GPU here", self.cache, self.watcher)
        return maker.make(
            PlanRequest(**{"model": str(self.model), "sizes": ("16", "32"), **request}),
            Target(self.repository, "net", version, force),
        )

    @property
    def files(self):
        return sorted(
            path.relative_to(self.repository).as_posix()
            for path in self.repository.rglob("*") if path.is_file()
        )


def manifest_of(plan):
    manifest = read_manifest(plan)
    assert manifest is not None
    return manifest


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_one_plan_has_all_profiles(bench):
    made = bench.make()
    assert bench.files == ["net/1/net.plan", "net/1/net.plan.json"]
    (plan,) = made.plans
    assert [profile.name for profile in plan.profiles] == ["16", "32"]
    assert made.folder == str(bench.repository / "net" / "1")
    assert plan.bytes == (bench.repository / "net/1/net.plan").stat().st_size
    assert bench.watcher.built == ["net.plan"]


def test_split_plans_are_variants_of_one_version(bench):
    made = bench.make(split=True)
    assert bench.files == [
        "net/1/16.plan", "net/1/16.plan.json", "net/1/32.plan", "net/1/32.plan.json"
    ]
    assert [[p.name for p in plan.profiles] for plan in made.plans] == [["16"], ["32"]]
    assert bench.watcher.built == ["16.plan", "32.plan"]


def test_the_manifest_says_what_the_plan_is(bench):
    bench.make(batches=(1, 2, 4), options=PlanOptions(compute_capabilities=("SM86",)))
    plan = bench.repository / "net/1/net.plan"
    manifest = manifest_of(plan)
    assert manifest.plan_sha256 == file_sha256(plan)
    assert manifest.onnx_sha256 == file_sha256(bench.model)
    assert manifest.onnx_file == "net.onnx"
    assert (manifest.module, manifest.module_version) == ("tensorrt_rtx", tensorrt_rtx.__version__)
    assert manifest.place == PlanPlace(str(bench.repository), "net", 1, "net.plan")
    assert str(manifest.profiles[0].shapes["x"]) == "[1..4, 3, 16, 16]"
    assert manifest.network.inputs == ("x",)
    assert manifest.user_allocation
    assert manifest.engine is None
    assert manifest.gpu is None
    assert manifest.versions["trtserve"]
    assert manifest.created.endswith("+00:00")
    assert check_manifest(
        manifest, file_sha256(plan), module="tensorrt_rtx", version=tensorrt_rtx.__version__,
        compute_capability="8.6",
    ) == []


def test_an_unchanged_build_is_a_look_into_the_cache(bench):
    first = bench.make()
    second = bench.make(2)
    assert bench.watcher.built == []
    assert [plan.cached for plan in (*first.plans, *second.plans)] == [False, True]
    assert first.plans[0].sha256 == second.plans[0].sha256
    # One inode, so that versions and cache share the disk.
    one, two = (bench.repository / f"net/{number}/net.plan" for number in (1, 2))
    assert one.samefile(two)
    assert manifest_of(two).place.version == 2


def test_an_unchanged_build_adds_no_version(bench):
    bench.make()
    again = bench.make()
    assert again.folder.endswith("net/1")
    assert [plan.unchanged for plan in again.plans] == [True]
    assert again.note == ""
    assert bench.files == ["net/1/net.plan", "net/1/net.plan.json"]


def test_without_the_cache_an_unchanged_build_is_known_by_the_manifest(bench):
    bench.make(split=True)
    bench.cache = EngineCache(bench.cache.folder.with_name("another"))
    again = bench.make(split=True)
    assert bench.watcher.built == []
    assert [plan.file for plan in again.plans] == ["16.plan", "32.plan"]
    (bench.repository / "net/1/32.plan").write_bytes(b"damaged")
    assert bench.make(split=True).folder.endswith("net/2")


@pytest.mark.parametrize("change", [{"batches": (1, 2, 4)}, {"sizes": ("16",)}, {"split": True}])
def test_a_changed_build_is_a_new_version_and_says_so(bench, change):
    bench.make()
    made = bench.make(**change)
    assert made.folder.endswith("net/2")
    assert made.note.startswith("Version 2 is new")
    assert "--version 1 --force" in made.note


def test_fewer_plans_than_are_there_are_another_version(bench):
    bench.make(split=True)
    assert bench.make(split=True, sizes=("16",)).folder.endswith("net/2")


def test_force_replaces_the_newest_version_of_the_same_file(bench):
    bench.make()
    made = bench.make(force=True, batches=(1, 2, 4))
    assert bench.watcher.built == ["net.plan"]
    assert made.folder.endswith("net/1")
    assert "was replaced" in made.note
    make_add(str(bench.model.with_name("other.onnx")), 1.0, ("N", 3, "H", "W"))
    made = bench.make(force=True, model=str(bench.model.with_name("other.onnx")))
    assert made.folder.endswith("net/2")


def test_an_unchanged_build_neither_mends_nor_converts_again(bench):
    make_matmul(str(bench.model), 64, 32)
    bench.make(sizes=(), precision="fp16", fix=True)
    told = len(bench.watcher.notes)
    assert told
    made = bench.make(sizes=(), precision="fp16", fix=True)
    assert bench.watcher.built == []
    assert len(bench.watcher.notes) == told
    assert made.preparation.precision_errors[0].output == "y"


@pytest.mark.parametrize(
    "change",
    [
        {"sizes": ("16", "48")},
        {"batches": (1, 2, 4)},
        {"precision": "fp16"},
        {"fix": True},
        {"options": PlanOptions(level=4)},
        {"options": PlanOptions(compute_capabilities=("SM86",))},
    ],
)
def test_a_changed_build_is_one(bench, change):
    bench.make()
    bench.make(**change)
    assert bench.watcher.built == ["net.plan"]


def test_a_changed_model_is_built(bench):
    bench.make()
    make_add(str(bench.model), 2.0, ("N", 3, "H", "W"))
    bench.make()
    assert bench.watcher.built == ["net.plan"]


def test_of_split_plans_only_new_ones_are_built(bench):
    bench.make(split=True)
    bench.make(split=True, sizes=("16", "32", "48"))
    assert bench.watcher.built == ["48.plan"]
    assert len(bench.files) == 2 * 2 + 2 * 3


def test_sizes_and_written_profiles_of_the_same_shapes_are_one_plan(bench):
    bench.make(split=True)
    bench.make(sizes=(), profiles=("x=1x3x16x16,8x3x16x16,32x3x16x16",))
    assert bench.watcher.built == []


def test_the_same_into_the_same_version_changes_nothing(bench):
    bench.make(1)
    before = (bench.repository / "net/1/net.plan.json").stat().st_mtime_ns
    made = bench.make(1)
    assert made.plans[0].unchanged
    assert (bench.repository / "net/1/net.plan.json").stat().st_mtime_ns == before


def test_another_plan_is_not_replaced_and_not_even_built(bench):
    bench.make(1)
    with pytest.raises(RepositoryError, match=r"net\.plan is there already"):
        bench.make(1, batches=(1, 2, 4))
    assert bench.watcher.built == []


def test_force_builds_and_replaces(bench):
    bench.make(1)
    bench.make(1, force=True)
    assert bench.watcher.built == ["net.plan"]
    bench.make(1, force=True, batches=(1, 2, 4))
    manifest = manifest_of(bench.repository / "net/1/net.plan")
    assert str(manifest.profiles[0].shapes["x"]) == "[1..4, 3, 16, 16]"
    assert manifest.plan_sha256 == file_sha256(bench.repository / "net/1/net.plan")


def test_a_damaged_plan_in_the_cache_is_built_again(bench):
    made = bench.make()
    path = bench.cache.folder / "engines" / f"{made.plans[0].sha256}.plan"
    path.unlink()
    path.write_bytes(b"something else")
    bench.make(2)
    assert bench.watcher.built == ["net.plan"]


def test_a_failed_build_leaves_no_trace_in_the_repository(bench):
    # Which sizes go together only the builder sees.
    make_product(str(bench.model))
    with pytest.raises(ModelLoadError) as raised:
        bench.make(profiles=("a=1x4;b=5x3",), sizes=())
    assert raised.value.where == str(bench.model)
    assert bench.watcher.built == ["net.plan"]
    assert not bench.repository.exists()


def test_errors_of_the_lint_are_told_and_nothing_is_built(bench):
    made = bench.make(
        model=str(OCR / "ch_ppocr_mobile_v2.0_cls_infer.onnx"), sizes=(),
        profiles=("x=1x3x48x192,8x3x48x192,32x3x48x192",),
    )
    assert made.plans == ()
    assert not made.preparation.ok
    assert not bench.repository.exists()


def test_the_angle_classifier_is_built_once_it_is_mended(bench):
    made = bench.make(
        model=str(OCR / "ch_ppocr_mobile_v2.0_cls_infer.onnx"), sizes=(),
        profiles=("x=1x3x48x192,8x3x48x192,32x3x48x192",), fix=True,
    )
    assert made.preparation.fixes
    assert len(made.plans) == 1


def test_what_the_module_can_not_do_is_said_first(bench):
    with pytest.raises(ConfigurationError, match="SM90"):
        bench.make(options=PlanOptions(compute_capabilities=("SM90",)))
    assert not bench.cache.folder.exists()


def test_a_daemon_would_take_what_is_built(bench):
    before = os.umask(0)
    try:
        bench.make()
    finally:
        os.umask(before)
    plan = bench.repository / "net/1/net.plan"
    assert writable_by_others(places(plan), os.getuid()) == []


def test_lint_only_builds_nothing(bench):
    found = lint_only(PlanRequest(model=str(bench.model)), tensorrt_rtx, bench.watcher)
    assert found.ok
    assert found.notes
    assert not bench.cache.folder.exists()
    assert json.loads(msgspec.json.encode(found))["profiles"][0]["name"] == "profile-0"
