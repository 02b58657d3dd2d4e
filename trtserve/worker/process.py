"""A worker process: one device, its lanes, the models that live there."""

import sys
from pathlib import Path

import msgspec

from trtserve.config import Settings
from trtserve.device.host import HostDevice
from trtserve.engine.onnxruntime import OnnxRuntime
from trtserve.errors import OperatorError, RepositoryError
from trtserve.ipc.channel import Channel
from trtserve.ipc.message import Fatal, Start
from trtserve.model.repository import scan
from trtserve.worker.batcher import Batcher
from trtserve.worker.lane import Lane
from trtserve.worker.loader import Loader, served_suffixes
from trtserve.worker.loop import WorkerLoop
from trtserve.worker.output import OutputArena
from trtserve.worker.runner import BatchRunner
from trtserve.worker.warmup import WarmUp

_SWITCH_SECONDS = 1e-4
"""How long a thread may keep the interpreter when another wants it. With Python's own 5 ms, a
lane that comes back from the engine would wait for the loop that long."""


def main(control: Channel, start: Start) -> int:
    """Run until the supervisor says Stop or dies, or the device is lost. Returns the status."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    settings = msgspec.json.decode(start.settings, type=Settings)
    device = HostDevice(settings.lanes)
    try:
        runtimes = (OnnxRuntime(),)
        repository = scan(Path(settings.repository), served_suffixes(runtimes))
        for finding in repository.own_findings:
            if finding.severity == "error":
                raise RepositoryError(
                    finding.problem, where=finding.where, cure=finding.cure
                )
    except OperatorError as error:
        where = f"{error.where}: " if error.where else ""
        control.send(Fatal(where + error.problem, error.cure))
        control.flush()
        return 1
    count = device.default_lanes
    outputs = OutputArena.create(settings.arena_bytes)
    batcher = Batcher(count, settings.max_queue_size)
    loop = WorkerLoop(control, start.name, device, outputs, batcher)
    lanes = [Lane(index, device, outputs, loop.post) for index in range(count)]
    for lane in lanes:
        lane.start()
    inline = BatchRunner(count, device, outputs) if device.unified else None
    if inline is not None:
        inline.open()
    contexts = count + (inline is not None)
    loader = Loader(repository, runtimes, device, contexts, WarmUp(device, outputs))
    loop.open(lanes, inline, loader)
    return loop.run()
