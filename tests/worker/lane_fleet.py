"""Lanes that are lent without a loop, and a loader that borrows them."""

from pathlib import Path
from queue import SimpleQueue

from tests.worker.worker_stand import model_folder
from trtserve.errors import ModelLoadError
from trtserve.model.configuration import WarmupShapes
from trtserve.model.repository import ModelFolder, Repository
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.testing.engine import FakeEngine, FakeRuntime
from trtserve.worker.equip import Equipment, Equipper
from trtserve.worker.lane import Lane
from trtserve.worker.lending import Borrow, GiveBack
from trtserve.worker.loader import Loader
from trtserve.worker.loading import DeviceLost, Finished, Loaded, LoadEvent
from trtserve.worker.output import OutputArena
from trtserve.worker.prepare import Source

LANES = 3

Engines = dict[str, FakeEngine | ModelLoadError]


class Fleet:
    """Lanes, and an equipper that borrows them from a loop that the test plays."""

    def __init__(self, *, unified: bool = False) -> None:
        self.device = FakeDevice(FakeClock(), unified=unified)
        self.outputs = OutputArena.create(1 << 20)
        self.lanes = [
            Lane(index, self.device, self.outputs, lambda _: None) for index in range(LANES)
        ]
        for lane in self.lanes:
            lane.start()
        self.lent: list[int] = []
        """The lanes that were lent, in order."""
        self._out: Lane | None = None
        self.equipper = Equipper(self.device, self.outputs, LANES)
        self.equipper.lend_from(self.ask)

    def ask(self, order: Borrow | GiveBack) -> None:
        """Lend a lane, or take it back, as the loop does when no batch runs."""
        if isinstance(order, Borrow):
            assert self._out is None, "a second lane is wanted while one is lent"
            self._out = self.lanes[order.lane]
            self.lent.append(order.lane)
            order.take(self._out)
        else:
            assert order.lane is self._out
            self._out = None

    def equip(self, *engines: FakeEngine, warmups: tuple[WarmupShapes, ...] = ()) -> Equipment:
        """Equip the lanes for the first variant of each engine. Returns the first."""
        found = self.equipper.equip([
            Source(engine, 0, engine.variants[0], engine.captures) for engine in engines
        ], warmups)
        assert len(found) == len(engines)
        return found[0]

    def check_nothing_is_left(self, *engines: FakeEngine) -> None:
        for engine in engines:
            assert engine.contexts
            engine.close()  # asserts that all its contexts are closed
        assert self.device.allocated_bytes == 0
        assert self.device.staging_bytes == 0
        assert self._out is None

    def close(self) -> None:
        assert self._out is None
        self.equipper.finished()
        for lane in self.lanes:
            lane.close()
        self.outputs.close()


class LoaderStand:
    """A loader, and the loop that it talks to, played by the test."""

    def __init__(self, *, unified: bool) -> None:
        self.fleet = Fleet(unified=unified)
        self.device = self.fleet.device
        self.loader: Loader | None = None
        self.events: SimpleQueue[LoadEvent] = SimpleQueue()

    def load(
        self, engines: Engines, *folders: ModelFolder, devices: tuple[str, ...] = ()
    ) -> list[LoadEvent]:
        """Load models; returns all events, those about lanes left out."""
        self.close_loader()
        self.loader = Loader(
            Repository(Path("/repository"), folders), (FakeRuntime(engines),), self.device,
            self.fleet.equipper, devices,
        )
        self.loader.start(self._post)
        found: list[LoadEvent] = []
        while not (found and isinstance(found[-1], Finished | DeviceLost)):
            found.append(self.events.get(timeout=30))
        return found

    def load_one(self, engine: FakeEngine) -> Loaded:
        """Load a model of one variant, which succeeds."""
        (loaded,) = [
            event for event in self.load({"m.fake": engine}, model_folder("m", "m.fake"))
            if isinstance(event, Loaded)
        ]
        return loaded

    def _post(self, event: LoadEvent) -> None:
        if isinstance(event, Borrow | GiveBack):
            self.fleet.ask(event)
        else:
            self.events.put(event)

    def close_loader(self) -> None:
        """Let the loader's thread end."""
        if self.loader is not None:
            self.loader.close()
            self.loader._thread.join(30)
            assert not self.loader._thread.is_alive()

    def close(self) -> None:
        self.close_loader()
        self.fleet.close()
