"""Equipping lanes: every context in the thread of its own lane, and none left when that fails."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.worker.lane_fleet import LANES, Fleet
from trtserve.errors import DeviceError, ExecutionFailed, ModelLoadError
from trtserve.ipc.message import Bucket
from trtserve.model.configuration import WarmupShapes
from trtserve.model.spec import ShapeRange, TensorSpec, VariantSpec
from trtserve.testing.engine import FakeContext, FakeEngine, FakeScript, fake_variant
from trtserve.worker.equip import Equipment

BUCKET: Bucket = ((4,),)


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    found = Fleet()
    yield found
    found.close()


@pytest.fixture
def shared() -> Iterator[Fleet]:
    found = Fleet(unified=True)
    yield found
    found.close()


def pinning(max_batch: int = 4, variant: VariantSpec | None = None, **script: Any) -> FakeEngine:
    """An engine that wants contexts of their own for its buckets, and whose batches of any size
    take one time."""
    return FakeEngine(
        variant or fake_variant(max_batch=max_batch),
        script=FakeScript(pins=True, captures=True, **script),
    )


def open_variant(low: int = 1, high: int = -1, opt: int = 0, max_batch: int = 4) -> VariantSpec:
    """One input `x` of a row whose size is the request's to choose."""
    tensor = ("FP32", (-1, -1))
    chosen = (max_batch, opt) if opt else None
    return VariantSpec(
        "open", (TensorSpec("x", *tensor),), (TensorSpec("y", *tensor),),
        (ShapeRange((1, low), (max_batch, high), chosen),), max_batch,
    )


def warmup(rows: int, size: int) -> WarmupShapes:
    return WarmupShapes("w", rows, (TensorSpec("x", "FP32", (size,)),))


def sizes(equipment: Equipment) -> list[dict[Bucket, tuple[int, ...]]]:
    """Each lane's pinned buckets with their sizes."""
    return [
        {bucket: pinned.sizes for bucket, pinned in contexts.pinned.items()}
        for contexts in equipment.lanes
    ]


def check_threads(fleet: Fleet, equipment: Equipment) -> None:
    """Each context was touched by its own lane's thread only, for its own lane's stream."""
    for lane, contexts in zip(fleet.lanes, equipment.lanes, strict=True):
        mine = [context for pinned in contexts.pinned.values() for context in pinned.contexts]
        mine += [contexts.any_shape] if contexts.any_shape else []
        assert mine
        for context in mine:
            assert isinstance(context, FakeContext)
            assert context.threads == {f"lane {lane.index}"}
            assert context.streams == {lane.runner.compute_stream.handle}


# --- engines that pin --------------------------------------------------------------------


def test_lanes_are_lent_one_by_one(fleet):
    equipment = fleet.equip(pinning())
    assert fleet.lent == [0, 1, 2]
    fleet.equipper.strip(equipment)
    assert fleet.lent == [0, 1, 2, 0, 1, 2]


def test_each_lane_has_contexts_of_its_own_from_its_own_thread(fleet):
    engine = pinning()
    equipment = fleet.equip(engine)
    assert len(engine.contexts) == LANES * 3
    check_threads(fleet, equipment)
    contexts = list(engine.contexts)
    fleet.equipper.strip(equipment)
    for index, context in enumerate(contexts):
        assert context.closed
        assert context.threads == {f"lane {index // 3}"}
    fleet.check_nothing_is_left(engine)


def test_the_only_bucket_there_is_needs_no_context_for_others(fleet):
    equipment = fleet.equip(pinning())
    assert sizes(equipment) == [{BUCKET: (1, 2, 4)}] * LANES
    assert [contexts.any_shape for contexts in equipment.lanes] == [None] * LANES
    assert equipment.lasting == {BUCKET}
    assert {rows for _, rows, _ in equipment.measured} == {1, 2, 4}
    assert equipment.lanes[0].find(BUCKET, 3) == (
        equipment.lanes[0].pinned[BUCKET].contexts[2], 4,
    )


def test_what_the_pinned_sizes_do_not_cover_has_a_context_for_any_shape(fleet):
    # Growing does not pay: the larger sizes are not made, and single requests may have them.
    equipment = fleet.equip(pinning(8, service_ns=lambda rows: 100_000_000 * rows))
    assert sizes(equipment) == [{BUCKET: (1, 2)}] * LANES
    assert equipment.lasting == frozenset()
    check_threads(fleet, equipment)
    for contexts in equipment.lanes:
        assert contexts.find(BUCKET, 5) == (contexts.any_shape, 0)
    fleet.equipper.strip(equipment)
    assert fleet.device.allocated_bytes == 0


def test_of_open_shapes_nothing_is_known(fleet):
    engine = pinning(variant=open_variant())
    equipment = fleet.equip(engine)
    assert sizes(equipment) == [{}] * LANES
    assert engine.runs == 0
    check_threads(fleet, equipment)


def test_a_profile_s_shapes_are_pinned_and_the_rest_runs_unpinned(fleet):
    equipment = fleet.equip(pinning(variant=open_variant(3, 9, 5)))
    assert sizes(equipment) == [
        {((size,),): (1, 2, 4) for size in (5, 9, 3)}
    ] * LANES
    assert equipment.lasting == frozenset()
    assert all(contexts.any_shape for contexts in equipment.lanes)
    check_threads(fleet, equipment)


def test_a_bucket_that_the_configuration_names_is_a_bucket_like_the_others(fleet):
    engine = pinning(variant=open_variant(max_batch=8))
    equipment = fleet.equip(engine, warmups=(warmup(3, 5), warmup(1, 6)))
    assert sizes(equipment) == [{((5,),): (1, 2, 3, 4, 8), ((6,),): (1, 2, 4, 8)}] * LANES


def test_a_bucket_that_is_named_several_times_is_made_once(fleet):
    engine = pinning(8)
    equipment = fleet.equip(engine, warmups=(warmup(3, 4), warmup(6, 4)))
    assert sizes(equipment) == [{BUCKET: (1, 2, 3, 4, 6, 8)}] * LANES
    assert len(engine.contexts) == LANES * 6
    fleet.equipper.strip(equipment)
    fleet.check_nothing_is_left(engine)


def test_a_size_that_the_configuration_names_is_made_though_it_does_not_pay(fleet):
    engine = pinning(16, service_ns=lambda rows: 100_000_000 * rows)
    equipment = fleet.equip(engine, warmups=(warmup(12, 4),))
    assert sizes(equipment) == [{BUCKET: (1, 2, 12)}] * LANES


def test_only_the_first_lane_measures(fleet):
    engine = pinning(service_ns=lambda rows: 1_000_000)
    fleet.equip(engine)
    runs = [0] * LANES
    for entry in fleet.device.log:
        if entry.work.startswith("compute"):
            runs[(entry.stream - 1) // 3] += 1
    assert runs[0] > runs[1] == runs[2] > 0


def test_what_one_lane_can_not_capture_the_others_do_not_try(fleet, caplog):
    fleet.equip(pinning(capture=ExecutionFailed("it synchronises")))
    assert len([record for record in caplog.records if "captured" in record.getMessage()]) == 1


def test_an_unbatched_variant(fleet):
    equipment = fleet.equip(pinning(0))
    assert sizes(equipment) == [{BUCKET: (1,)}] * LANES
    assert equipment.lasting == {BUCKET}


# --- engines that do not -----------------------------------------------------------------


def test_an_engine_of_any_shape_has_one_context_on_each_lane(fleet):
    engine = FakeEngine(fake_variant(max_batch=4))
    equipment = fleet.equip(engine)
    assert sizes(equipment) == [{}] * LANES
    assert len(engine.contexts) == LANES
    check_threads(fleet, equipment)
    assert {rows for _, rows, _ in equipment.measured} == {1, 2, 4}
    assert fleet.lent == [0, 1, 2]
    assert fleet.device.allocated_bytes == LANES * 2 * 256
    fleet.equipper.strip(equipment)
    fleet.check_nothing_is_left(engine)


def test_where_memory_is_shared_a_lane_of_its_own_does_the_work(shared):
    engine = FakeEngine(fake_variant(max_batch=4))
    equipment = shared.equip(engine)
    assert shared.lent == []
    assert len(equipment.lanes) == LANES
    # The one that was warmed up is closed, the lanes' have not run yet.
    assert [context.closed for context in engine.contexts] == [False] * LANES + [True]
    assert engine.contexts[-1].threads == {"lane -1"}
    assert {rows for _, rows, _ in equipment.measured} == {1, 2, 4}
    names = {thread.name for thread in threading.enumerate()}
    assert "lane -1" in names
    shared.equipper.finished()
    shared.equipper.finished()
    assert "lane -1" not in {thread.name for thread in threading.enumerate()}
    shared.equipper.strip(equipment)  # for which there is one again
    engine.close()


# --- failures ----------------------------------------------------------------------------


def at_run(nth: int, error: Exception) -> dict[str, object]:
    return {"failures": {nth: error}}


def at_context(nth: int, error: Exception) -> dict[str, object]:
    return {"context_failures": {nth: error}}


# Three sizes on each lane; the first lane runs each four times.
@pytest.mark.parametrize(("where", "nth", "error"), [
    (at_context, 2, ModelLoadError("no")),
    (at_context, 4, ModelLoadError("no")),
    (at_context, 5, DeviceError("no", sticky=True)),
    (at_context, 9, KeyError("no")),
    (at_run, 1, ExecutionFailed("no")),
    (at_run, 14, ExecutionFailed("no")),
    (at_run, 18, DeviceError("no", sticky=True)),
])
def test_a_failure_on_any_lane_leaves_nothing(fleet, where, nth, error):
    engine = pinning(**where(nth, error))
    engine.script.captures = False
    with pytest.raises(type(error)) as caught:
        fleet.equip(engine)
    assert caught.value is error
    fleet.check_nothing_is_left(engine)


def test_a_context_for_any_shape_that_can_not_be_made_leaves_nothing(fleet):
    # Two sizes on each of three lanes come first.
    engine = pinning(
        8, service_ns=lambda rows: 100_000_000 * rows,
        context_failures={8: ModelLoadError("no memory")},
    )
    with pytest.raises(ModelLoadError, match="no memory"):
        fleet.equip(engine)
    assert len(engine.contexts) == 7
    fleet.check_nothing_is_left(engine)


@pytest.mark.parametrize(("where", "nth"), [(at_context, 2), (at_run, 1), (at_run, 15)])
@pytest.mark.parametrize("unified", [False, True])
def test_an_engine_of_any_shape_that_fails_leaves_nothing(unified, where, nth):
    fleet = Fleet(unified=unified)
    if unified and nth == 15:
        nth = 3  # it is warmed up once
    engine = FakeEngine(
        fake_variant(max_batch=4),
        script=FakeScript(**where(nth, ExecutionFailed("no"))),
    )
    with pytest.raises(ExecutionFailed, match="no"):
        fleet.equip(engine)
    fleet.check_nothing_is_left(engine)
    fleet.close()


def test_memory_that_is_short_on_the_second_lane_leaves_nothing(fleet):
    # A lane takes two places of 256 bytes.
    fleet.device.total_bytes = 3 * 256
    engine = pinning()
    with pytest.raises(DeviceError, match="256 bytes are needed and 0 free"):
        fleet.equip(engine)
    fleet.check_nothing_is_left(engine)


def test_a_variant_that_fails_takes_the_others_of_its_version_with_it(fleet):
    good, bad = pinning(), pinning(failures={1: ExecutionFailed("no")})
    with pytest.raises(ExecutionFailed, match="no"):
        fleet.equip(good, bad)
    fleet.check_nothing_is_left(good, bad)


# --- one bucket more ---------------------------------------------------------------------


@pytest.fixture
def opened(fleet: Fleet) -> Callable[..., tuple[FakeEngine, Equipment]]:
    """An engine of open shapes with contexts for any shape."""
    def equip(**script: Any) -> tuple[FakeEngine, Equipment]:
        engine = pinning(variant=open_variant(max_batch=16), **script)
        return engine, fleet.equip(engine)

    return equip


def test_a_bucket_is_pinned_on_every_lane_and_unpinned_again(fleet, opened):
    engine, equipment = opened()
    before = fleet.device.allocated_bytes
    pinned, measured = fleet.equipper.pin(equipment, BUCKET)
    assert [each.sizes for each in pinned] == [(1, 2, 4, 8, 12, 16)] * LANES
    assert {rows for _, rows, _ in measured} == set(pinned[0].sizes)
    assert sizes(equipment) == [{}] * LANES  # it is the loop's to take them
    for contexts, mine in zip(equipment.lanes, pinned, strict=True):
        contexts.pinned[BUCKET] = mine
    check_threads(fleet, equipment)
    for contexts in equipment.lanes:
        contexts.pinned.clear()
    fleet.equipper.unpin(equipment, pinned)
    assert all(context.closed for each in pinned for context in each.contexts)
    assert fleet.device.allocated_bytes == before
    fleet.equipper.strip(equipment)
    fleet.check_nothing_is_left(engine)


def test_lanes_without_the_bucket_are_left_alone(fleet, opened):
    _, equipment = opened()
    pinned, _ = fleet.equipper.pin(equipment, BUCKET)
    fleet.equipper.unpin(equipment, [pinned[0], None, pinned[2]])
    assert [each.contexts[0].closed for each in pinned] == [True, False, True]
    fleet.equipper.unpin(equipment, [None, pinned[1], None])


# The contexts of three lanes for any shape come first, then six sizes on each lane.
@pytest.mark.parametrize("nth", [4, 9, 10, 15, 21])
def test_a_bucket_that_can_not_be_pinned_leaves_nothing(fleet, opened, nth):
    engine, equipment = opened(context_failures={nth: ModelLoadError("no memory")})
    before = fleet.device.allocated_bytes
    with pytest.raises(ModelLoadError, match="no memory"):
        fleet.equipper.pin(equipment, BUCKET)
    assert len(engine.contexts) == nth - 1
    assert all(context.closed for context in engine.contexts[LANES:])
    assert not any(context.closed for context in engine.contexts[:LANES])
    assert fleet.device.allocated_bytes == before


def test_all_contexts_of_a_lane_share_its_scratch_memory(fleet):
    small, large = pinning(scratch_bytes=1000), pinning(scratch_bytes=5000)
    one = fleet.equip(small)
    other = fleet.equip(large)
    for index, lane in enumerate(fleet.lanes):
        scratch = lane.runner.scratch
        contexts = [len(each.lanes[index].pinned[BUCKET].contexts) for each in (one, other)]
        assert scratch.size >= 5000
        assert scratch.size < 2 * 5000
        assert scratch.unshared == contexts[0] * 1000 + contexts[1] * 5000
    fleet.equipper.strip(one)
    fleet.equipper.strip(other)
    assert [lane.runner.scratch.size for lane in fleet.lanes] == [0] * LANES
