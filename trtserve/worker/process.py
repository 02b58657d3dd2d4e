"""A worker process: one device, its lanes, the models that live there."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from trtserve.config import Settings
from trtserve.device.cuda import CudaDevice
from trtserve.device.host import HostDevice
from trtserve.device.interface import Device
from trtserve.engine.interface import Runtime
from trtserve.engine.onnxruntime import OnnxRuntime
from trtserve.engine.tensorrt import find_runtimes
from trtserve.engine.tensorrt_plan import PlanRules
from trtserve.errors import (
    ConfigurationError,
    DeviceError,
    ModelLoadError,
    OperatorError,
    RepositoryError,
)
from trtserve.ipc.channel import Channel
from trtserve.ipc.message import Fatal, Start
from trtserve.model.plan_safety import parse_hashes
from trtserve.model.repository import Repository, read_model, scan
from trtserve.worker.batcher import Batcher
from trtserve.worker.compute_order import ComputeOrder
from trtserve.worker.equip import Equipper
from trtserve.worker.lane import Lane
from trtserve.worker.loader import Loader, served_suffixes
from trtserve.worker.loop import EXIT_DEVICE_LOST, WorkerLoop
from trtserve.worker.output import OutputArena
from trtserve.worker.pinning import pin
from trtserve.worker.runner import BatchRunner

log = logging.getLogger(__name__)

_SWITCH_SECONDS = 1e-4
"""How long a thread may keep the interpreter when another wants it. With Python's own 5 ms, a
lane that comes back from the engine would wait for the loop that long."""


def main(control: Channel, start: Start) -> int:
    """Run until the supervisor says Stop or dies, or the device is lost. Returns the status."""
    return serve(control, start, engine_runtimes)


def serve(
    control: Channel, start: Start, runtimes: Callable[[Settings], Sequence[Runtime]]
) -> int:
    """`main` with other runtimes."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    settings = msgspec.json.decode(start.settings, type=Settings)
    try:
        device = make_device(start.device, settings.lanes)
        there = runtimes(settings)
        repository = find_models(start.models, Path(settings.repository), served_suffixes(there))
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
    except DeviceError as error:
        # It may come back: the supervisor tries again, later and later.
        log.error("%s", error)
        return EXIT_DEVICE_LOST
    count = device.default_lanes
    outputs = OutputArena.create(settings.arena_bytes)
    pin(device, outputs.address, outputs.size)
    batcher = Batcher(count, settings.max_queue_size)
    loop = WorkerLoop(control, start.name, device, outputs, batcher)
    order = None if device.unified else ComputeOrder.of(count)
    lanes = [Lane(index, device, outputs, loop.post, order) for index in range(count)]
    for lane in lanes:
        lane.start()
    inline = BatchRunner(count, device, outputs) if device.unified else None
    if inline is not None:
        inline.open()
    equipper = Equipper(device, outputs, count + (inline is not None))
    loader = Loader(repository, there, device, equipper, settings.devices.split(","))
    loop.open(lanes, inline, loader)
    status = loop.run()
    if status == EXIT_DEVICE_LOST:
        # Whatever would be torn down in good order calls the device, which may never answer.
        logging.shutdown()
        os._exit(status)
    return status


def find_models(
    models: Sequence[tuple[str, str]] | None, root: Path, suffixes: Sequence[str]
) -> Repository:
    """The models to load: those of these names, each in a folder of its own, or without such a
    list all of the repository."""
    if models is None:
        return scan(root, suffixes)
    return Repository(
        root, tuple(read_model(name, Path(folder), suffixes) for name, folder in models)
    )


def engine_runtimes(settings: Settings) -> Sequence[Runtime]:
    """Every runtime that is installed. Raises OperatorError where there is none, or where the
    list of plans can not be read."""
    hashes = None
    if settings.plan_hashes is not None:
        try:
            text = Path(settings.plan_hashes).read_text()
        except OSError as error:
            raise ConfigurationError(
                f"{settings.plan_hashes} can not be read: {error.strerror}", where="plan_hashes"
            ) from error
        hashes = parse_hashes(text, settings.plan_hashes)
    plans = find_runtimes(
        PlanRules(settings.allow_writable_plans, settings.allow_engine_host_code, hashes)
    )
    try:
        return [OnnxRuntime(), *plans]
    except ModelLoadError:
        if not plans:
            raise
        return plans


def make_device(name: str, lanes: int) -> Device:
    """The device of that name. Raises DeviceError, or ConfigurationError for an unknown one."""
    kind, _, index = name.partition(":")
    if kind == "cuda" and index.isdecimal():
        return CudaDevice(int(index), lanes)
    if name not in ("", "cpu"):
        raise ConfigurationError(f"there is no device '{name}'", where="devices")
    return HostDevice(lanes)
