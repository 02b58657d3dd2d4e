"""Loading and unloading through the worker's own parts: the device's memory comes back."""

from pathlib import Path

import pytest

from tests.gpu.models import make_convolutions
from trtserve.device.cuda import CudaDevice
from trtserve.engine.onnxruntime import OnnxRuntime
from trtserve.worker.batcher import Batcher
from trtserve.worker.equip import Equipper
from trtserve.worker.lane import Lane
from trtserve.worker.lending import Borrow, GiveBack
from trtserve.worker.output import OutputArena
from trtserve.worker.prepare import Source

MIB = 1 << 20
LANES = 2
ROUNDS = 4


class House:
    """Lanes that nobody but the loader uses."""

    def __init__(self, device: CudaDevice) -> None:
        self.device = device
        self.outputs = OutputArena.create(64 * MIB)
        device.attach(self.outputs.address, self.outputs.size)
        self.lanes = [
            Lane(index, device, self.outputs, lambda _: None) for index in range(LANES)
        ]
        for lane in self.lanes:
            lane.start()
        self.equipper = Equipper(device, self.outputs, LANES)
        self.equipper.lend_from(self.lend)
        self.batcher = Batcher(LANES, 1)

    def lend(self, order: Borrow | GiveBack) -> None:
        if isinstance(order, Borrow):
            order.take(self.lanes[order.lane])

    def close(self) -> None:
        for lane in self.lanes:
            lane.close()
        self.device.detach(self.outputs.address)
        self.outputs.close()


def test_memory_comes_back_after_unloading(
    device: CudaDevice, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "model.onnx")
    make_convolutions(path)
    house = House(device)
    figures = []
    for _ in range(ROUNDS):
        before = device.memory()[0]
        engine = OnnxRuntime().load(path, device, {})
        (equipment,) = house.equipper.equip(
            [Source(engine, 0, engine.variants[0], engine.captures)], ()
        )
        loaded = device.memory()[0]
        house.equipper.strip(equipment)
        engine.close()
        figures.append((before, loaded, device.memory()[0]))
    house.close()
    with capsys.disabled():
        for before, loaded, after in figures:
            print(f"\nfree MiB: {before / MIB:.0f} before, {loaded / MIB:.0f} loaded, "
                  f"{after / MIB:.0f} unloaded", end="")
    # The first round also loads the libraries' kernels, which stay.
    for before, loaded, after in figures[1:]:
        assert loaded < before - 10 * MIB
        assert after >= before - 2 * MIB
