"""Which of the daemon's devices a model lives on: `instance_group` of its configuration. Pure.

    placed = place(configuration, ("cpu", "cuda:0"), "cuda:0")     # None: it does not live there

Devices have the daemon's names for them: `cpu`, `cuda:0` and so on. The words of Triton's
message mean here:

- no group, KIND_AUTO, KIND_MODEL: every CUDA device of the daemon, or the CPU if it has none;
  with `gpus`, those of them that the daemon has, if any.
- KIND_GPU: its `gpus`, or every CUDA device.
- KIND_CPU: the CPU.
- count: how many of a device's lanes the model may be on at once; without it, all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trtserve.model.configuration import ModelConfiguration
from trtserve.model.finding import Finding
from trtserve.proto.model_config_pb2 import ModelInstanceGroup

CPU = "cpu"
_CUDA = "cuda:"
_ANY_CUDA = "a CUDA device"


@dataclass(frozen=True, slots=True)
class Placed:
    """A model on a device. Each of its versions has at most `lanes` batches there at once; None:
    as many as there are lanes. `finding` says where this is not what was asked for."""

    lanes: int | None = None
    finding: Finding | None = None

    @property
    def warning(self) -> str:
        """The finding with its line, else empty."""
        return "" if self.finding is None else str(self.finding)


def place(
    configuration: ModelConfiguration, devices: Sequence[str], device: str
) -> Placed | None:
    """How a model lives on one of the daemon's devices; None if it does not.

    Every model lives somewhere: one that names no device of the daemon lives where it would
    without naming any, and says so in a warning.
    """
    groups = configuration.message.instance_group
    named = [_named(group, devices) for group in groups]
    asked = set().union(*named)
    there = asked.intersection(devices)
    if not there:
        if device not in _usual(devices):
            return None
        problem = (
            f"instance_group asks for {_list(asked)}, and this daemon has {_list(devices)}: "
            f"served on {_list(_usual(devices))} as without it"
        )
        return Placed(finding=_warning(configuration, problem) if asked else None)
    if device not in there:
        return None
    counts = [
        group.count for group, names in zip(groups, named, strict=True) if device in names
    ]
    missing = asked - there
    problem = (
        f"instance_group asks for {_list(missing)} too, and this daemon has {_list(devices)}: "
        f"served without"
    )
    return Placed(
        sum(counts) if all(counts) else None,
        _warning(configuration, problem) if missing else None,
    )


def asks_for_cpu(configuration: ModelConfiguration) -> bool:
    """Whether a model wants to live on the CPU though there may be other devices."""
    return any(
        group.kind == ModelInstanceGroup.KIND_CPU
        for group in configuration.message.instance_group
    )


def _usual(devices: Sequence[str]) -> set[str]:
    """Where models live that say nothing."""
    return {name for name in devices if name.startswith(_CUDA)} or set(devices)


def _named(group: ModelInstanceGroup, devices: Sequence[str]) -> set[str]:
    """The devices of a group. KIND_GPU and KIND_CPU may name some that are not there."""
    numbered = {f"{_CUDA}{number}" for number in group.gpus}
    if group.kind == ModelInstanceGroup.KIND_CPU:
        return {CPU}
    if group.kind == ModelInstanceGroup.KIND_GPU:
        every = {name for name in devices if name.startswith(_CUDA)}
        return numbered or every or {_ANY_CUDA}
    return numbered.intersection(devices) or _usual(devices)


def _warning(configuration: ModelConfiguration, problem: str) -> Finding:
    return Finding("warning", configuration.origin.where("instance_group", 0), problem)


def _list(devices: Iterable[str]) -> str:
    """Devices for people, the CPU first, then by number."""
    return ", ".join(sorted(devices, key=lambda name: (name != CPU, len(name), name)))
