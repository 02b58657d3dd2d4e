"""Which devices and how many front ends the daemon has, before any of its processes starts.

`decide` looks around; `choose` and `choose_front_ends` are the pure rules. The supervisor gets
the names of devices and starts a worker for each.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from trtserve.config import Settings
from trtserve.cores import core_count
from trtserve.device.probe import CudaFacts, Probe, probe_in_child
from trtserve.engine import onnxruntime_installed
from trtserve.engine.tensorrt_installed import installed_modules
from trtserve.errors import ConfigurationError

CPU = "cpu"
_GIB = 1 << 30


class Installed(NamedTuple):
    """The ONNX Runtime that is installed: its version, and its providers by its own names; and
    the modules of TensorRT."""

    version: str = ""
    providers: tuple[str, ...] = ()
    tensorrt: tuple[str, ...] = ()


class Unused(msgspec.Struct, frozen=True):
    """A device that is there and is not used, and why."""

    device: str
    reason: str


class Choice(msgspec.Struct, frozen=True):
    """The devices of the daemon, and what was found on the way.

    `line` says it all for people. `problem` is why there is no CUDA device.
    """

    devices: tuple[str, ...]
    line: str
    cuda: tuple[CudaFacts, ...] = ()
    driver_version: str = ""
    onnxruntime_version: str = ""
    providers: tuple[str, ...] = ()
    unused: tuple[Unused, ...] = ()
    problem: str = ""


def decide(settings: Settings) -> tuple[Settings, Choice]:
    """The settings with the devices' names and a number of front ends, and why these.

    Raises ConfigurationError where a device is named that can not be used.
    """
    # Asking CUDA takes a moment, and who wants the CPU alone needs no healthy driver.
    probe = Probe() if settings.devices == CPU else probe_in_child()
    installed = Installed(
        onnxruntime_installed.version(), onnxruntime_installed.providers(), installed_modules()
    )
    # Only where it makes a difference are the configurations read.
    wants_cpu = (
        settings.devices == "auto" and bool(probe.devices)
        and some_model_asks_for_cpu(Path(settings.repository))
    )
    choice = choose(settings.devices, probe, installed, wants_cpu=wants_cpu)
    front_ends = settings.front_ends or choose_front_ends(choice.devices, core_count())
    settings = msgspec.structs.replace(
        settings, devices=",".join(choice.devices), front_ends=front_ends
    )
    return settings, choice


def choose(wanted: str, probe: Probe, installed: Installed, *, wants_cpu: bool) -> Choice:
    """The devices that a setting means, here.

    `wanted` is the checked setting; `wants_cpu` says that some model asks for the CPU. Raises
    ConfigurationError where a device is named that can not be used.
    """
    facts = {f"cuda:{device.index}": device for device in probe.devices}
    missing = "; ".join(_missing_engines(installed))
    usable = () if missing else tuple(facts)
    if wanted == "all":
        devices = (CPU, *usable)
    elif wanted == "auto":
        devices = (CPU, *usable) if wants_cpu or not usable else usable
    else:
        devices = tuple(wanted.split(","))
        for device in devices:
            if device not in (CPU, *usable):
                raise _unusable(device, facts, probe.problem, missing)
    unused = tuple(
        Unused(device, missing or "--devices does not name it")
        for device in facts if device not in devices
    )
    return Choice(
        devices, _line(devices, facts, probe, installed, unused), probe.devices,
        probe.driver_version, installed.version, installed.providers, unused, probe.problem,
    )


def some_model_asks_for_cpu(root: Path) -> bool:
    """Whether the configuration of any model does. What can not be read asks for nothing."""
    # Here and not above: a supervisor that need not know stays small.
    from trtserve.model.placement import asks_for_cpu
    from trtserve.model.repository import scan

    return any(
        asks_for_cpu(model.configuration)
        for model in scan(root, ()).models if model.configuration is not None
    )


def choose_front_ends(devices: Sequence[str], cores: int) -> int:
    """How many processes speak gRPC: half of the cores while models run elsewhere, at most
    eight; where they run on these very cores a quarter, at most four."""
    if any(device != CPU for device in devices):
        return max(1, min(8, cores // 2))
    return max(1, min(4, cores // 4))


def _missing_engines(installed: Installed) -> list[str]:
    """Why no engine can run on a CUDA device; empty as soon as one can."""
    if onnxruntime_installed.CUDA in installed.providers or installed.tensorrt:
        return []
    name = f"ONNX Runtime {installed.version}".rstrip()
    lacks = "has no CUDA provider" if installed.providers else "is not installed"
    return [f"{name} {lacks}. Install it with: pip install 'trtserve[cuda]'"]


def _unusable(
    device: str, facts: dict[str, CudaFacts], problem: str, missing: str
) -> ConfigurationError:
    """Why a device that was named can not be used. Causes come with their cure behind a stop."""
    if device in facts:
        problem, _, cure = missing.partition(". ")
    elif facts:
        problem, cure = "there is no such device", f"There is {', '.join((CPU, *facts))}"
    else:
        problem, _, cure = (problem or "no CUDA device is visible").partition(". ")
    return ConfigurationError(
        f"{device} can not be used: {problem}", where="devices",
        cure=cure or "Use --devices auto, or cpu",
    )


def _line(
    devices: Sequence[str], facts: dict[str, CudaFacts], probe: Probe, installed: Installed,
    unused: Sequence[Unused],
) -> str:
    parts = [
        f"{device} {_describe(facts[device], probe.driver_version)}" if device in facts else device
        for device in devices
    ]
    if any(device in facts for device in devices):
        if onnxruntime_installed.CUDA in installed.providers:
            parts.append(f"ONNX Runtime {installed.version} CUDA")
        parts += installed.tensorrt
    line = ", ".join(parts)
    if unused:
        left = "; ".join(f"{each.device}: {each.reason}" for each in unused)
        return f"{line} (not used: {left})"
    return f"{line} (no CUDA device: {probe.problem})" if probe.problem else line


def _describe(device: CudaFacts, driver_version: str) -> str:
    return (
        f"{device.name} (compute capability {device.compute_capability}, "
        f"{device.memory_bytes / _GIB:.1f} GiB, driver {driver_version})"
    )
