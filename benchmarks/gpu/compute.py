"""What the device could do: the same engines on lanes in threads, inputs on the device already.

    python -m benchmarks.gpu.compute [--device cuda:0] [--lane-counts 1,2,3] [--graphs]

No copies, no requests. Each lane goes round the sizes, with two batches queued at a time.
"""

import argparse
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.gpu import case
from benchmarks.gpu.lane_rig import LaneRig
from trtserve.clock import NS_PER_S, now_ns
from trtserve.device.interface import Device
from trtserve.engine.interface import Engine
from trtserve.engine.onnxruntime import OnnxRuntime

_WARM_S = 0.5
_SWITCH_SECONDS = 1e-4
_PATIENCE_S = 300


class LaneThread:
    """A lane: makes its rig, then runs windows when told to."""

    def __init__(
        self, index: int, device: Device, engines: Mapping[int, Engine], batch: int,
        pictures: Mapping[int, np.ndarray], graphs: bool,
    ) -> None:
        self.error: BaseException | None = None
        self.done = 0
        self.spent_ns = 0
        self._index = index
        self._make = lambda: LaneRig(device, engines, batch, pictures, graphs=graphs)
        self._wake = threading.Semaphore(0)
        self._idle = threading.Semaphore(0)
        self._window = (0, 0)
        self._thread = threading.Thread(target=self._work, name=f"lane {index}", daemon=True)
        self._thread.start()

    def go(self, start_ns: int, end_ns: int) -> None:
        """Begin loading; what finishes between the two counts. (0, 0): close and end."""
        self._window = (start_ns, end_ns)
        self._wake.release()

    def wait(self) -> None:
        """Until what was asked for is done. Raises what went wrong."""
        if not self._idle.acquire(timeout=_PATIENCE_S):
            raise RuntimeError(f"lane {self._index} hangs")
        if self.error is not None:
            raise self.error

    def _work(self) -> None:
        try:
            rig = self._make()
            self._idle.release()
            while self._wake.acquire() and self._window[1]:
                self._run(rig, *self._window)
                self._idle.release()
            rig.close()
        except BaseException as error:
            self.error = error
        self._idle.release()

    def _run(self, rig: LaneRig, start_ns: int, end_ns: int) -> None:
        places = list(rig.places.values())
        turn = self._index
        done = began = queued = last = 0
        while (now := now_ns()) < end_ns:
            place = places[turn % len(places)]
            turn += 1
            place.run(rig.stream)
            rig.stream.record(rig.events[queued % 2])
            queued += 1
            if queued > 1:
                rig.events[queued % 2].synchronize()
                if now >= start_ns:
                    last = now_ns()
                    done += place.rows if began else 0
                    began = began or last
        rig.stream.synchronize()
        self.done, self.spent_ns = done, last - began


def measure(lanes: list[LaneThread], seconds: float) -> float:
    """Images a second on these lanes together."""
    start = now_ns() + int(_WARM_S * NS_PER_S)
    end = start + int(seconds * NS_PER_S)
    for lane in lanes:
        lane.go(start, end)
    for lane in lanes:
        lane.wait()
    return sum(lane.done * NS_PER_S / max(1, lane.spent_ns) for lane in lanes)


def _rates(
    results: case.Results, options: argparse.Namespace, folder: Path, batch: int, graphs: bool
) -> list[float]:
    counts = [int(count) for count in options.lane_counts.split(",")]
    device = case.open_device(options.device, max(counts))
    runtime = OnnxRuntime()
    pictures = {size: case.images(size, min(batch, options.images))
                for size in case.sizes_of(options)}
    engines = {
        size: runtime.load(str(case.model_path(folder, size)), device, {}) for size in pictures
    }
    lanes: list[LaneThread] = []
    for index in range(max(counts)):
        # One after the other: making sessions at the same time is not documented as safe.
        lanes.append(LaneThread(index, device, engines, batch, pictures, graphs))
        lanes[-1].wait()
    found = []
    for count in counts:
        rate = measure(lanes[:count], options.seconds)
        found.append(rate)
        kind = "graphs_" if graphs else ""
        results.add(
            f"compute_{kind}{count}_lanes_batch_{batch}", rate,
            f"compute only, {count} lane{'s' * (count > 1)}, batches of {batch}"
            f"{', captured' if graphs else ''}", f"{rate:,.0f} img/s",
        )
    for lane in lanes:
        lane.go(0, 0)
        lane.wait()
    for engine in engines.values():
        engine.close()
    device.close()
    return found


def main() -> None:
    """Measure and print."""
    given = case.parser(__doc__)
    given.add_argument("--lane-counts", default="1,2,3")
    given.add_argument("--batches", default="", help="batch sizes; default: --batch")
    given.add_argument("--graphs", action="store_true", help="also with captured graphs")
    options = case.parse(given, 3.0)
    sys.setswitchinterval(_SWITCH_SECONDS)
    with case.repository(options) as folder:
        results = case.Results("Compute only", options)
        rates = [0.0]
        for batch in (options.batches or str(options.batch)).split(","):
            for graphs in (False, True) if options.graphs else (False,):
                with results.step(f"batch_{batch}{'_graphs' * graphs}"):
                    rates += _rates(results, options, folder, int(batch), graphs)
        results.add("compute_only", max(rates), "the best", f"{max(rates):,.0f} img/s")
    results.finish()


if __name__ == "__main__":
    main()
