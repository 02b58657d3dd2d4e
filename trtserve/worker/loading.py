"""What the loader tells the worker's loop."""

from dataclasses import dataclass

from trtserve.errors import DeviceError
from trtserve.ipc.message import Bucket, LoadMemory, ModelUpdate
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
    `memory`: what loading took.
    """

    spec: VersionSpec
    variants: tuple[Equipment, ...]
    seconds: float
    warnings: tuple[str, ...]
    batch_derived: bool = False
    lanes: int | None = None
    memory: LoadMemory | None = None


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


@dataclass(frozen=True, slots=True)
class Begun:
    """An order to load a model is being carried out. `updates` tell its versions as loading;
    `before_bytes` is the memory in use now."""

    order: int
    updates: tuple[ModelUpdate, ...]
    before_bytes: int


@dataclass(frozen=True, slots=True)
class StagedModel:
    """All versions that an order chose are ready; or, with `error`, none is, and nothing of them
    is held.

    `failures` then tell why for each version. `where` is for the operator.
    """

    order: int
    loaded: tuple[Loaded, ...] = ()
    failures: tuple[ModelUpdate, ...] = ()
    error: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class Unloading:
    """The turn of an order to unload a model has come: nothing that was to be loaded before it is
    still on its way. `before_bytes` is the memory in use now."""

    order: int
    before_bytes: int


@dataclass(frozen=True, slots=True)
class FreedModel:
    """What an order let go is freed. `after_bytes` is the memory in use now."""

    order: int
    after_bytes: int


ChangeEvent = Begun | StagedModel | Unloading | FreedModel
"""How an order of the supervisor goes on."""

LoadEvent = (
    Loaded | Progress | Finished | Borrow | GiveBack | PinsMade | DeviceLost | ChangeEvent
)
