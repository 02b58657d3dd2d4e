"""A worker whose models come and go: the supervisor's orders, and models on disk for them."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from tests.worker.worker_stand import FrontEndSide, Gate, WorkerStand
from trtserve.errors import ModelLoadError
from trtserve.ipc import message as m
from trtserve.model.spec import Shape
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.testing.engine import Arrays, FakeEngine, FakeScript, fake_variant

WEIGHTS = 4096
"""Bytes of the device that each engine takes."""

ROW = np.ones((1, 4), np.float32)

Maker = Callable[[], FakeEngine]


def times(factor: float) -> Callable[[Arrays], Arrays]:
    """What a model computes: each value so many times."""
    return lambda arrays: [array * np.float32(factor) for array in arrays]


def write_model(folder: Path, *versions: int, config: str = "") -> Path:
    """A model's folder with an engine file `VERSION.fake` in each version."""
    for version in versions:
        path = folder / str(version)
        path.mkdir(parents=True)
        (path / f"{version}.fake").write_bytes(b"engine")
    folder.mkdir(exist_ok=True)
    policy = "version_policy { all {} }"
    (folder / "config.pbtxt").write_text(f"max_batch_size: 8 {config or policy}")
    return folder


class ChangeStand:
    """A worker that begins without models. `engines` are all that were made, by file."""

    def __init__(
        self, root: Path, *, unified: bool = False, lanes: int = 2,
        device: FakeDevice | None = None,
    ) -> None:
        self.root = root
        self.engines: dict[str, list[FakeEngine]] = {}
        self.files: dict[str, FakeEngine | ModelLoadError | Maker] = {}
        self.device = device or FakeDevice(FakeClock(), unified=unified)
        self.worker = WorkerStand(self.files, folders=(), device=self.device, lanes=lanes)
        self.supervisor = self.worker.supervisor
        self._numbers = count(1)
        self._folders = count(1)
        self.worker.start()
        self.supervisor.expect(m.Settled)

    def engine(
        self, file: str, factor: float = 1, gate: Gate | None = None, row: Shape = (4,),
        **script: Any,
    ) -> None:
        """What loading a file of that name gives from now on. It multiplies, once the gate lets
        it."""
        compute = times(factor)

        def gated(arrays: Arrays) -> Arrays:
            assert gate is not None
            return compute(gate.compute(arrays))

        def make() -> FakeEngine:
            found = FakeEngine(
                fake_variant(file, row=row),
                script=FakeScript(gated if gate else compute, weight_bytes=WEIGHTS, **script),
            )
            self.engines.setdefault(file, []).append(found)
            return found

        self.files[file] = make

    def model(self, *versions: int, config: str = "") -> Path:
        """A new folder with a model of these versions."""
        folder = self.root / f"folder{next(self._folders)}"
        for version in versions:
            if f"{version}.fake" not in self.files:
                self.engine(f"{version}.fake", version)
        return write_model(folder, *versions, config=config)

    # --- orders --------------------------------------------------------------------------

    def say(self, message: m.AnyMessage) -> None:
        """Give the worker an order."""
        self.supervisor.say(message)

    def load(self, folder: Path, model: str = "m") -> int:
        """Order a model to be loaded. Returns the order's number."""
        order = next(self._numbers)
        self.say(m.LoadModel(order, model, str(folder)))
        return order

    def staged(self, order: int) -> m.Staged:
        """The answer to an order to load."""
        return self.supervisor.expect(m.Staged, lambda message: message.order == order)

    def stage(self, folder: Path, model: str = "m") -> int:
        """Load a model, which succeeds."""
        order = self.load(folder, model)
        staged = self.staged(order)
        assert not staged.error
        return order

    def freed(self, order: int) -> m.Freed:
        """The last answer to an order."""
        return self.supervisor.expect(m.Freed, lambda message: message.order == order)

    def serve(self, folder: Path, model: str = "m") -> m.Freed:
        """Load a model and switch to it, when no front end is there that would have to agree."""
        order = self.stage(folder, model)
        self.say(m.CommitModel(order))
        return self.freed(order)

    def unload(self, model: str = "m") -> int:
        """Order a model to be unloaded."""
        order = next(self._numbers)
        self.say(m.UnloadModel(order, model))
        return order

    # --- what is seen --------------------------------------------------------------------

    def ready(self, front_end: FrontEndSide, version: int = 1, model: str = "m") -> int:
        """The variant of a version that serves from now on."""
        (variant,) = front_end.expect(m.ModelUpdate, lambda update: (
            update.state == "READY" and (update.model, update.version) == (model, version)
        )).variant_ids
        return variant

    def retire(self, front_end: FrontEndSide) -> tuple[int, ...]:
        """Take the order to use some variants no more, and agree."""
        retire = front_end.expect(m.Retire)
        front_end.say(m.Retired(retire.variants))
        return retire.variants

    def updates(self) -> list[tuple[str, int, str]]:
        """(model, version, state or `gone`) of what the supervisor was told since."""
        found = [
            each for each in self.supervisor.waiting() if isinstance(each, m.ModelUpdate)
        ]
        self.supervisor._seen = [
            each for each in self.supervisor._seen if not isinstance(each, m.ModelUpdate)
        ]
        return [
            (each.model, each.version, "gone" if each.gone else str(each.state))
            for each in found
        ]

    def check_nothing_is_left(self) -> None:
        """No byte and no context of any model."""
        for made in self.engines.values():
            assert all(engine.closed for engine in made)
        assert self.device.allocated_bytes == 0
        assert self.device.staging_bytes == 0

    def close(self) -> None:
        self.worker.stop()
