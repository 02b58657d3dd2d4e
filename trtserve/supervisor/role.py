"""What the children are: their kinds, names and entry points."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The two kinds of child. Each one of a kind is connected to all of the other kind."""

    FRONT_END = "front end"
    WORKER = "worker"

    @property
    def other(self) -> "Kind":
        """The kind that this one talks to."""
        return Kind.WORKER if self is Kind.FRONT_END else Kind.FRONT_END


@dataclass(frozen=True, slots=True)
class Role:
    """One child's part in the daemon, which successive processes play.

    `target` is its entry point as "module:function", so that nothing here imports what only
    children need; the function takes the control channel and Start and returns an exit code.
    `device` is a worker's: `cpu`, `cuda:0` and so on.
    """

    kind: Kind
    index: int
    name: str
    target: str
    device: str = ""

    @property
    def title(self) -> str:
        """The process title."""
        return f"trtserve {self.name}"


@dataclass(frozen=True, slots=True)
class Targets:
    """The entry points of the two kinds."""

    front_end: str = "trtserve.frontend.process:main"
    worker: str = "trtserve.worker.process:main"


def roles(front_ends: int, devices: str, targets: Targets) -> list[Role]:
    """Every child of the daemon: workers first, because loading takes longest.

    There is a worker for each device; `devices` are their names with commas between.
    """
    workers = [
        Role(Kind.WORKER, index, f"worker {device}", targets.worker, device)
        for index, device in enumerate(devices.split(","))
    ]
    return workers + [
        Role(Kind.FRONT_END, index, f"front end {index}", targets.front_end)
        for index in range(1, front_ends + 1)
    ]
