"""What goes in and comes out: plain values, NumPy arrays."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypedDict

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]

Parameter: TypeAlias = bool | int | float | str
"""A parameter's value in a request or an answer."""


class Options(TypedDict, total=False):
    """What `infer` takes besides the model and its inputs; see Item for the meaning."""

    outputs: Sequence[str]
    version: str | int
    priority: int
    timeout_us: int
    receipt: bool
    request_id: str


@dataclass(frozen=True, slots=True)
class Item:
    """One request: a model's name and an array for each of its inputs."""

    model: str
    inputs: Mapping[str, Array]
    outputs: Sequence[str] = ()
    """Names of the outputs wanted. Empty: all."""
    version: str | int = ""
    """A number, or a label such as `canary`. Empty: the server's choice: by the weights of the
    versions where the model has some, else the latest."""
    priority: int | None = None
    """1 is the most urgent. None: the model's default."""
    timeout_us: int | None = None
    """Microseconds that the request may wait in the server's queue."""
    receipt: bool = False
    """Whether to ask for queue time, batch size, variant, lane and stage times."""
    request_id: str = ""
    """Comes back as the result's `id`."""


class Result(Mapping[str, Array]):
    """The outputs of one request, by name, in the server's order.

    The arrays are read-only views of the answer's bytes; copy one to change it. BYTES outputs
    are arrays of `bytes` objects. `receipt` holds the answer's parameters, None if there are
    none.
    """

    __slots__ = ("_outputs", "id", "model", "receipt", "version")

    def __init__(
        self,
        outputs: Mapping[str, Array],
        *,
        model: str,
        version: str,
        id: str,  # noqa: A002 - the protocol's word
        receipt: Mapping[str, Parameter] | None,
    ) -> None:
        self._outputs = dict(outputs)
        self.model = model
        self.version = version
        self.id = id
        self.receipt = None if receipt is None else dict(receipt)

    def __getitem__(self, name: str) -> Array:
        return self._outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {a.dtype}{list(a.shape)}" for name, a in self.items())
        return f"<Result of {self.model} version {self.version}: {shapes}>"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output of a model. -1 is a dimension that the request chooses."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.datatype}{list(self.shape)}"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a model takes and gives."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One version of a model in the server's repository. `state` is as in Triton: READY,
    LOADING, UNAVAILABLE; `reason` says why where it is not ready."""

    name: str
    version: str
    state: str
    reason: str
