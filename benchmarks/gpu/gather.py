"""From which size on the pieces of a batch are better copied by the device than gathered first.

    python -m benchmarks.gpu.gather [--device cuda:0] [--rounds 300] [--json FILE]

The pieces lie scattered in a registered arena, as requests do, and go to one place on the device:
(gather) copied together by the CPU into staging memory, then with one copy; (batch) with one
batched copy; (single) with a copy for each. Medians of the time that the call takes, and of the
time until the copies have run. CudaDevice.GATHER_BYTES is chosen by this.
"""

import argparse
import ctypes
import json
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from trtserve.cli.output import print_table
from trtserve.clock import now_ns
from trtserve.device.cuda import CudaDevice
from trtserve.device.host import HostDevice, HostStream
from trtserve.device.interface import Copy, Device
from trtserve.ipc.arena import Arena

SIZES = tuple(64 << 2 * step for step in range(8))
PIECES = (1, 8, 32)
WAYS = ("gather", "batch", "single")

ARENA_BYTES = 1 << 28
"""More than most CPUs' caches hold: places in it, chosen anew each time, are as cold as what
another process wrote some time ago."""

WARM_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Times:
    """Medians in microseconds: of the call, and of the call and the copies."""

    pieces: int
    size: int
    way: str
    call_us: float
    done_us: float


class Rig:
    """The memory, and the three ways."""

    def __init__(self, device: Device) -> None:
        self._host = HostStream()
        self._arena = Arena.create(ARENA_BYTES, "gather")
        ctypes.memset(self._arena.address, 1, ARENA_BYTES)
        device.attach(self._arena.address, ARENA_BYTES)
        most = max(SIZES) * max(PIECES)
        self._staging, self._target = device.allocate_staging(most), device.allocate(most)
        self._stream = device.create_stream()
        self._random = random.Random(0)

    def measure(self, pieces: int, size: int, rounds: int) -> list[Times]:
        """All ways, in turn within each round, since the machine's speed changes."""
        ways: dict[str, Callable[[Sequence[Copy]], None]] = {
            "gather": self._gather, "batch": self._stream.copy, "single": self._single,
        }
        calls: dict[str, list[int]] = {way: [] for way in ways}
        dones: dict[str, list[int]] = {way: [] for way in ways}
        for index in range(WARM_ROUNDS + rounds):
            for way, copy in ways.items():
                copies = self._scattered(pieces, size)
                start = now_ns()
                copy(copies)
                called = now_ns()
                self._stream.synchronize()
                done = now_ns()
                if index >= WARM_ROUNDS:
                    calls[way].append(called - start)
                    dones[way].append(done - start)
        return [
            Times(pieces, size, way, statistics.median(calls[way]) / 1000,
                  statistics.median(dones[way]) / 1000)
            for way in ways
        ]

    def _scattered(self, pieces: int, size: int) -> list[Copy]:
        places = self._random.sample(range(ARENA_BYTES // size), pieces)
        return [
            (self._target.address + index * size, self._arena.address + place * size, size)
            for index, place in enumerate(places)
        ]

    def _gather(self, copies: Sequence[Copy]) -> None:
        shift = self._staging.address - self._target.address
        self._host.copy([(target + shift, source, size) for target, source, size in copies])
        size = copies[0][2] * len(copies)
        self._stream.copy([(self._target.address, self._staging.address, size)])

    def _single(self, copies: Sequence[Copy]) -> None:
        for copy in copies:
            self._stream.copy([copy])


def crossing(times: Sequence[Times], pieces: int) -> int | None:
    """The piece size from which on a batched copy is done no later than a gathered one."""
    done = {(each.size, each.way): each.done_us for each in times if each.pieces == pieces}
    found = None
    for size in sorted({size for size, _ in done}, reverse=True):
        if done[size, "batch"] > done[size, "gather"]:
            break
        found = size
    return found


def show(times: Sequence[Times]) -> None:
    """A table for each number of pieces, and where batched copies begin to win."""
    for pieces in PIECES:
        rows = []
        for size in SIZES:
            found = {
                each.way: each for each in times if (each.pieces, each.size) == (pieces, size)
            }
            rows.append((size, *(
                f"{found[way].call_us:.1f} / {found[way].done_us:.1f}" for way in WAYS
            )))
        print_table(("bytes each", *WAYS), rows, title=f"{pieces} pieces: us of the call / in all")
        found_size = crossing(times, pieces)
        where = f"from {found_size} bytes on" if found_size else "at none of these sizes"
        print(f"Batched copies are done first {where}.\n")


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--device", default="cuda:0", help="cpu is a trial without a GPU")
    options.add_argument("--rounds", type=int, default=300)
    options.add_argument("--json", type=Path, help="write the results here")
    given = options.parse_args()
    device: Device = (
        HostDevice() if given.device == "cpu"
        else CudaDevice(int(given.device.removeprefix("cuda:")))
    )
    rig = Rig(device)
    times = [
        each for pieces in PIECES for size in SIZES
        for each in rig.measure(pieces, size, given.rounds)
    ]
    show(times)
    device.close()
    if given.json:
        given.json.write_text(json.dumps({
            "device": device.name,
            "crossings": {pieces: crossing(times, pieces) for pieces in PIECES},
            "times": [asdict(each) for each in times],
        }, indent=2))


if __name__ == "__main__":
    main()
