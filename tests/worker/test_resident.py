"""What is loaded: numbers of variants, what front ends are told, costs that changed, pins."""

import msgspec

from trtserve.ipc.message import Bucket, ModelUpdate, Submit
from trtserve.metrics import Recorder
from trtserve.model.cost import Cost
from trtserve.model.spec import ModelState, VariantSpec, VersionSpec
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.testing.engine import FakeEngine, fake_variant
from trtserve.worker.batcher import Batcher
from trtserve.worker.contexts import LaneContexts, Pinned
from trtserve.worker.equip import Equipment
from trtserve.worker.loading import Loaded, PinsMade
from trtserve.worker.prepare import Measured, Source
from trtserve.worker.request import Batch, Request
from trtserve.worker.resident import Residents

BUCKET: Bucket = ((4,),)
STREAM = FakeDevice(FakeClock()).create_stream()
MEASURED: tuple[Measured, ...] = ((BUCKET, 1, 1000), (BUCKET, 2, 1200))
COST = Cost(600, 0, ((1, 1000), (2, 1200)))


def loaded(
    *variants: VariantSpec, model: str = "m", version: int = 1,
    measured: tuple[Measured, ...] = MEASURED, limit: int | None = None, lanes: int = 1,
) -> Loaded:
    """A version with a context for any shape on each lane. `limit`: of its batches at once."""
    engine = FakeEngine(*variants)
    spec = VersionSpec(model, version, "fake", engine.variants)
    equipments = tuple(
        Equipment(
            Source(engine, index, each, False),
            tuple(LaneContexts(engine.create_context(index, STREAM)) for _ in range(lanes)),
            measured,
        )
        for index, each in enumerate(engine.variants)
    )
    return Loaded(spec, equipments, 1.5, ("a warning",), lanes=limit)


def made(
    *sizes: int, bucket: Bucket = BUCKET, variant: int = 1, lanes: int = 1,
    measured: tuple[Measured, ...] = (),
) -> PinsMade:
    """Contexts of these sizes for a bucket, on each lane."""
    engine = FakeEngine()
    return PinsMade(variant, bucket, tuple(
        Pinned(sizes, tuple(engine.create_context(0, STREAM) for _ in sizes))
        for _ in range(lanes)
    ), measured)


class Owner:
    """Stands for a front end."""

    def addresses(self, submit: Submit) -> tuple[tuple[int, int], ...]:
        return ((submit.inputs[0][0] + 1000, submit.inputs[0][1]),)


def batch(*rows: int, bucket: Bucket = BUCKET) -> Batch:
    requests = [
        Request(Submit(number, 1, bucket, count, ((number, 16),), (number,), 0), Owner())
        for number, count in enumerate(rows)
    ]
    return Batch(7, 1, bucket, requests, sum(rows), 0)


def best(batcher: Batcher, rows: int, bucket: Bucket = BUCKET) -> int | None:
    """What the batcher believes a batch takes."""
    return batcher.estimate(Batch(1, 1, bucket, [], rows, 0))


# --- what is told ------------------------------------------------------------------------


def test_a_version_is_told_with_its_numbers_and_costs():
    residents, batcher = Residents(), Batcher(1, 100)
    found = loaded(fake_variant("a"), fake_variant("b"))
    update = residents.add(found, batcher, Recorder())
    assert update == ModelUpdate(
        "m", 1, ModelState.READY, "", found.spec, (1, 2),
        ((1, BUCKET, COST), (2, BUCKET, COST)), 1.5, ("a warning",),
    )
    assert residents.variants[2].spec.name == "b"
    assert residents.variants[2].equipment is found.variants[1]
    assert batcher.cost(1, BUCKET) == COST


def test_numbers_are_never_used_again_and_costs_are_each_version_s_own():
    residents, batcher = Residents(), Batcher(1, 100)
    residents.add(loaded(), batcher, Recorder())
    update = residents.add(loaded(version=2), batcher, Recorder())
    assert update.variant_ids == (2,)
    assert update.costs == ((2, BUCKET, COST),)


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
    little, much = (
        msgspec.structs.replace(COST, points=((1, one), (2, 1200))) for one in (1090, 1110)
    )
    assert residents.changed_costs(lambda *_: little, 0) == ()
    assert residents.changed_costs(lambda *_: None, 0) == ()
    assert residents.changed_costs(lambda *_: much, 0) == ((1, BUCKET, much),)
    assert residents.changed_costs(lambda *_: much, 0) == ()  # told
    assert residents.changed_costs(lambda *_: little, 0) == ()


def test_costs_are_told_again_when_batches_become_larger():
    residents = Residents()
    residents.add(loaded(), Batcher(1, 100), Recorder())
    busy = msgspec.structs.replace(COST, usual_rows=8)
    assert residents.changed_costs(lambda *_: busy, 0) == ((1, BUCKET, busy),)


def test_the_lanes_that_a_version_may_be_on_are_told_and_kept():
    for limit, told in ((None, 3), (2, 2), (8, 3)):
        batcher = Batcher(3, 100)
        batcher.reserve_lane()  # one that is lent counts too
        update = Residents().add(loaded(limit=limit, lanes=3), batcher, Recorder())
        assert update.lanes == told
        batcher.return_lane()
        for number in range(3):
            batcher.add(Request(Submit(number, 1, BUCKET, 8, (), (), 0), None), 0)
        running = 0
        while batcher.next_batch(0) is not None:
            running += 1
        assert running == told


# --- what runs ---------------------------------------------------------------------------


def test_a_job_has_everything_of_its_requests():
    residents = Residents()
    found = loaded(lanes=2)
    residents.add(found, Batcher(2, 100), Recorder())
    job = residents.variants[1].job(batch(1, 2), 1)
    assert job.context is found.variants[0].lanes[1].any_shape
    assert (job.batch_id, job.batched, job.bucket, job.rows) == (7, True, BUCKET, (1, 2))
    assert job.inputs == (((1000, 16),), ((1001, 16),))
    assert job.wanted == {0, 1}
    assert job.padded == 0


def test_a_pinned_bucket_s_batches_are_padded_on_every_lane():
    residents, batcher = Residents(), Batcher(2, 100)
    residents.add(loaded(lanes=2), batcher, Recorder())
    pins = made(1, 4, lanes=2)
    assert residents.pinned(pins, batcher)
    for lane in range(2):
        job = residents.variants[1].job(batch(1, 2), lane)
        assert job.context is pins.pinned[lane].contexts[1]
        assert job.padded == 4
        assert residents.variants[1].job(batch(1), lane).padded == 0
        other = residents.variants[1].job(batch(1, 2, bucket=((5,),)), lane)
        assert other.context is residents.variants[1].equipment.lanes[lane].any_shape


# --- pins --------------------------------------------------------------------------------


def test_what_is_pinned_at_load_is_known_to_the_batcher():
    residents, batcher = Residents(), Batcher(1, 100)
    found = loaded(measured=((BUCKET, 1, 1000), (BUCKET, 4, 1600)))
    found.variants[0].lanes[0].pinned[BUCKET] = made(1, 4).pinned[0]
    update = residents.add(found, batcher, Recorder())
    assert update.costs == ((1, BUCKET, Cost(400, 0, ((1, 1000), (4, 1600)))),)
    # Two rows are padded to four; otherwise they would take 1,200.
    assert [best(batcher, rows) for rows in (1, 2, 4)] == [1000, 1600, 1600]


def test_pins_replace_what_was_learned_of_the_bucket_and_are_told():
    residents, batcher = Residents(), Batcher(1, 100)
    residents.add(loaded(), batcher, Recorder())
    assert residents.pinned(
        made(1, 4, measured=((BUCKET, 1, 100), (BUCKET, 4, 200))), batcher
    )
    assert [best(batcher, rows) for rows in (1, 3, 4)] == [100, 200, 200]
    assert residents.changed_costs(batcher.cost, 0) == (
        (1, BUCKET, Cost(50, 0, ((1, 100), (4, 200)))),
    )
    assert residents.changed_costs(batcher.cost, 0) == ()


def test_the_first_cost_of_a_bucket_is_told():
    residents, batcher = Residents(), Batcher(1, 100)
    residents.add(loaded(measured=()), batcher, Recorder())
    other: Bucket = ((9,),)
    assert residents.changed_costs(batcher.cost, 0) == ()
    assert residents.pinned(made(2, bucket=other, measured=((other, 2, 80),)), batcher)
    assert residents.changed_costs(batcher.cost, 0) == ((1, other, Cost(40, 0, ((2, 80),))),)


def test_pins_that_were_not_made_or_are_nobody_s_change_nothing():
    residents, batcher = Residents(), Batcher(1, 100)
    residents.add(loaded(), batcher, Recorder())
    assert not residents.pinned(PinsMade(1, BUCKET, (), ()), batcher)
    assert not residents.pinned(made(1, 4, variant=99), batcher)
    assert best(batcher, 1) == 1000
    assert residents.variants[1].job(batch(1, 1, 1), 0).padded == 0


def test_a_bucket_that_is_unpinned_runs_as_it_is_and_its_contexts_are_handed_over():
    residents, batcher = Residents(), Batcher(2, 100)
    residents.add(loaded(lanes=2), batcher, Recorder())
    pins = made(4, lanes=2, measured=((BUCKET, 4, 200),))
    residents.pinned(pins, batcher)
    equipment = residents.variants[1].equipment
    assert residents.unpinned(1, BUCKET, batcher) == (equipment, pins.pinned)
    assert residents.variants[1].job(batch(1), 1).context is equipment.lanes[1].any_shape
    assert best(batcher, 1) is None  # to be learned anew
    assert residents.unpinned(1, BUCKET, batcher) == (equipment, (None, None))
    assert residents.unpinned(99, BUCKET, batcher) is None
