"""Plans for the stand-in of TensorRT: what it would read from a real one, as JSON."""

from collections.abc import Sequence
from typing import Any

import msgspec

from trtserve.model.tensor import Shape

HEADS = {"tensorrt": b"ftrt", "tensorrt_lean": b"ftrt", "tensorrt_rtx": b"vtrt"}
"""How plans begin, so that those of different runtimes are told apart."""

VERSIONS = {"tensorrt": "11.4.0.106", "tensorrt_lean": "11.4.0.106", "tensorrt_rtx": "1.7.1.116"}

MinOptMax = tuple[Shape, Shape, Shape]


class StandInTensor(msgspec.Struct, frozen=True, kw_only=True):
    """An input or output. `datatype` is TensorRT's name; -1 in `shape`: profiles decide.

    What an output is, says its `rule`:

        like     four times the input with its index, or the last one; each -1 is that one's
        data     the same, but its first dimension is the input's first element
        values   the same, of the shape that the input on the host gives
        shape    the input's shape; on the host

    `vector` is the dimension of which several elements lie together, -1: none; `alias` is the
    input whose memory it shares.
    """

    name: str
    shape: Shape
    datatype: str = "FLOAT"
    on_host: bool = False
    rule: str = "like"
    vector: int = -1
    format: str = "LINEAR"
    alias: str = ""


class StandInProfile(msgspec.Struct, frozen=True):
    """The (min, opt, max) shapes of inputs that have -1, and the values of those on the host."""

    shapes: dict[str, MinOptMax] = {}
    values: dict[str, MinOptMax] = {}


class StandInPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A whole plan. `scratch`: bytes for each profile; empty: as much as the largest input.

    `verbosity` is what it was built with, by TensorRT's name. A plan that is not `capturable`
    waits for its stream in the middle of a run.
    """

    inputs: tuple[StandInTensor, ...]
    outputs: tuple[StandInTensor, ...]
    profiles: tuple[StandInProfile, ...]
    scratch: tuple[int, ...] = ()
    module: str = "tensorrt"
    version: str = ""
    gpu: str = "9.0"
    host_code: bool = False
    verbosity: str = "LAYER_NAMES_ONLY"
    capturable: bool = True


def encode_plan(plan: StandInPlan) -> bytes:
    """A plan's file."""
    if not plan.version:
        plan = msgspec.structs.replace(plan, version=VERSIONS[plan.module])
    return HEADS[plan.module] + msgspec.json.encode(plan)


def decode_plan(data: bytes, module: str) -> StandInPlan | str:
    """The plan, or what TensorRT would say of a file that is none."""
    if not data:
        return "Error Code 3: API Usage Error (Cannot deserialize with an empty memory buffer.)"
    if not data.startswith(HEADS[module]):
        return (
            "Error Code 1: Serialization (Serialization assertion header.magicTag == "
            "kEXPECTED_MAGIC_TAG failed. In throwUnlessHeaderOk at /_src/runtime.cpp:48)"
        )
    try:
        return msgspec.json.decode(data[len(HEADS[module]):], type=StandInPlan)
    except msgspec.DecodeError:
        return (
            "Error Code 1: Serialization (Serialization assertion plan.header.size == blobSize "
            "failed. In parsePlan at /_src/runtime.cpp:780)"
        )


def make_plan(
    path: str, *, shapes: Sequence[MinOptMax] = (((1, 4), (4, 4), (8, 4)),),
    datatype: str = "FLOAT", **options: Any,
) -> StandInPlan:
    """Write the usual plan: `x` to `y`, four times as large, one profile for each of `shapes`.

    Sizes that are the same in all of them are fixed, but for the first. `options` are the
    plan's.
    """
    all_shapes = [shape for profile in shapes for shape in profile]
    rows = [
        -1 if index == 0 or len(set(sizes)) > 1 else sizes[0]
        for index, sizes in enumerate(zip(*all_shapes, strict=True))
    ]
    shape = tuple(rows)
    return write_plan(
        path,
        inputs=(StandInTensor(name="x", shape=shape, datatype=datatype),),
        outputs=(StandInTensor(name="y", shape=shape, datatype=datatype),),
        profiles=tuple(StandInProfile({"x": profile}) for profile in shapes),
        **options,
    )


def write_plan(path: str, **options: Any) -> StandInPlan:
    """Write any plan. `options` are its fields."""
    plan = StandInPlan(**options)
    with open(path, "wb") as file:
        file.write(encode_plan(plan))
    return plan
