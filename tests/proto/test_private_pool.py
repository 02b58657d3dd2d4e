"""Our messages live beside other packages' messages of the same names, in one process."""

import subprocess
import sys

import pytest

BOTH = """
from tritonclient import grpc as theirs
from tritonclient.grpc import service_pb2
from trtserve.proto import grpc_service_pb2, model_config_pb2, trtserve_pb2
import numpy as np

request = theirs.InferInput("x", [2], "FP32")
request.set_data_from_numpy(np.array([1, 2], np.float32))
written = service_pb2.ModelInferRequest(
    model_name="m", inputs=[request._get_tensor()],
    raw_input_contents=[request._get_content()],
).SerializeToString()
mine = grpc_service_pb2.ModelInferRequest.FromString(written)
assert mine.inputs[0].name == "x" and mine.raw_input_contents[0] == b"\\0\\0\\x80?\\0\\0\\0@", mine
answer = grpc_service_pb2.ModelInferResponse(model_name="m", id="7")
assert service_pb2.ModelInferResponse.FromString(answer.SerializeToString()).id == "7"
assert type(mine) is not service_pb2.ModelInferRequest
assert trtserve_pb2.InferBatchRequest(requests=[mine]).requests[0].model_name == "m"
"""

# What other packages of the protocol do: the same names again, in the default pool.
DUPLICATES = """
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
pool = descriptor_pool.Default()
file = descriptor_pb2.FileDescriptorProto(
    name="grpc_predict_v2.proto", package="inference", syntax="proto3"
)
message = file.message_type.add(name="ModelInferRequest")
message.field.add(name="model_name", number=1, type=9, label=1)
file.message_type.add(name="ModelConfig")
pool.Add(file)
theirs = message_factory.GetMessageClass(
    pool.FindMessageTypeByName("inference.ModelInferRequest")
)
"""

USE = """
from trtserve.proto import grpc_service_pb2, model_config_pb2
mine = grpc_service_pb2.ModelInferRequest.FromString(theirs(model_name="m").SerializeToString())
assert mine.model_name == "m"
assert model_config_pb2.ModelConfig(max_batch_size=8).max_batch_size == 8
"""


@pytest.mark.parametrize("code", [
    BOTH,
    "from trtserve.proto import trtserve_pb2\n" + BOTH,
    DUPLICATES + USE,
    "from trtserve.proto import trtserve_pb2\n" + DUPLICATES + USE,
], ids=["theirs first", "ours first", "duplicates first", "duplicates last"])
def test_other_definitions_of_the_same_names_do_not_disturb(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_default_pool_stays_as_it_was():
    code = (
        "from trtserve.proto import trtserve_pb2\n"
        "from google.protobuf import descriptor_pool\n"
        "try:\n"
        "    descriptor_pool.Default().FindFileByName('grpc_service.proto')\n"
        "except KeyError:\n"
        "    print('unknown')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "unknown\n"


def test_a_generated_module_has_messages_enum_values_and_its_descriptor():
    from trtserve.proto import grpc_service_pb2, model_config_pb2

    assert model_config_pb2.TYPE_FP32 == 11
    assert model_config_pb2.ModelConfig.DESCRIPTOR.full_name == "inference.ModelConfig"
    assert grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
