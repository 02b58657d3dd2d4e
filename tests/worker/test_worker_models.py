"""What the loop does about models: it tells what the loader tells, and orders contexts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.lane_fleet import LANES, LoaderStand
from tests.worker.worker_stand import model_folder
from trtserve.errors import ProtocolError
from trtserve.ipc import message as m
from trtserve.ipc.message import Bucket
from trtserve.metrics import Recorder
from trtserve.model.configuration import ModelConfiguration
from trtserve.model.repository import Repository
from trtserve.model.spec import ANY, ModelState, VersionSpec
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.testing.engine import FakeEngine, FakeScript, fake_variant
from trtserve.worker.batcher import Batcher
from trtserve.worker.contexts import LaneContexts, Pinned
from trtserve.worker.equip import Equipment, Equipper
from trtserve.worker.loader import Loader
from trtserve.worker.loading import Finished, Loaded, PinsMade, Progress
from trtserve.worker.models import MAX_PINNED, Models
from trtserve.worker.output import OutputArena
from trtserve.worker.pins import IN_USE_NS, OFTEN
from trtserve.worker.prepare import Source
from trtserve.worker.request import Batch

BUCKET: Bucket = ((4,),)


class Orders(Loader):
    """A loader that notes what it is asked for, and does nothing."""

    def __init__(self, outputs: OutputArena) -> None:
        device = FakeDevice(FakeClock())
        super().__init__(
            Repository(Path("/repository"), ()), (), device, Equipper(device, outputs, 1)
        )
        self.noted: list[tuple[str, object]] = []

    def pin(self, number: int, equipment: Equipment, bucket: Bucket) -> None:
        self.noted.append(("pin", (number, bucket)))

    def unpin(self, equipment: Equipment, pinned: object) -> None:
        self.noted.append(("unpin", pinned))


class Desk:
    """Models of a worker with one lane, and the loader behind them."""

    def __init__(self, outputs: OutputArena, *, pins: bool = True) -> None:
        self.batcher = Batcher(1, 100)
        self.models = Models(self.batcher, Recorder())
        self.loader = Orders(outputs)
        self.models.open(self.loader)
        self.engine = FakeEngine(script=FakeScript(pins=pins))
        self._stream = FakeDevice(FakeClock()).create_stream()

    def load(self, *buckets: Bucket, lasting: bool = False) -> m.ModelUpdate:
        """Load a version with these buckets pinned."""
        lane = LaneContexts(self.engine.create_context(0, self._stream))
        for bucket in buckets:
            lane.pinned[bucket] = self._pinned()
        equipment = Equipment(
            Source(self.engine, 0, self.engine.variants[0], False), (lane,), (),
            frozenset(buckets if lasting else ()),
        )
        spec = VersionSpec("m", 1, "fake", self.engine.variants)
        update = self.models.heard(Loaded(spec, (equipment,), 1.0, ()), 0)
        assert isinstance(update, m.ModelUpdate)
        return update

    def ran(self, bucket: Bucket = BUCKET, now: int = 0, times: int = OFTEN) -> None:
        """Batches of a bucket have run."""
        for _ in range(times):
            self.models.ran(Batch(1, 1, bucket, [], 1, now), now)

    def made(self, bucket: Bucket = BUCKET, now: int = 0) -> Pinned:
        """The loader has made a bucket's contexts."""
        pinned = self._pinned()
        assert self.models.heard(PinsMade(1, bucket, (pinned,), ()), now) is None
        return pinned

    def _pinned(self) -> Pinned:
        return Pinned((1,), (self.engine.create_context(0, self._stream),))

    @property
    def contexts(self) -> LaneContexts:
        return self.models.residents.variants[1].equipment.lanes[0]


@pytest.fixture
def outputs() -> Iterator[OutputArena]:
    arena = OutputArena.create(4096)
    yield arena
    arena.close()


@pytest.fixture
def desk(outputs: OutputArena) -> Desk:
    return Desk(outputs)


def test_everybody_is_told_what_the_loader_tells(desk):
    loading = m.ModelUpdate("m", 1, ModelState.LOADING)
    assert desk.models.heard(Progress(loading), 0) == loading
    assert desk.models.residents.updates() == [loading]
    assert desk.load().state == ModelState.READY
    assert desk.models.settled is None
    assert desk.models.heard(Finished(3), 0) == m.Settled(3)
    assert desk.models.settled == 3


def test_a_bucket_that_repeats_gets_contexts(desk):
    desk.load()
    desk.ran(times=OFTEN - 1)
    assert desk.loader.noted == []
    desk.ran(times=1)
    assert desk.loader.noted == [("pin", (1, BUCKET))]
    pinned = desk.made()
    assert desk.contexts.pinned == {BUCKET: pinned}
    desk.ran(times=3 * OFTEN)
    assert len(desk.loader.noted) == 1


def test_a_bucket_that_can_get_none_is_not_asked_for_again_and_again(desk):
    desk.load()
    desk.ran()
    desk.models.heard(PinsMade(1, BUCKET, (), ()), 0)
    desk.ran(times=10 * OFTEN)
    assert desk.loader.noted == [("pin", (1, BUCKET))]
    desk.ran(((9,),))  # another one's turn
    assert desk.loader.noted[1:] == [("pin", (1, ((9,),)))]


def test_what_is_pinned_at_load_is_not_asked_for(desk):
    desk.load(BUCKET)
    desk.ran(times=3 * OFTEN)
    assert desk.loader.noted == []


def test_engines_that_do_not_pin_are_left_alone(outputs):
    desk = Desk(outputs, pins=False)
    desk.load()
    desk.ran(times=3 * OFTEN)
    assert desk.loader.noted == []


def test_batches_of_what_is_gone_are_left_alone(desk):
    desk.ran()
    assert desk.loader.noted == []


def fill(desk: Desk, lasting: bool = False) -> list[Bucket]:
    """As many buckets as may be pinned, all at load."""
    buckets: list[Bucket] = [((100 + number,),) for number in range(MAX_PINNED)]
    desk.load(*buckets, lasting=lasting)
    return buckets


def test_the_bucket_used_longest_ago_makes_room(desk):
    buckets = fill(desk)
    taken = desk.contexts.pinned[buckets[1]]
    desk.ran(buckets[0], now=5, times=1)
    desk.ran(now=IN_USE_NS)
    # First the old ones go, then the new ones are made: there is memory for so many only.
    assert desk.loader.noted == [("unpin", (taken,)), ("pin", (1, BUCKET))]
    assert buckets[1] not in desk.contexts.pinned
    assert buckets[0] in desk.contexts.pinned
    desk.made(now=IN_USE_NS)
    assert len(desk.contexts.pinned) == MAX_PINNED


def test_while_all_are_in_use_none_makes_room(desk):
    fill(desk)
    desk.ran(now=IN_USE_NS - 1, times=3 * OFTEN)
    assert desk.loader.noted == []


def test_what_nothing_else_could_run_stays(desk):
    fill(desk, lasting=True)
    desk.ran(now=100 * IN_USE_NS, times=3 * OFTEN)
    assert desk.loader.noted == []


def test_contexts_that_made_room_are_closed_on_their_lanes():
    stand = LoaderStand(unified=False)
    engine = FakeEngine(
        fake_variant(row=(ANY,), max_batch=0), script=FakeScript(pins=True, captures=True)
    )
    batcher = Batcher(LANES, 100)
    models = Models(batcher, Recorder())
    folder = model_folder("m", "m.fake", configuration=ModelConfiguration())
    for event in stand.load({"m.fake": engine}, folder):
        assert isinstance(event, Progress | Loaded | Finished)
        models.heard(event, 0)
    assert stand.loader is not None
    models.open(stand.loader)

    def pin(size: int, now: int) -> None:
        for _ in range(OFTEN):
            models.ran(Batch(1, 1, ((size,),), [], 1, now), now)
        event = stand.events.get(timeout=30)
        assert isinstance(event, PinsMade)
        models.heard(event, now)

    sizes = [1000, 2000, *range(1, MAX_PINNED - 1)]
    for number, size in enumerate(sizes):
        pin(size, number)
    # Sizes of one class share the lane's places, of which an input and an output take two.
    assert stand.device.allocated_bytes == LANES * 2 * (256 + 4096 + 8192)
    pin(100, 2 * IN_USE_NS)
    pin(101, 2 * IN_USE_NS)
    closed = [context for context in engine.contexts if context.closed]
    assert [context.shapes for context in closed] == (
        [((1000,),)] * LANES + [((2000,),)] * LANES
    )
    for index, context in enumerate(closed):
        assert context.threads == {f"lane {index % LANES}"}
    assert stand.device.allocated_bytes == LANES * 2 * (256 + 512)
    lanes = models.residents.variants[1].equipment.lanes
    kept = {((size,),) for size in (*sizes[2:], 100, 101)}
    assert [set(contexts.pinned) for contexts in lanes] == [kept] * LANES
    stand.close()


def test_without_a_loader_nothing_can_be_asked_for(desk):
    desk.models = Models(desk.batcher, Recorder())
    desk.load()
    with pytest.raises(ProtocolError, match="before there was a loader"):
        desk.ran()
