"""What the worker's own Python costs: one turn of its loop for a batch of 1, 8 and 32 requests.

    python -m benchmarks.worker_loop [--profile]

One process and one thread: the front end's side is played by hand between the turns, so that no
other process's waking up is in the figures. The model is an identity of FP32[16]; ONNX Runtime's
run is included. The median of the rounds counts.
"""

import cProfile
import os
import pstats
import statistics
import sys
import tempfile
from pathlib import Path

from trtserve.cli.output import print_table
from trtserve.clock import now_ns
from trtserve.device.host import HostDevice
from trtserve.engine.onnxruntime import OnnxRuntime
from trtserve.ipc import message as m
from trtserve.ipc.arena import Arena
from trtserve.ipc.channel import Channel
from trtserve.model.repository import scan
from trtserve.testing.models import make_identity
from trtserve.worker.batcher import Batcher
from trtserve.worker.equip import Equipper
from trtserve.worker.lane import Lane
from trtserve.worker.loader import Loader
from trtserve.worker.loop import WorkerLoop
from trtserve.worker.output import OutputArena
from trtserve.worker.runner import BatchRunner

ROUNDS = 3000
CONFIG = "max_batch_size: 32\n"


class Rig:
    """A worker's loop, turned by hand, and a front end's end of the channel."""

    def __init__(self, folder: Path) -> None:
        version = folder / "identity" / "1"
        version.mkdir(parents=True)
        make_identity(str(version / "model.onnx"))
        (folder / "identity" / "config.pbtxt").write_text(CONFIG)
        self.supervisor, control = Channel.pair()
        device, outputs = HostDevice(2), OutputArena.create(1 << 26)
        self.loop = WorkerLoop(control, "worker cpu", device, outputs, Batcher(2, 1024))
        lanes = [Lane(index, device, outputs, self.loop.post) for index in range(2)]
        for lane in lanes:
            lane.start()
        inline = BatchRunner(2, device, outputs)
        inline.open()
        runtimes = (OnnxRuntime(),)
        loader = Loader(
            scan(folder, (".onnx",)), runtimes, device, Equipper(device, outputs, 3)
        )
        self.loop.open(lanes, inline, loader)
        self._connect()

    def _connect(self) -> None:
        self.front_end, theirs = Channel.pair()
        self.supervisor.send(m.Connect("front end 1"), theirs.fileno())
        self.supervisor.flush()
        self.arena = Arena.create(1 << 20, "front end")
        self.front_end.send(m.Attach(self.arena.size), self.arena.fd)
        self.front_end.flush()
        self.variant = 0
        while not self.variant:
            self.loop.turn()
            for message in self.front_end.receive() or []:
                if isinstance(message, m.ModelUpdate) and message.variant_ids:
                    self.variant = message.variant_ids[0]

    def round(self, requests: int) -> int:
        """Send so many requests in one datagram; the nanoseconds until all are answered."""
        now = now_ns()
        for index in range(requests):
            self.front_end.send(m.Submit(
                index + 1, self.variant, ((16,),), 1, ((index * 256, 64),), (0,), now
            ))
        self.front_end.flush()
        answered = spent = 0
        while answered < requests:
            start = now_ns()
            self.loop.turn()
            spent += now_ns() - start
            for message in self.front_end.receive() or []:
                if isinstance(message, m.Done):
                    answered += len(message.ids)
                    self.front_end.send(m.Release((message.lease,)))
        return spent


def main() -> None:
    """Measure, print, and profile if asked to."""
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder))
        rows = []
        for requests in (1, 8, 32):
            for _ in range(200):
                rig.round(requests)
            spent = statistics.median(rig.round(requests) for _ in range(ROUNDS)) / 1000
            rows.append((requests, f"{spent:.0f}", f"{spent / requests:.1f}"))
        print_table(("requests", "us for all", "us a request"), rows, title="The worker's loop")
        if "--profile" in sys.argv:
            profile = cProfile.Profile()
            profile.runcall(lambda: [rig.round(1) for _ in range(ROUNDS)])
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    sys.stdout.flush()
    os._exit(0)  # lanes and loader are daemons of a worker that nobody stops


if __name__ == "__main__":
    main()
