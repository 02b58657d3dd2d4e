"""Limits on what one message may hold, before anything is made of it."""

import pytest

from tests.frontend.heads import make_template
from tests.frontend.stand import catalog_of, floats, request, version_spec
from trtserve.errors import InvalidRequest
from trtserve.frontend import wire
from trtserve.frontend.template import MAX_PARAMETERS
from trtserve.model.tensor import MAX_RANK
from trtserve.proto import grpc_service_pb2 as pb

CATALOG = catalog_of(version_spec())


def refused(message):
    with pytest.raises(InvalidRequest) as caught:
        make_template(message.SerializeToString(), CATALOG)
    return str(caught.value)


@pytest.mark.parametrize("field", [b"\x2a\x00", b"\x3a\x00", b"\x22\x00", b"\x08\x01"])
def test_a_request_has_so_many_fields_and_no_more(field):
    most = field * wire.MAX_FIELDS
    wire.split_request(most, 0, len(most))
    more = field * 5_000_000
    with pytest.raises(InvalidRequest, match="more than 1024 fields"):
        wire.split_request(more, 0, len(more))


def test_a_message_that_ends_beyond_its_end_is_still_refused():
    most = b"\x2a\x00" * (wire.MAX_FIELDS - 1) + b"\x2a\x05x"
    with pytest.raises(InvalidRequest, match="cut off"):
        wire.split_request(most, 0, len(most))


def test_a_batch_has_so_many_requests_and_no_more():
    assert len(wire.split_batch(b"\x0a\x00" * wire.MAX_BATCH_ITEMS)) == wire.MAX_BATCH_ITEMS
    with pytest.raises(InvalidRequest, match="more than 16384 requests"):
        wire.split_batch(b"\x0a\x00" * 5_000_000)


def test_dimensions_are_counted_before_they_are_copied():
    message = request(floats(1, 3))
    message.inputs[0].shape[:] = [1] * 5_000_000
    assert f"at most {MAX_RANK}" in refused(message)


def test_parameters_are_counted():
    message = request(floats(1, 3))
    for number in range(MAX_PARAMETERS):
        message.parameters[str(number)].int64_param = 1
    make_template(message.SerializeToString(), CATALOG)
    message.parameters["one more"].int64_param = 1
    assert "65 parameters" in refused(message)


def test_nesting_beyond_protobuf_s_limit_is_refused():
    # A group in a group in a group: a parser that recurses without limit would crash.
    deep = pb.ModelInferRequest(model_name="m").SerializeToString() + b"\x2b" * 100_000
    with pytest.raises(InvalidRequest):
        make_template(deep, CATALOG)
