"""What a request's head means: parsed, validated and routed once for all requests like it.

Clients send the same head again and again (model, tensor names, shapes, parameters); only the
id and the bytes differ. A Template is the meaning of one head under one catalog.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError

from trtserve.clock import NS_PER_S, NS_PER_US
from trtserve.errors import InvalidRequest
from trtserve.model.catalog import Catalog, Version
from trtserve.model.route import Route, route, tensors_text
from trtserve.model.spec import QueuePolicy, VersionSpec
from trtserve.model.split import Turns
from trtserve.model.tensor import DATATYPES, check_shape, encode
from trtserve.proto import grpc_service_pb2 as pb

T = TypeVar("T")

MAX_CACHED_HEADS = 1024
MAX_CACHED_HEAD_BYTES = 4096
"""Together they bound the cache at 4 MiB of keys."""

MAX_PARAMETERS = 64
"""Parameters of one request; those that have no meaning here count too."""

MAX_TIMEOUT_NS = 10**9 * NS_PER_S
"""Thirty years: a deadline then still fits the 64 bits of a message."""

_CONTENTS_FIELD = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents",
    "INT32": "int_contents", "INT64": "int64_contents", "UINT8": "uint_contents",
    "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}
"""Where typed contents are; FP16 and BF16 must be raw."""

_UNSERVED_INPUT = {"shared_memory_region": "shared memory regions"}
_UNSERVED_OUTPUT = {
    "shared_memory_region": "shared memory regions", "classification": "classification",
}


@dataclass(frozen=True, slots=True)
class InputPlan:
    """One input as a request sends it: where it goes in the spec's order, how large it is.

    `size` is in bytes, -1 for BYTES, which vary.
    """

    name: str
    position: int
    datatype: str
    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Template:
    """The meaning of a head. `contents` has the inputs' bytes where the head holds them."""

    version: Version
    route: Route
    inputs: tuple[InputPlan, ...]
    outputs: tuple[int, ...]
    timeout_ns: int
    priority: int
    receipt: bool
    contents: tuple[bytes, ...] | None
    asked: str = ""
    """The version as the request named it: a number, a label or nothing."""
    heads: dict[tuple[tuple[int, ...], ...], bytes] = field(default_factory=dict)
    """Serialized response heads by the outputs' shapes."""

    @property
    def spec(self) -> VersionSpec:
        """The version's specification."""
        assert self.version.spec is not None  # only routed versions have templates
        return self.version.spec

    def response_head(self, shapes: tuple[tuple[int, ...], ...]) -> bytes:
        """The serialized model name, version and output descriptions of an answer."""
        head = self.heads.get(shapes)
        if head is None:
            spec = self.spec
            outputs = spec.variants[self.route.variant].outputs
            head = pb.ModelInferResponse(
                model_name=spec.model,
                model_version=str(spec.version),
                outputs=[
                    pb.ModelInferResponse.InferOutputTensor(
                        name=outputs[index].name, datatype=outputs[index].datatype, shape=shape
                    )
                    for index, shape in zip(self.outputs, shapes, strict=True)
                ],
            ).SerializeToString()
            if len(self.heads) < 64:  # data-dependent shapes have no end
                self.heads[shapes] = head
        return head


@dataclass(frozen=True, slots=True)
class _Split:
    """A head that names no version of a model whose traffic is split: one template for each
    version that has had a turn."""

    turns: Turns
    templates: dict[int, Template]


class Templates:
    """Templates by head, for one catalog at a time."""

    def __init__(self) -> None:
        self.catalog = Catalog(complete=False)
        self._known: dict[bytes, Template] = {}
        self._splits: dict[bytes, _Split] = {}
        self._turns: dict[str, Turns] = {}

    def use(self, catalog: Catalog) -> None:
        """Route by a new catalog from now on."""
        self.catalog = catalog
        self._known.clear()
        self._splits.clear()

    def find(self, head: bytes) -> Template:
        """The template of a head: parsed, validated and routed.

        Raises InvalidRequest, ModelNotFound or Unavailable, saying what came and what fits.
        """
        known = self._known.get(head)
        if known is not None:
            return known
        split = self._splits.get(head)
        if split is None:
            message = _parsed(head)
            turns = self._turns_of(message)
            if turns is None:
                template = _make(message, self.catalog, message.model_version)
                if _lasts(template, head):
                    _keep(self._known, head, template)
                return template
            split = _Split(turns, {})
        number = split.turns.next()
        turn = split.templates.get(number)
        if turn is None:
            turn = _make(_parsed(head), self.catalog, str(number))
            if _lasts(turn, head):
                split.templates[number] = turn
                _keep(self._splits, head, split)
        return turn

    def _turns_of(self, message: pb.ModelInferRequest) -> Turns | None:
        """Whose turn it is of the model's versions; None where its traffic is not split.

        They outlast catalogs, which change with every measured cost: else a version of little
        weight would never have its turn.
        """
        if message.model_version:
            return None
        shares = self.catalog.shares(message.model_name)
        if not shares:
            return None
        turns = self._turns.get(message.model_name)
        if turns is None or turns.shares != shares:
            turns = self._turns[message.model_name] = Turns(shares)
        return turns


def _lasts(template: Template, head: bytes) -> bool:
    """Whether a template is worth keeping: not where the head holds the inputs' bytes."""
    return template.contents is None and len(head) <= MAX_CACHED_HEAD_BYTES


def _keep(cache: dict[bytes, T], head: bytes, value: T) -> None:
    if head not in cache and len(cache) >= MAX_CACHED_HEADS:
        cache.pop(next(iter(cache)))
    cache[head] = value


def _parsed(head: bytes) -> pb.ModelInferRequest:
    try:
        return pb.ModelInferRequest.FromString(head)
    except DecodeError as error:
        raise InvalidRequest("the message is not a ModelInferRequest") from error


def _make(message: pb.ModelInferRequest, catalog: Catalog, number: str) -> Template:
    """The template of a message for that version, or label, of its model."""
    version = catalog.resolve(message.model_name, number)
    spec = version.spec
    assert spec is not None  # resolve() gives no version without
    inputs = _inputs(message, spec)
    shapes = [plan.shape for plan in sorted(inputs, key=lambda plan: plan.position)]
    found = route(version, shapes)
    timeout_ns, priority, receipt = _parameters(message.parameters, spec.queue)
    return Template(
        version=version,
        route=found,
        inputs=inputs,
        outputs=_outputs(message, spec),
        timeout_ns=timeout_ns,
        priority=priority,
        receipt=receipt,
        contents=_contents(message, inputs),
        asked=message.model_version,
    )


def _inputs(message: pb.ModelInferRequest, spec: VersionSpec) -> tuple[InputPlan, ...]:
    declared = {tensor.name: (position, tensor) for position, tensor in enumerate(spec.inputs)}
    takes = f"model '{spec.model}' takes {tensors_text(spec.inputs)}"
    plans: list[InputPlan] = []
    for tensor in message.inputs:
        if tensor.name not in declared:
            raise InvalidRequest(f"no input '{tensor.name}'; {takes}")
        position, wanted = declared[tensor.name]
        if any(plan.position == position for plan in plans):
            raise InvalidRequest(f"input '{tensor.name}' came twice")
        if tensor.datatype != wanted.datatype:
            raise InvalidRequest(
                f"input '{tensor.name}' came as {tensor.datatype or 'no datatype'}; {takes}"
            )
        _refuse_parameters(f"input '{tensor.name}'", tensor.parameters, _UNSERVED_INPUT)
        elements = check_shape(tensor.shape)  # before it is copied: it may be long
        shape = tuple(tensor.shape)
        itemsize = DATATYPES[wanted.datatype].itemsize
        plans.append(InputPlan(
            tensor.name, position, wanted.datatype, shape, elements * itemsize if itemsize else -1
        ))
    missing = set(declared) - {plan.name for plan in plans}
    if missing:
        raise InvalidRequest(f"input '{min(missing)}' is missing; {takes}")
    return tuple(plans)


def _outputs(message: pb.ModelInferRequest, spec: VersionSpec) -> tuple[int, ...]:
    positions = {tensor.name: index for index, tensor in enumerate(spec.outputs)}
    if not message.outputs:
        return tuple(positions.values())
    wanted: list[int] = []
    for output in message.outputs:
        if output.name not in positions:
            raise InvalidRequest(
                f"no output '{output.name}'; model '{spec.model}' gives "
                f"{tensors_text(spec.outputs)}"
            )
        if positions[output.name] in wanted:
            raise InvalidRequest(f"output '{output.name}' is asked for twice")
        _refuse_parameters(f"output '{output.name}'", output.parameters, _UNSERVED_OUTPUT)
        wanted.append(positions[output.name])
    return tuple(wanted)


def _refuse_parameters(
    what: str, parameters: Mapping[str, pb.InferParameter], unserved: Mapping[str, str]
) -> None:
    for name, feature in unserved.items():
        if name in parameters:
            raise InvalidRequest(
                f"{what} asks for {feature}, which this server does not have; "
                f"send and receive tensors in the messages"
            )


def _parameters(
    parameters: Mapping[str, pb.InferParameter], queue: QueuePolicy
) -> tuple[int, int, bool]:
    """(timeout in nanoseconds or 0, priority or 0, receipt)."""
    if len(parameters) > MAX_PARAMETERS:
        raise InvalidRequest(
            f"{len(parameters)} parameters came; at most {MAX_PARAMETERS} are taken"
        )
    timeout_us = _whole(parameters, "timeout", "microseconds")
    if queue.default_timeout_us and not (timeout_us and queue.allow_timeout_override):
        timeout_us = queue.default_timeout_us
    priority = _whole(parameters, "priority", "a level, 1 the most urgent")
    if queue.priority_levels and priority > queue.priority_levels:
        raise InvalidRequest(
            f"priority {priority} came; this model has levels 1 to {queue.priority_levels}"
        )
    receipt = parameters["receipt"].bool_param if "receipt" in parameters else False
    return min(timeout_us * NS_PER_US, MAX_TIMEOUT_NS), priority, receipt


def _whole(parameters: Mapping[str, pb.InferParameter], name: str, unit: str) -> int:
    if name not in parameters:
        return 0
    parameter = parameters[name]
    kind = parameter.WhichOneof("parameter_choice")
    value: Any = getattr(parameter, kind) if kind else None
    if kind == "string_param" and value.isascii() and value.isdigit():
        value = int(value[:20])
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise InvalidRequest(f"parameter '{name}' must be a whole number ({unit})")
    return value


def _contents(
    message: pb.ModelInferRequest, inputs: Sequence[InputPlan]
) -> tuple[bytes, ...] | None:
    """The bytes of typed contents, in the order the inputs came; None when there are none."""
    if not any(tensor.HasField("contents") for tensor in message.inputs):
        return None
    found = []
    for tensor, plan in zip(message.inputs, inputs, strict=True):
        name = _CONTENTS_FIELD.get(plan.datatype)
        if name is None:
            raise InvalidRequest(
                f"input '{plan.name}' is {plan.datatype}, which has no typed contents; "
                f"send raw_input_contents"
            )
        for other in set(_CONTENTS_FIELD.values()) - {name}:
            if getattr(tensor.contents, other):
                raise InvalidRequest(
                    f"input '{plan.name}' is {plan.datatype}: its contents belong in {name}, "
                    f"not in {other}"
                )
        values = getattr(tensor.contents, name)
        if len(values) != check_shape(plan.shape):
            raise InvalidRequest(
                f"input '{plan.name}' holds {len(values)} elements; "
                f"{plan.datatype}{list(plan.shape)} needs {check_shape(plan.shape)}"
            )
        found.append(_encode_values(plan, list(values)))
    return tuple(found)


def _encode_values(plan: InputPlan, values: list[Any]) -> bytes:
    try:
        return encode(np.array(values, DATATYPES[plan.datatype].numpy))
    except (OverflowError, ValueError) as error:
        raise InvalidRequest(f"input '{plan.name}' does not fit {plan.datatype}") from error
