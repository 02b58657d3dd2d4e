"""gRPC's standard health and reflection services, as the tools that expect them use them."""

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from trtserve.proto import grpc_service_pb2 as pb

SERVICES = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
    "inference.GRPCInferenceService",
    "trtserve.v1.DebugService",
    "trtserve.v1.InferenceService",
]


@pytest.fixture
def health(channel):
    return health_pb2_grpc.HealthStub(channel)


@pytest.fixture
def reflection(channel):
    """The server's descriptors, by reflection."""
    return ProtoReflectionDescriptorDatabase(channel)


@pytest.mark.parametrize("service", ["", SERVICES[2], SERVICES[4]])
def test_health_check(health, service):
    request = health_pb2.HealthCheckRequest(service=service)
    assert health.Check(request).status == health_pb2.HealthCheckResponse.SERVING


def test_health_check_of_an_unknown_service(health):
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="nothing"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_watch_says_the_state_at_once(health):
    watch = health.Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


def test_reflection_lists_the_services(reflection):
    assert sorted(reflection.get_services()) == SERVICES


def test_reflection_describes_the_messages(reflection):
    pool = descriptor_pool.DescriptorPool(reflection)
    found = pool.FindMessageTypeByName("inference.ModelInferRequest")
    ours = pb.ModelInferRequest.DESCRIPTOR
    assert [(field.name, field.number, field.type) for field in found.fields] == [
        (field.name, field.number, field.type) for field in ours.fields
    ]
    batch = pool.FindServiceByName("trtserve.v1.InferenceService").methods_by_name["InferBatch"]
    assert batch.input_type.fields_by_name["requests"].message_type is found
    for service in SERVICES:
        assert pool.FindServiceByName(service).methods
