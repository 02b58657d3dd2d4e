"""Loading: one broken model leaves the others alone, and nothing of it stays behind."""

from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from tests.worker.worker_stand import model_folder
from trtserve.errors import ExecutionFailed, ModelLoadError, RepositoryError
from trtserve.model.configuration import ModelConfiguration
from trtserve.model.finding import Finding
from trtserve.model.repository import ModelFolder, Repository
from trtserve.model.spec import ModelState
from trtserve.model.version_folder import VersionFolder
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.testing.engine import FakeEngine, FakeRuntime, FakeScript, fake_variant
from trtserve.worker.loader import (
    Finished,
    Loaded,
    Loader,
    LoadEvent,
    Progress,
    load_version,
    served_suffixes,
)
from trtserve.worker.output import OutputArena
from trtserve.worker.warmup import WarmUp

CONTEXTS = 2

Load = Callable[..., list[LoadEvent]]


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice(FakeClock(), unified=True)


@pytest.fixture
def load(device: FakeDevice) -> Iterator[Load]:
    """Loads models; returns all events."""
    outputs = OutputArena.create(1 << 20)

    def load_models(
        engines: dict[str, FakeEngine | ModelLoadError], *folders: ModelFolder
    ) -> list[LoadEvent]:
        events: SimpleQueue[LoadEvent] = SimpleQueue()
        repository = Repository(Path("/repository"), folders)
        loader = Loader(
            repository, (FakeRuntime(engines),), device, CONTEXTS, WarmUp(device, outputs)
        )
        loader.start(events.put)
        found: list[LoadEvent] = []
        while not (found and isinstance(found[-1], Finished)):
            found.append(events.get(timeout=30))
        return found

    yield load_models
    outputs.close()


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
    assert len(variant.contexts) == CONTEXTS
    # The warm-up had a context of its own, and closed it.
    assert [context.closed for context in engines["a.fake"].contexts] == [False, False, True]


def test_several_files_are_variants_of_one_version(load):
    engines = {"a.fake": FakeEngine(fake_variant("a")), "b.fake": FakeEngine(fake_variant("b"))}
    events = load(engines, model_folder("m", "a.fake", "b.fake"))
    (loaded,) = [event for event in events if isinstance(event, Loaded)]
    assert [variant.spec.name for variant in loaded.variants] == ["a", "b"]
    assert set(loaded.variants[0].contexts).isdisjoint(loaded.variants[1].contexts)


def broken_engine() -> dict[str, FakeEngine | ModelLoadError]:
    return {"b.fake": ModelLoadError("cut off", where="b.fake", cure="Copy it again")}


def failing_engine() -> dict[str, FakeEngine | ModelLoadError]:
    script = FakeScript(failures={2: ExecutionFailed("no zeros")})
    return {"b.fake": FakeEngine(script=script)}


def buggy_engine() -> dict[str, FakeEngine | ModelLoadError]:
    class Buggy(FakeEngine):
        def create_context(self, variant):
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


def test_nothing_stays_loaded_when_a_version_does_not_fit(device):
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
