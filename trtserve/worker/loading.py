"""What the loader tells the worker's loop."""

from dataclasses import dataclass

from trtserve.errors import DeviceError
from trtserve.ipc.message import Bucket, ModelUpdate
from trtserve.model.spec import VersionSpec
from trtserve.worker.contexts import Pinned
from trtserve.worker.equip import Equipment
from trtserve.worker.lending import Borrow, GiveBack
from trtserve.worker.prepare import Measured


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version that is ready to run. `seconds` is what loading and warming took.

    `batch_derived`: that dimension 0 is a batch was concluded from the engines' shapes only.
    `lanes`: how many of its batches may run at once; None: as many as there are lanes.
    """

    spec: VersionSpec
    variants: tuple[Equipment, ...]
    seconds: float
    warnings: tuple[str, ...]
    batch_derived: bool = False
    lanes: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """A version that is being loaded, or failed to."""

    update: ModelUpdate


@dataclass(frozen=True, slots=True)
class Finished:
    """Every model was tried."""

    models: int


@dataclass(frozen=True, slots=True)
class PinsMade:
    """The contexts of a bucket, one entry for each lane; none if they could not be made."""

    variant: int
    bucket: Bucket
    pinned: tuple[Pinned, ...]
    measured: tuple[Measured, ...]


@dataclass(frozen=True, slots=True)
class DeviceLost:
    """A sticky error while loading."""

    error: DeviceError


LoadEvent = Loaded | Progress | Finished | Borrow | GiveBack | PinsMade | DeviceLost
