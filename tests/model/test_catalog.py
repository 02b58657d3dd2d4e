"""The catalog: what is known of models as workers come, change and go."""

from typing import Any

import msgspec
import pytest

from trtserve.errors import InvalidRequest, ModelNotFound, Unavailable
from trtserve.model.catalog import Catalog, Placement, Version
from trtserve.model.cost import Cost
from trtserve.model.spec import ModelState, ShapeRange, TensorSpec, VariantSpec, VersionSpec

READY, LOADING, UNAVAILABLE = ModelState.READY, ModelState.LOADING, ModelState.UNAVAILABLE


def spec_of(model: str = "m", version: int = 1) -> VersionSpec:
    shapes = ShapeRange((1, 4), (8, 4))
    one = VariantSpec("a", (TensorSpec("x", "FP32", (-1, 4)),), (), (shapes,), 8)
    return VersionSpec(model, version, "fake", (one,))


def ready(worker: str = "w1", ids: tuple[int, ...] = (7,), **more: Any) -> Placement:
    return Placement(worker, READY, "", ids, **more)


def catalog_of(*versions: tuple[int, VersionSpec | None, Placement]) -> Catalog:
    catalog = Catalog()
    for version, spec, placement in versions:
        catalog = catalog.with_placement("m", version, spec, placement)
    return catalog


# --- resolving ---------------------------------------------------------------------------


def test_the_named_version_or_the_highest():
    catalog = catalog_of(
        (1, spec_of(version=1), ready()), (10, spec_of(version=10), ready()),
        (9, spec_of(version=9), ready()),
    )
    assert catalog.resolve("m", "").version == 10
    assert catalog.resolve("m", "9").version == 9
    assert catalog.resolve("m", "009").version == 9
    assert [version.version for version in catalog.versions()] == [1, 9, 10]


def test_without_a_number_the_highest_that_serves():
    catalog = catalog_of(
        (1, spec_of(), ready()), (2, None, Placement("w1", LOADING)),
        (3, None, Placement("w1", UNAVAILABLE, "broken")),
    )
    assert catalog.resolve("m", "").version == 1


def test_what_there_is_is_listed():
    catalog = catalog_of((1, spec_of(), ready()), (3, spec_of(), ready()))
    catalog = catalog.with_placement("a", 1, spec_of("a"), ready())
    with pytest.raises(ModelNotFound, match="no model 'n'; models here: 'a', 'm'"):
        catalog.resolve("n", "")
    with pytest.raises(ModelNotFound, match="model 'm' has no version 2; it has 1, 3"):
        catalog.resolve("m", "2")
    with pytest.raises(ModelNotFound, match="models here: none"):
        Catalog().resolve("m", "")


@pytest.mark.parametrize("version", ["1x", "1.5", "-1", " 1", "²", "1" * 4400])
def test_a_version_must_be_a_number(version):
    with pytest.raises(InvalidRequest, match="is not a number"):
        catalog_of((1, spec_of(), ready())).resolve("m", version)


def test_what_can_not_serve_says_why():
    catalog = catalog_of((1, None, Placement("w1", UNAVAILABLE, "the file is cut off")))
    for version in ("", "1"):
        with pytest.raises(Unavailable, match="version 1 is not ready: the file is cut off"):
            catalog.resolve("m", version)
    with pytest.raises(Unavailable, match="it is being loaded"):
        catalog_of((1, None, Placement("w1", LOADING))).resolve("m", "")


# --- changes -----------------------------------------------------------------------------


def test_every_change_is_a_new_catalog():
    first = catalog_of((1, spec_of(), ready()))
    for changed in (
        first.with_placement("m", 1, None, Placement("w1", UNAVAILABLE, "gone")),
        first.with_costs("w1", [(7, ((4,),), Cost(100))]),
        first.with_worker_away("w1"),
        first.with_worker_lost("w1"),
    ):
        assert changed is not first
        assert first.resolve("m", "1").state == READY
        assert first.resolve("m", "1").cost(0, ((4,),)) is None


def test_a_specification_stays_when_later_news_have_none():
    catalog = catalog_of((1, spec_of(), ready()), (1, None, Placement("w1", LOADING)))
    assert catalog.models["m"][1].spec == spec_of()


def test_a_model_waits_for_its_worker_to_come_back():
    catalog = catalog_of((1, spec_of(), ready())).with_worker_away("w1")
    version = catalog.resolve("m", "")
    assert version.will_serve
    assert version.state == LOADING
    assert version.reason == "its worker is being restarted"
    (placement,) = version.placements.values()
    assert not placement.serves
    back = catalog.with_placement("m", 1, None, Placement("w1", LOADING))
    assert back.resolve("m", "").will_serve  # it loads again what is known already
    back = back.with_placement("m", 1, spec_of(), ready())
    assert back.resolve("m", "").state == READY


def test_a_model_that_was_broken_waits_for_nobody():
    catalog = catalog_of((1, None, Placement("w1", UNAVAILABLE, "broken"))).with_worker_away("w1")
    assert not catalog.models["m"][1].will_serve
    assert catalog.models["m"][1].reason == "broken"


def test_a_worker_that_keeps_dying_takes_its_models_with_it():
    catalog = catalog_of((1, spec_of(), ready())).with_worker_away("w1").with_worker_lost("w1")
    assert catalog.models["m"][1].state == UNAVAILABLE
    with pytest.raises(Unavailable, match="its worker keeps failing"):
        catalog.resolve("m", "")


def test_another_worker_keeps_a_model_ready():
    catalog = catalog_of((1, spec_of(), ready("w1")), (1, spec_of(), ready("w2")))
    for without in (catalog.with_worker_away("w1"), catalog.with_worker_lost("w1")):
        assert without.resolve("m", "").state == READY
        assert without.models["m"][1].placements["w2"].serves


def test_while_models_are_read_an_unknown_name_may_still_come():
    with pytest.raises(ModelNotFound, match="models here: none"):
        Catalog().resolve("m", "")
    with pytest.raises(Unavailable, match="still reading its models"):
        Catalog(complete=False).resolve("m", "")
    known = Catalog(catalog_of((1, spec_of(), ready())).models, complete=False)
    assert known.resolve("m", "").version == 1


# --- costs -------------------------------------------------------------------------------


def test_the_cost_is_the_best_workers():
    bucket = ((4,),)
    catalog = catalog_of(
        (1, spec_of(), ready("w1", (7,), costs={(7, bucket): Cost(100)})),
        (1, spec_of(), ready("w2", (3,), costs={(3, bucket): Cost(80)})),
    )
    version = catalog.resolve("m", "")
    assert version.cost(0, bucket) == 80
    assert version.cost(0, ((5,),)) is None
    assert version.cost(1, bucket) is None


def test_new_costs_replace_old_ones_of_their_own_variants():
    one, two = ((4,),), ((8,),)
    catalog = catalog_of(
        (1, spec_of(), ready("w1", (7,), costs={(7, one): Cost(100), (7, two): Cost(50)})),
        (2, spec_of(version=2), ready("w1", (8,))),
    ).with_costs("w1", [(7, one, Cost(90)), (99, one, Cost(1))])
    assert catalog.resolve("m", "1").cost(0, one) == 90
    assert catalog.resolve("m", "1").cost(0, two) == 50
    assert catalog.resolve("m", "2").cost(0, one) is None
    assert catalog.with_costs("w2", [(7, one, Cost(1))]).resolve("m", "1").cost(0, one) == 90


# --- labels and weights ------------------------------------------------------------------


def named(version: int, *labels: str, weight: int | None = None, model: str = "m") -> VersionSpec:
    return msgspec.structs.replace(spec_of(model, version), labels=labels, weight=weight)


def test_a_label_is_another_name_of_its_version():
    catalog = catalog_of(
        (1, named(1, "stable", "old"), ready()), (2, named(2, "canary"), ready()),
    )
    assert catalog.resolve("m", "stable").version == catalog.resolve("m", "old").version == 1
    assert catalog.resolve("m", "canary").version == 2
    with pytest.raises(ModelNotFound) as caught:
        catalog.resolve("m", "beta")
    assert str(caught.value) == (
        "model 'm' has no version 'beta'; it has 1, 2, and the labels stable (1), old (1), "
        "canary (2)"
    )
    with pytest.raises(ModelNotFound, match="it has 1, and no labels"):
        catalog_of((1, spec_of(), ready())).resolve("m", "beta")


def test_a_label_may_belong_to_a_version_that_was_not_read_yet():
    catalog = catalog_of((1, named(1, "stable"), ready()), (2, None, Placement("w1", LOADING)))
    with pytest.raises(Unavailable, match="labelled 'canary' yet: version 2 is not ready: it is"):
        catalog.resolve("m", "canary")


def test_a_label_of_a_version_that_does_not_serve():
    catalog = catalog_of((1, named(1, "stable"), ready()))
    catalog = catalog.with_placement("m", 1, None, Placement("w1", UNAVAILABLE, "out of memory"))
    with pytest.raises(Unavailable, match="version 1 is not ready: out of memory"):
        catalog.resolve("m", "stable")
    assert catalog.find("m", "stable").version == 1


def test_without_weights_there_are_no_shares():
    assert catalog_of((1, spec_of(), ready())).shares("m") == ()
    assert Catalog().shares("m") == ()


def test_a_version_that_does_not_serve_gives_its_share_to_the_others():
    catalog = catalog_of(
        (1, named(1, weight=90), ready("w1")), (2, named(2, weight=10), ready("w2")),
        (3, named(3, weight=0), ready("w1")),
    )
    assert catalog.shares("m") == ((1, 90), (2, 10))
    assert catalog.with_worker_away("w2").shares("m") == ((1, 90),)
    assert catalog.with_worker_away("w1").shares("m") == ((2, 10),)
    nobody = catalog.with_worker_away("w1").with_worker_away("w2")
    assert nobody.shares("m") == ((1, 90), (2, 10))  # they come back
    lost = catalog.with_worker_lost("w1").with_worker_away("w2")
    assert lost.shares("m") == ((2, 10),)


def test_what_is_asked_of_a_split_model_without_a_version_is_told_of_its_main_version():
    catalog = catalog_of((1, named(1, weight=90), ready()), (2, named(2, weight=10), ready()))
    assert catalog.resolve("m", "").version == 1


def test_a_version_of_weight_0_never_gets_what_is_for_others():
    catalog = catalog_of(
        (1, named(1, weight=1), ready("w1")), (2, named(2, weight=0), ready("w2")),
    ).with_worker_lost("w1")
    with pytest.raises(Unavailable, match="version 1 is not ready"):
        catalog.resolve("m", "")
    assert catalog.resolve("m", "2").version == 2


# --- swaps -------------------------------------------------------------------------------


def changed(version: int = 1) -> VersionSpec:
    return msgspec.structs.replace(spec_of(version=version), platform="newer")


def workers_of(version: Version) -> list[str]:
    return [placement.worker for placement in version.serving()]


def test_only_workers_of_the_same_specification_serve_a_request():
    bucket, cost = ((4,),), {(7, ((4,),)): Cost(100)}
    catalog = catalog_of(
        (1, spec_of(), ready("w1", costs=cost)), (1, spec_of(), ready("w2", costs=cost)),
    )
    assert workers_of(catalog.resolve("m", "1")) == ["w1", "w2"]
    half = catalog.with_placement("m", 1, changed(), ready("w1", (8,)))
    assert half.resolve("m", "1").spec == changed()
    assert workers_of(half.resolve("m", "1")) == ["w1"]
    assert half.resolve("m", "1").cost(0, bucket) is None  # the other's was of the old one
    whole = half.with_placement("m", 1, changed(), ready("w2", (9,)))
    assert workers_of(whole.resolve("m", "1")) == ["w1", "w2"]
    back = half.with_placement("m", 1, spec_of(), ready("w1"))
    assert workers_of(back.resolve("m", "1")) == ["w1", "w2"]


def test_who_was_told_of_the_new_first_and_then_of_the_old_finds_the_new_again():
    catalog = catalog_of(
        (1, changed(), ready("w1")), (1, spec_of(), ready("w2")), (1, changed(), ready("w2", (9,))),
    )
    assert sorted(workers_of(catalog.resolve("m", "1"))) == ["w1", "w2"]


def test_what_every_worker_has_unloaded_is_gone():
    catalog = catalog_of(
        (1, spec_of(version=1), ready("w1")), (2, spec_of(version=2), ready("w1")),
        (2, spec_of(version=2), ready("w2")),
    )
    less = catalog.without_placement("m", 2, "w1")
    assert workers_of(less.resolve("m", "2")) == ["w2"]
    less = less.without_placement("m", 2, "w2")
    assert less.resolve("m", "").version == 1
    with pytest.raises(ModelNotFound, match="it has 1"):
        less.resolve("m", "2")
    less = less.without_placement("m", 1, "w1")
    assert less.models == {}
    assert less.without_placement("m", 1, "w1").without_placement("n", 1, "w1").models == {}
    assert catalog.resolve("m", "2").state == READY


def test_the_specification_is_that_of_a_worker_that_is_left():
    catalog = catalog_of((1, spec_of(), ready("w2")), (1, changed(), ready("w1")))
    left = catalog.without_placement("m", 1, "w1").resolve("m", "1")
    assert left.spec == spec_of()
    assert workers_of(left) == ["w2"]
