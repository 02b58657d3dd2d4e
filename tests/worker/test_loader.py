"""Loading: one broken model leaves the others alone, and nothing of it stays behind."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.worker.lane_fleet import LANES, Engines, LoaderStand
from tests.worker.worker_stand import VOUCHED, model_folder
from trtserve.errors import DeviceError, ExecutionFailed, ModelLoadError, RepositoryError
from trtserve.ipc.message import Bucket
from trtserve.model.configuration import ModelConfiguration
from trtserve.model.finding import Finding
from trtserve.model.repository import ModelFolder
from trtserve.model.spec import ModelState
from trtserve.model.version_folder import VersionFolder
from trtserve.proto.model_config_pb2 import ModelConfig, ModelInstanceGroup
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.testing.engine import FakeEngine, FakeRuntime, FakeScript, fake_variant
from trtserve.worker.loader import load_version, served_suffixes
from trtserve.worker.loading import DeviceLost, Finished, Loaded, LoadEvent, PinsMade, Progress


@pytest.fixture
def shared() -> Iterator[LoaderStand]:
    """Where host and device share memory."""
    stand = LoaderStand(unified=True)
    yield stand
    stand.close()


@pytest.fixture
def separate() -> Iterator[LoaderStand]:
    """Where they do not, and lanes are lent."""
    stand = LoaderStand(unified=False)
    yield stand
    stand.close()


@pytest.fixture
def load(shared: LoaderStand) -> Callable[..., list[LoadEvent]]:
    return shared.load


def states(events: list[LoadEvent]) -> list[tuple[str, int, str]]:
    """(model, version, what became of it) in order."""
    found: list[tuple[str, int, str]] = []
    for event in events:
        if isinstance(event, Progress):
            update = event.update
            found.append((update.model, update.version, update.full_reason or str(update.state)))
        elif isinstance(event, Loaded):
            found.append((event.spec.model, event.spec.version, "LOADED"))
    return found


def test_models_load_one_after_the_other(load):
    engines = {"a.fake": FakeEngine(), "b.fake": FakeEngine()}
    events = load(engines, model_folder("a", "a.fake"), model_folder("b", "b.fake", version=7))
    assert states(events) == [
        ("a", 1, "LOADING"), ("b", 7, "LOADING"), ("a", 1, "LOADED"), ("b", 7, "LOADED"),
    ]
    assert events[-1] == Finished(2)
    loaded = events[2]
    assert isinstance(loaded, Loaded)
    (variant,) = loaded.variants
    assert variant.measured
    assert len(variant.lanes) == LANES
    # The warm-up had a context of its own, and closed it.
    assert [context.closed for context in engines["a.fake"].contexts] == [False] * LANES + [True]


def test_several_files_are_variants_of_one_version(load):
    engines = {"a.fake": FakeEngine(fake_variant("a")), "b.fake": FakeEngine(fake_variant("b"))}
    events = load(engines, model_folder("m", "a.fake", "b.fake"))
    (loaded,) = [event for event in events if isinstance(event, Loaded)]
    assert [variant.source.variant.name for variant in loaded.variants] == ["a", "b"]
    assert [variant.source.engine for variant in loaded.variants] == list(engines.values())


def broken_engine() -> Engines:
    return {"b.fake": ModelLoadError("cut off", where="b.fake", cure="Copy it again")}


def failing_engine() -> Engines:
    script = FakeScript(failures={2: ExecutionFailed("no zeros")})
    return {"b.fake": FakeEngine(script=script)}


def buggy_engine() -> Engines:
    class Buggy(FakeEngine):
        def create_context(self, *arguments: Any) -> Any:
            raise KeyError("bug")

    return {"b.fake": Buggy()}


@pytest.mark.parametrize(("broken", "reason"), [
    (broken_engine, "b.fake: cut off. Copy it again"),
    (failing_engine, "no zeros"),
    (buggy_engine, "an error of the server's own"),
    (dict, "no such fake engine"),
])
def test_a_model_that_does_not_load_says_why_and_leaves_the_others(load, broken, reason):
    engines = {"a.fake": FakeEngine(), **broken(), "c.fake": FakeEngine()}
    folders = [model_folder(name, f"{name}.fake") for name in "abc"]
    found = states(load(engines, *folders))
    assert [state for name, _, state in found[3:] if name != "b"] == ["LOADED", "LOADED"]
    (told,) = [state for name, _, state in found[3:] if name == "b"]
    assert reason in told
    bad = engines.get("b.fake")
    if isinstance(bad, FakeEngine):
        assert bad.closed
        assert all(context.closed for context in bad.contexts)


def test_a_model_that_can_not_be_read_is_told_as_version_0(load):
    finding = Finding("error", "m/config.pbtxt:3", "max_batch_size -1 is negative", "Use 0")
    unreadable = ModelFolder("m", Path("/repository/m"), findings=(finding,))
    events = load({"a.fake": FakeEngine()}, unreadable, model_folder("a", "a.fake"))
    assert states(events) == [
        ("m", 0, str(finding)), ("a", 1, "LOADING"), ("a", 1, "LOADED"),
    ]
    assert events[-1] == Finished(2)


def test_a_version_that_is_wrong_on_disk_is_not_loaded(load):
    finding = Finding("error", "m/1", "no engine file", "Add one")
    folder = ModelFolder("m", Path("m"), ModelConfiguration(),
                         (VersionFolder(1, Path("m/1"), (), (finding,)),))
    (event,) = [
        event for event in load({}, folder)
        if isinstance(event, Progress) and event.update.state == ModelState.UNAVAILABLE
    ]
    assert "no engine file" in event.update.reason


def test_warnings_of_the_configuration_are_told(load):
    finding = Finding("warning", "config.pbtxt:2", "ensembles are not served", "")
    configuration = ModelConfiguration(findings=(finding,))
    events = load(
        {"m.fake": FakeEngine()}, model_folder("m", "m.fake", configuration=configuration)
    )
    (loaded,) = [event for event in events if isinstance(event, Loaded)]
    assert loaded.warnings == (str(finding),)


def test_nothing_stays_loaded_when_a_version_does_not_fit():
    device = FakeDevice(FakeClock())
    one, other = FakeEngine(fake_variant("same")), FakeEngine(fake_variant("same"))
    version = model_folder("m", "a.fake", "b.fake").versions[0]
    with pytest.raises(RepositoryError, match="two variants are named 'same'"):
        load_version(
            "m", version, ModelConfiguration(),
            (FakeRuntime({"a.fake": one, "b.fake": other}),), device,
        )
    assert one.closed
    assert other.closed
    only = FakeEngine(fake_variant("a"))
    with pytest.raises(ModelLoadError, match="no such fake engine"):
        load_version(
            "m", version, ModelConfiguration(), (FakeRuntime({"a.fake": only}),), device
        )
    assert only.closed


def test_the_suffixes_are_those_of_all_runtimes():
    class Plans(FakeRuntime):
        suffixes = (".plan", ".engine")  # type: ignore[assignment]

    assert served_suffixes((FakeRuntime({}), Plans({}))) == (".fake", ".plan", ".engine")


# --- the device --------------------------------------------------------------------------


def test_memory_that_is_short_leaves_that_model_out_with_its_numbers(separate):
    def engine() -> FakeEngine:
        return FakeEngine(script=FakeScript(pins=True, captures=True))

    # Each lane takes two places of 256 bytes; of the larger model's only the first fits.
    engines: Engines = {
        "a.fake": engine(), "c.fake": engine(),
        "b.fake": FakeEngine(fake_variant(row=(1024,)), script=FakeScript(pins=True)),
    }
    separate.device.total_bytes = LANES * 512 + 6_000
    found = states(separate.load(
        engines, *(model_folder(name, f"{name}.fake") for name in "abc")
    ))
    assert [state for name, _, state in found[3:] if name != "b"] == ["LOADED", "LOADED"]
    (told,) = [state for name, _, state in found[3:] if name == "b"]
    assert "4096 bytes are needed and 1904 free" in told
    assert "Free device memory" in told
    assert separate.device.allocated_bytes == LANES * 512
    bad = engines["b.fake"]
    assert isinstance(bad, FakeEngine)
    assert bad.closed
    assert all(context.closed for context in bad.contexts)


@pytest.mark.parametrize("script", [
    lambda lost: FakeScript(context_failures={2: lost}),
    lambda lost: FakeScript(failures={2: lost}),
    lambda lost: FakeScript(pins=True, captures=True, capture=lost),
])
def test_a_lost_device_ends_the_loading(separate, script):
    lost = DeviceError("illegal address", sticky=True)
    engines: Engines = {"a.fake": FakeEngine(script=script(lost)), "b.fake": FakeEngine()}
    events = separate.load(engines, model_folder("a", "a.fake"), model_folder("b", "b.fake"))
    assert events[-1] == DeviceLost(lost)
    assert [state for _, _, state in states(events)] == ["LOADING", "LOADING"]


def test_the_loader_s_thread_uses_the_device(separate):
    separate.load({})
    assert len(separate.device.threads) == LANES + 1


# --- where models live -------------------------------------------------------------------


def placed(*groups: ModelInstanceGroup) -> ModelConfiguration:
    return ModelConfiguration(ModelConfig(max_batch_size=64, instance_group=list(groups)))


def gpu(*gpus: int, count: int = 0) -> ModelInstanceGroup:
    return ModelInstanceGroup(kind=ModelInstanceGroup.KIND_GPU, gpus=gpus, count=count)


def test_models_that_live_elsewhere_are_left_out(separate):
    separate.device.name = "cuda:1"
    unreadable = ModelFolder("bad", Path("/repository/bad"))
    events = separate.load(
        {"a.fake": FakeEngine(), "b.fake": FakeEngine(), "c.fake": FakeEngine()},
        model_folder("a", "a.fake", configuration=placed(gpu(0))),
        model_folder("b", "b.fake", configuration=placed(gpu(1, count=2))),
        model_folder("c", "c.fake"), unreadable,
        devices=("cuda:0", "cuda:1"),
    )
    assert {name for name, _, _ in states(events)} == {"b", "c", "bad"}
    lanes = {event.spec.model: event.lanes for event in events if isinstance(event, Loaded)}
    assert lanes == {"b": 2, "c": None}
    assert events[-1] == Finished(3)


def test_a_placement_that_is_not_what_was_asked_for_is_a_warning(separate):
    separate.device.name = "cuda:0"
    events = separate.load(
        {"a.fake": FakeEngine()}, model_folder("a", "a.fake", configuration=placed(gpu(7))),
        devices=("cuda:0",),
    )
    (loaded,) = [event for event in events if isinstance(event, Loaded)]
    (warning,) = loaded.warnings
    assert "instance_group asks for cuda:7" in warning


def test_whether_the_batch_was_derived_is_told(shared):
    assert not shared.load_one(FakeEngine()).batch_derived
    assert VOUCHED.max_batch_size is not None
    events = shared.load({"m.fake": FakeEngine()}, model_folder(
        "m", "m.fake", configuration=ModelConfiguration()
    ))
    assert [event.batch_derived for event in events if isinstance(event, Loaded)] == [True]


# --- buckets that come often -------------------------------------------------------------

OTHER: Bucket = ((5,),)


def open_engine(**script: Any) -> FakeEngine:
    """An engine that pins; whatever it is asked to."""
    return FakeEngine(script=FakeScript(pins=True, captures=True, **script))


def ask(stand: LoaderStand, loaded: Loaded) -> PinsMade:
    """Ask for contexts of one more bucket."""
    assert stand.loader is not None
    stand.loader.pin(7, loaded.variants[0], OTHER)
    event = stand.events.get(timeout=30)
    assert isinstance(event, PinsMade)
    assert (event.variant, event.bucket) == (7, OTHER)
    return event


def test_contexts_are_made_and_closed_on_demand(separate):
    engine = open_engine()
    loaded = separate.load_one(engine)
    before = separate.device.allocated_bytes
    made = ask(separate, loaded)
    assert [pinned.sizes for pinned in made.pinned] == [(1, 2, 4, 8)] * LANES
    assert {rows for _, rows, _ in made.measured} == {1, 2, 4, 8}
    assert separate.loader is not None
    separate.loader.unpin(loaded.variants[0], made.pinned)
    separate.close_loader()
    pinned = {context for each in made.pinned for context in each.contexts}
    assert {context for context in engine.contexts if context.closed} == pinned
    assert separate.device.allocated_bytes == before


@pytest.mark.parametrize("error", [
    DeviceError("no memory"), ModelLoadError("no memory"), KeyError("no memory"),
])
def test_a_bucket_that_can_not_get_any_is_told_and_the_loader_goes_on(separate, caplog, error):
    failures: dict[int, Exception] = {}
    engine = open_engine(context_failures=failures)
    loaded = separate.load_one(engine)
    before = separate.device.allocated_bytes
    failures[len(engine.contexts) + 2] = error
    made = ask(separate, loaded)
    assert (made.pinned, made.measured) == ((), ())
    assert "gets no contexts of its own" in caplog.text
    assert "no memory" in caplog.text
    assert separate.device.allocated_bytes == before
    failures.clear()
    assert len(ask(separate, loaded).pinned) == LANES


def test_a_device_lost_over_a_bucket_is_told(separate):
    failures: dict[int, Exception] = {}
    engine = open_engine(context_failures=failures)
    loaded = separate.load_one(engine)
    lost = failures[len(engine.contexts) + 2] = DeviceError("illegal address", sticky=True)
    assert separate.loader is not None
    separate.loader.pin(7, loaded.variants[0], OTHER)
    assert separate.events.get(timeout=30) == DeviceLost(lost)


# --- what loading took, and what was left out ----------------------------------------------


def loaded_of(events: list[LoadEvent]) -> Loaded:
    (found,) = [event for event in events if isinstance(event, Loaded)]
    return found


def test_the_memory_that_loading_took_is_told(shared, separate):
    engines = {"a.fake": FakeEngine()}
    found = loaded_of(shared.load(engines, model_folder("a", "a.fake")))
    assert found.memory is not None
    assert found.memory.device == shared.device.name
    separate.device.total_bytes = 1 << 30
    found = loaded_of(separate.load({"a.fake": FakeEngine()}, model_folder("a", "a.fake")))
    assert found.memory is not None
    assert found.memory.peak_bytes >= found.memory.resident_bytes


def test_a_plan_is_left_out_where_only_gpus_run_it(shared):
    engines = {"a.fake": FakeEngine()}
    found = loaded_of(shared.load(engines, model_folder("a", "a.fake", "b.plan")))
    assert len(found.variants) == 1
    (warning,) = [text for text in found.warnings if "left out" in text]
    assert "b.plan" in warning
