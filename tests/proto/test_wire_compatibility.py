"""Our messages and services are those of the clients that exist, field by field."""

import random
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2 as their_config
from tritonclient.grpc import service_pb2 as theirs

from tools.make_proto import source_digest
from trtserve.proto import grpc_service_pb2 as ours
from trtserve.proto import model_config_pb2 as our_config

ROOT = Path(__file__).parents[2]

# Ours can tell whether the operator wrote it: on the wire it is the same field.
OPTIONAL_HERE = {"inference.ModelConfig.max_batch_size"}


def messages(descriptors: Any) -> dict[str, Any]:
    """All messages by full name, nested ones too."""
    found: dict[str, Any] = {}
    for message in descriptors:
        found[message.full_name] = message
        found.update(messages(message.nested_types))
    return found


def enums(file: Any) -> dict[str, dict[str, int]]:
    """All enums by full name, nested ones too."""
    found = list(file.enum_types_by_name.values())
    for message in messages(file.message_types_by_name.values()).values():
        found += message.enum_types
    return {enum.full_name: {v.name: v.number for v in enum.values} for enum in found}


def real_oneof(field: Any) -> str | None:
    """The oneof that a field is in; `optional` makes one of its own, which the wire lacks."""
    oneof = field.containing_oneof
    if oneof is None or oneof.name == f"_{field.name}":
        return None
    return str(oneof.name)


def description(field: Any) -> dict[str, Any]:
    """Everything of a field that decides how it is written and read."""
    return {
        "name": field.name,
        "type": field.type,
        "repeated": field.is_repeated,
        "required": field.is_required,
        "packed": field.is_packed,
        "message": field.message_type and field.message_type.full_name,
        "enum": field.enum_type and field.enum_type.full_name,
        "map": bool(field.message_type and field.message_type.GetOptions().map_entry),
        "oneof": real_oneof(field),
        "json": field.json_name,
    }


FILES = [(ours.DESCRIPTOR, theirs.DESCRIPTOR), (our_config.DESCRIPTOR, their_config.DESCRIPTOR)]
THEIR_MESSAGES = {
    name: message
    for _, file in FILES for name, message in messages(file.message_types_by_name.values()).items()
}
OUR_MESSAGES = {
    name: message
    for file, _ in FILES for name, message in messages(file.message_types_by_name.values()).items()
}


def test_there_is_something_to_compare():
    assert len(THEIR_MESSAGES) > 100
    assert "inference.ModelInferRequest.InferInputTensor" in THEIR_MESSAGES


@pytest.mark.parametrize("name", sorted(THEIR_MESSAGES))
def test_the_message_is_the_same(name):
    mine, other = OUR_MESSAGES[name], THEIR_MESSAGES[name]
    assert (
        {field.number: description(field) for field in mine.fields}
        == {field.number: description(field) for field in other.fields}
    )


def test_the_only_field_with_other_presence_is_the_one_we_know():
    differing = {
        field.full_name
        for name, message in THEIR_MESSAGES.items()
        for field in message.fields
        if field.has_presence != OUR_MESSAGES[name].fields_by_number[field.number].has_presence
    }
    assert differing == OPTIONAL_HERE


@pytest.mark.parametrize(("mine", "other"), FILES, ids=["service", "config"])
def test_enums_are_the_same(mine, other):
    assert enums(mine) == enums(other)


def test_every_call_is_the_same():
    mine = ours.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    other = theirs.DESCRIPTOR.services_by_name["GRPCInferenceService"]

    def calls(service: Any) -> dict[str, tuple[str, str, bool, bool]]:
        return {
            method.name: (
                method.input_type.full_name, method.output_type.full_name,
                method.client_streaming, method.server_streaming,
            )
            for method in service.methods
        }

    assert mine.full_name == other.full_name
    assert calls(mine) == calls(other)
    assert "ModelStreamInfer" in calls(mine)


def filled(message: Any, rng: random.Random, depth: int = 0) -> Any:
    """A message with every field set to something, one choice of each oneof."""
    chosen = {
        rng.choice(oneof.fields).number for oneof in message.DESCRIPTOR.oneofs
    }
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof and field.number not in chosen:
            continue
        if field.message_type and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            entries = getattr(message, field.name)
            key = scalar(field.message_type.fields_by_name["key"], rng)
            if value.message_type is None:
                entries[key] = scalar(value, rng)
            elif depth < 3:
                filled(entries[key], rng, depth + 1)
            continue
        if field.message_type:
            if depth < 3:
                target = getattr(message, field.name)
                filled(target.add() if field.is_repeated else target, rng, depth + 1)
                if not field.is_repeated:
                    target.SetInParent()
        elif field.is_repeated:
            getattr(message, field.name).extend([scalar(field, rng), scalar(field, rng)])
        else:
            setattr(message, field.name, scalar(field, rng))
    return message


def scalar(field: Any, rng: random.Random) -> Any:
    if field.enum_type:
        return field.enum_type.values[-1].number
    kinds = {
        field.CPPTYPE_BOOL: True,
        field.CPPTYPE_FLOAT: 1.5,
        field.CPPTYPE_DOUBLE: 0.1,
        field.CPPTYPE_INT32: -rng.randrange(1, 1 << 31),
        field.CPPTYPE_INT64: -rng.randrange(1, 1 << 63),
        field.CPPTYPE_UINT32: rng.randrange(1, 1 << 32),
        field.CPPTYPE_UINT64: rng.randrange(1, 1 << 64),
    }
    if field.cpp_type == field.CPPTYPE_STRING:
        return rng.randbytes(9) if field.type == field.TYPE_BYTES else f"text {rng.random()} é"
    return kinds[field.cpp_type]


@pytest.mark.parametrize(
    "name", sorted(name for file, _ in FILES for name in file.message_types_by_name)
)
def test_what_one_side_writes_the_other_reads(name):
    rng = random.Random(name)
    mine_class = getattr(ours, name, None) or getattr(our_config, name)
    their_class = getattr(theirs, name, None) or getattr(their_config, name)
    written = filled(their_class(), rng)
    read = mine_class.FromString(written.SerializeToString())
    assert json_format.MessageToDict(read) == json_format.MessageToDict(written)
    back = their_class.FromString(read.SerializeToString())
    assert back == written


@pytest.mark.parametrize("name", ["grpc_service", "model_config", "trtserve"])
def test_the_generated_modules_are_up_to_date(name):
    digest = source_digest((ROOT / "protos" / f"{name}.proto").read_bytes())
    module = ROOT / "trtserve" / "proto" / f"{name}_pb2.py"
    assert digest in module.read_text(), f"{module.name} is stale: run `make proto`"


def test_every_proto_file_has_its_modules():
    sources = {path.stem for path in (ROOT / "protos").glob("*.proto")}
    for suffix in ("_pb2.py", "_pb2.pyi"):
        made = {path.name.removesuffix(suffix)
                for path in (ROOT / "trtserve" / "proto").glob(f"*{suffix}")}
        assert made == sources
