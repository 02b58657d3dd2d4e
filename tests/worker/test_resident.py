"""What is loaded: numbers of variants, what front ends are told, costs that changed."""

from trtserve.ipc.message import ModelUpdate
from trtserve.metrics import Recorder
from trtserve.model.spec import ModelState, VariantSpec, VersionSpec
from trtserve.testing.engine import FakeEngine, fake_variant
from trtserve.worker.batcher import Batcher
from trtserve.worker.loader import Loaded, LoadedVariant
from trtserve.worker.resident import Residents
from trtserve.worker.warmup import Measured

BUCKET = ((4,),)


def loaded(
    *variants: VariantSpec, model: str = "m", version: int = 1,
    measured: tuple[Measured, ...] = ((BUCKET, 1, 1000), (BUCKET, 2, 1200)),
) -> Loaded:
    engine = FakeEngine(*variants)
    spec = VersionSpec(model, version, "fake", engine.variants)
    parts = tuple(
        LoadedVariant(each, (engine.create_context(index),), measured)
        for index, each in enumerate(engine.variants)
    )
    return Loaded(spec, parts, 1.5, ("a warning",))


def test_a_version_is_told_with_its_numbers_and_costs():
    residents, batcher = Residents(), Batcher(1, 100)
    found = loaded(fake_variant("a"), fake_variant("b"))
    update = residents.add(found, batcher, Recorder())
    assert update == ModelUpdate(
        "m", 1, ModelState.READY, "", found.spec, (1, 2),
        ((1, BUCKET, 600), (2, BUCKET, 600)), 1.5, ("a warning",),
    )
    assert residents.variants[2].spec.name == "b"
    assert residents.variants[2].contexts == found.variants[1].contexts
    assert batcher.cost(1, BUCKET) == 600


def test_numbers_are_never_used_again_and_costs_are_each_version_s_own():
    residents, batcher = Residents(), Batcher(1, 100)
    residents.add(loaded(), batcher, Recorder())
    update = residents.add(loaded(version=2), batcher, Recorder())
    assert update.variant_ids == (2,)
    assert update.costs == ((2, BUCKET, 600),)


def test_a_variant_without_measurements_has_no_cost():
    update = Residents().add(loaded(measured=()), Batcher(1, 100), Recorder())
    assert update.costs == ()


def test_a_new_front_end_is_told_the_latest_of_each_version():
    residents = Residents()
    residents.note(ModelUpdate("m", 1, ModelState.LOADING))
    residents.note(ModelUpdate("b", 1, ModelState.UNAVAILABLE, "broken"))
    ready = residents.add(loaded(), Batcher(1, 100), Recorder())
    assert residents.updates() == [ready, ModelUpdate("b", 1, ModelState.UNAVAILABLE, "broken")]


def test_costs_are_told_again_when_they_changed_by_a_tenth():
    residents = Residents()
    residents.add(loaded(), Batcher(1, 100), Recorder())
    assert residents.changed_costs(lambda *_: 655) == ()
    assert residents.changed_costs(lambda *_: None) == ()
    assert residents.changed_costs(lambda *_: 700) == ((1, BUCKET, 700),)
    assert residents.changed_costs(lambda *_: 700) == ()  # told
    assert residents.changed_costs(lambda *_: 600) == ((1, BUCKET, 600),)
