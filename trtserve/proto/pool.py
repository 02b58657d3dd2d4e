"""The private descriptor pool that all of trtserve's messages live in.

The default pool of a process refuses two files that define the same message names, and the
Open Inference Protocol's names are defined by other packages too (tritonclient, kserve). With
a pool of its own, trtserve can be imported beside any of them.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

POOL = descriptor_pool.DescriptorPool()


def register(serialized_file: bytes) -> dict[str, Any]:
    """Add one serialized FileDescriptorProto to the pool.

    Returns the names that a generated module exports: each top-level message class, each
    top-level enum's values, and DESCRIPTOR.
    """
    file = descriptor_pb2.FileDescriptorProto.FromString(serialized_file)
    POOL.Add(file)
    descriptor = POOL.FindFileByName(file.name)
    names: dict[str, Any] = {"DESCRIPTOR": descriptor}
    for name, message in descriptor.message_types_by_name.items():
        names[name] = message_factory.GetMessageClass(message)
    for enum in descriptor.enum_types_by_name.values():
        names.update({value.name: value.number for value in enum.values})
    return names
