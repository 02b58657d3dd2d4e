"""The hand-read protobuf: agrees with the library on every message, and never trips."""

import random
from itertools import pairwise

import pytest

from trtserve.errors import InvalidRequest
from trtserve.frontend import wire
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.proto import trtserve_pb2 as v1


def random_request(rng: random.Random, largest: int = 20_000) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(
        model_name="m" * rng.choice([0, 1, 127, 128, 300]),
        model_version=rng.choice(["", "3"]),
        id=rng.choice(["", "a", "é" * 200]),
    )
    for index in range(rng.randrange(4)):
        message.inputs.add(name=f"x{index}", datatype="FP32", shape=[1, rng.randrange(1 << 40)])
    for index in range(rng.randrange(3)):
        message.outputs.add(name=f"y{index}")
    for _ in range(rng.randrange(4)):
        message.raw_input_contents.append(rng.randbytes(rng.choice([0, 1, 127, 128, largest])))
    if rng.random() < 0.5:
        message.parameters["timeout"].int64_param = rng.randrange(1 << 62)
    return message


def fields(data: bytes) -> list[bytes]:
    """The message's top-level fields, each with its tag, found by the library alone: adding
    them up gives the message."""
    ends = [0]
    for end in range(1, len(data) + 1):
        try:
            pb.ModelInferRequest.FromString(data[:end])
        except Exception:
            continue
        ends.append(end)
    return [data[one:other] for one, other in pairwise(ends)]


def unknown_fields(rng: random.Random) -> list[bytes]:
    """Fields that ModelInferRequest lacks, of every wire type."""
    number = rng.choice([15, 16, 2047, 2048, (1 << 29) - 1])
    text = rng.randbytes(rng.choice([0, 3, 200]))
    return [
        wire.varint(number << 3 | 0) + wire.varint(rng.randrange(1 << 63)),
        wire.varint(number << 3 | 1) + rng.randbytes(8),
        wire.varint(number << 3 | 2) + wire.varint(len(text)) + text,
        wire.varint(number << 3 | 5) + rng.randbytes(4),
    ]


def check_split(data: bytes, prefix: bytes = b"", suffix: bytes = b"") -> None:
    """What split_request says of a message is what the library says."""
    whole = pb.ModelInferRequest.FromString(data)
    around = prefix + data + suffix
    head, request_id, raws = wire.split_request(around, len(prefix), len(prefix) + len(data))
    assert request_id.decode() == whole.id
    assert [around[start:end] for start, end in raws] == list(whole.raw_input_contents)
    rest = pb.ModelInferRequest.FromString(head)
    whole.ClearField("id")
    whole.ClearField("raw_input_contents")
    assert rest == whole
    assert rest.SerializeToString(deterministic=True) == whole.SerializeToString(deterministic=True)


@pytest.mark.parametrize("seed", range(60))
def test_messages_of_the_library(seed):
    rng = random.Random(seed)
    check_split(random_request(rng).SerializeToString())


@pytest.mark.parametrize("seed", range(40))
def test_any_order_of_fields_and_unknown_ones(seed):
    rng = random.Random(seed)
    message = random_request(rng)
    message.ClearField("raw_input_contents")
    message.raw_input_contents.extend([rng.randbytes(3), b"", rng.randbytes(130)])
    parts = fields(message.SerializeToString()) + unknown_fields(rng)
    rng.shuffle(parts)
    check_split(b"".join(parts), prefix=rng.randbytes(rng.randrange(9)), suffix=rng.randbytes(5))


def test_tags_and_lengths_longer_than_need_be_are_read_alike():
    raw = b"\xba\x00" + b"\x83\x80\x00" + b"abc"  # field 7, three bytes
    named = b"\x9a\x80\x00" + b"\x01" + b"i"  # field 3, one byte
    check_split(raw + named + b"\x0a\x01m")


def test_the_last_of_several_ids_counts():
    assert wire.split_request(b"\x1a\x01a\x1a\x01b", 0, 6)[1] == b"b"


def test_field_numbers_of_ours_in_another_wire_type_are_left_to_the_library():
    data = b"\x18\x05" + b"\x38\x07" + b"\x0a\x01m"  # id and raw contents as varints
    head, request_id, raws = wire.split_request(data, 0, len(data))
    assert (head, request_id, raws) == (data, b"", [])


@pytest.mark.parametrize("seed", range(6))
def test_every_truncation_is_refused_or_is_a_shorter_message(seed):
    data = random_request(random.Random(seed), largest=200).SerializeToString()
    for end in range(len(data)):
        cut = data[:end]
        try:
            pb.ModelInferRequest.FromString(cut)
        except Exception:
            # Either we notice, or what is left of it, which the library reads, does.
            try:
                head, _, _ = wire.split_request(cut, 0, end)
            except InvalidRequest:
                continue
            with pytest.raises(Exception, match="parsing"):
                pb.ModelInferRequest.FromString(head)
        else:
            check_split(cut)


def test_a_message_ends_where_its_span_does():
    data = pb.ModelInferRequest(model_name="m", raw_input_contents=[b"12345678"])
    serialized = data.SerializeToString()
    with pytest.raises(InvalidRequest, match="cut off"):
        wire.split_request(serialized + b"more", 0, len(serialized) - 1)


def test_garbage_raises_nothing_else():
    rng = random.Random(11)
    refused = 0
    for _ in range(20_000):
        data = rng.randbytes(rng.randrange(1, 24))
        try:
            head, _, raws = wire.split_request(data, 0, len(data))
        except InvalidRequest:
            refused += 1
        else:
            assert len(head) <= len(data)
            assert all(0 <= start <= end <= len(data) for start, end in raws)
        try:
            wire.split_batch(data)
        except InvalidRequest:
            refused += 1
    assert 20_000 < refused < 40_000


@pytest.mark.parametrize("data", [
    b"\x80" * 11,  # a varint without an end
    b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a length beyond everything
    b"\x0b",  # a group
    b"\x0a",  # no length
    b"\x09\0\0\0",  # half a fixed64
])
def test_what_is_no_message_is_refused(data):
    with pytest.raises(InvalidRequest, match="message"):
        wire.split_request(data, 0, len(data))


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 1 << 21, (1 << 35) - 1])
def test_varints(value):
    message = pb.InferParameter(uint64_param=value).SerializeToString()
    assert wire.varint(value) == message[1:]


def test_a_batch_is_split_into_its_requests():
    rng = random.Random(3)
    batch = v1.InferBatchRequest(requests=[random_request(rng) for _ in range(20)])
    data = batch.SerializeToString()
    spans = wire.split_batch(data)
    found = [pb.ModelInferRequest.FromString(data[start:end]) for start, end in spans]
    assert found == list(batch.requests)
    assert wire.split_batch(b"") == []


def test_what_a_batch_can_not_hold():
    with pytest.raises(InvalidRequest, match="no field 2"):
        wire.split_batch(b"\x12\x00")
    data = v1.InferBatchRequest(requests=[pb.ModelInferRequest(model_name="mm")])
    with pytest.raises(InvalidRequest, match="cut off"):
        wire.split_batch(data.SerializeToString()[:-1])


@pytest.mark.parametrize("seed", range(20))
def test_answers_are_what_the_library_reads(seed):
    rng = random.Random(seed)
    outputs = [rng.randbytes(rng.choice([0, 5, 127, 128, 70_000])) for _ in range(rng.randrange(4))]
    response = pb.ModelInferResponse(
        model_name="m", model_version="2",
        outputs=[pb.ModelInferResponse.InferOutputTensor(name="y", datatype="FP32", shape=[-1, 2])],
    )
    head = response.SerializeToString()
    extra = pb.ModelInferResponse(parameters={"k": pb.InferParameter(int64_param=-5)})
    request_id = rng.choice([b"", b"7", "ü".encode() * 100])
    with_parameters = seed % 2 == 0
    parts = wire.response_parts(
        head, request_id, extra.SerializeToString() if with_parameters else b"",
        [memoryview(raw) for raw in outputs],
    )
    data = b"".join(parts)
    expected = pb.ModelInferResponse()
    expected.CopyFrom(response)
    expected.id = request_id.decode()
    expected.raw_output_contents.extend(outputs)
    if with_parameters:
        expected.MergeFrom(extra)
    assert pb.ModelInferResponse.FromString(data) == expected

    framed = pb.ModelStreamInferResponse.FromString(wire.stream_frame(len(data)) + data)
    assert framed == pb.ModelStreamInferResponse(infer_response=expected)

    item = wire.item_frame(len(data)) + data
    error = v1.InferBatchItem(error=v1.InferError(code=3, message="no"))
    batch = v1.InferBatchResponse.FromString(
        item + wire.batch_item(error.SerializeToString()) + item
    )
    good = v1.InferBatchItem(response=expected)
    assert batch == v1.InferBatchResponse(items=[good, error, good])
