"""Whatever comes in: the right status, and a daemon that serves on with nothing left in flight."""

import asyncio
import random
from collections.abc import Callable

import grpc
import numpy as np
import pytest

from tests.e2e import calls
from tests.e2e.conftest import HOUSE_MESSAGE_BYTES
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.proto import trtserve_pb2 as v1

INVALID, NOT_FOUND = "INVALID_ARGUMENT", "NOT_FOUND"

MUTATIONS = 2000

X = np.arange(4, dtype=np.float32).reshape(1, 4)

Change = Callable[[pb.ModelInferRequest], object]


@pytest.fixture(autouse=True)
def serves_on(house, client):
    """After every test here the daemon still answers, and all memory is back."""
    children = house.children()
    yield
    np.testing.assert_array_equal(client.infer("plus", {"x": X})["y"], X + 1)
    house.until_idle()
    assert house.children() == children


def error_of(channel: grpc.Channel, data: bytes, method: str = calls.INFER) -> tuple[str, str]:
    return calls.error_of(channel.unary_unary(method).future(data))


def bytes_tensor(message: pb.ModelInferRequest) -> None:
    """A BYTES tensor with a length beyond its end."""
    message.model_name = "text"
    message.inputs[0].datatype = "BYTES"
    message.inputs[0].shape[:] = [1, 3]
    message.raw_input_contents[:] = [b"\xff\xff\xff\xff"]


CHANGES: dict[str, tuple[Change, str, str]] = {
    "no model": (lambda m: m.ClearField("model_name"), NOT_FOUND, "no model ''"),
    "unknown model": (lambda m: setattr(m, "model_name", "no"), NOT_FOUND, "no model 'no'"),
    "unknown version": (lambda m: setattr(m, "model_version", "9"), NOT_FOUND, "no version 9"),
    "unknown label": (lambda m: setattr(m, "model_version", "a"), NOT_FOUND, "no version 'a'"),
    "version no number": (lambda m: setattr(m, "model_version", "1 a"), INVALID, "not a number"),
    "huge version": (lambda m: setattr(m, "model_version", "9" * 400), INVALID, "digits"),
    "no input": (lambda m: m.ClearField("inputs"), INVALID, "'x' is missing"),
    "unknown input": (lambda m: setattr(m.inputs[0], "name", "z"), INVALID, "no input 'z'"),
    "input twice": (lambda m: m.inputs.add().CopyFrom(m.inputs[0]), INVALID, "came twice"),
    "datatype": (lambda m: setattr(m.inputs[0], "datatype", "INT8"), INVALID, "came as INT8"),
    "no datatype": (lambda m: m.inputs[0].ClearField("datatype"), INVALID, "no datatype"),
    "rank": (lambda m: m.inputs[0].shape.append(1), INVALID, "[1, 4, 1]"),
    "hundred dimensions": (lambda m: m.inputs[0].shape.extend([1] * 98), INVALID, "dimensions"),
    "negative": (lambda m: m.inputs[0].shape.__setitem__(0, -1), INVALID, "negative"),
    "too many rows": (lambda m: m.inputs[0].shape.__setitem__(0, 2**40), INVALID, "1..32"),
    "huge": (lambda m: m.inputs[0].shape.__setitem__(1, 2**62), INVALID, "has 16 bytes"),
    "no rows": (lambda m: m.inputs[0].shape.__setitem__(0, 0), INVALID, "[0, 4]"),
    "short": (lambda m: m.raw_input_contents.__setitem__(0, b"12"), INVALID, "has 2 bytes"),
    "no contents": (lambda m: m.ClearField("raw_input_contents"), INVALID, "0 raw_input"),
    "more contents": (lambda m: m.raw_input_contents.append(b""), INVALID, "2 raw_input"),
    "both contents": (
        lambda m: m.inputs[0].contents.fp32_contents.extend([0] * 4), INVALID, "not both"),
    "unknown output": (lambda m: m.outputs.add(name="z"), INVALID, "no output 'z'"),
    "output twice": (
        lambda m: [m.outputs.add(name="y") for _ in "12"], INVALID, "asked for twice"),
    "priority": (
        lambda m: setattr(m.parameters["priority"], "string_param", "first"), INVALID,
        "'priority' must be a whole number"),
    "timeout": (
        lambda m: setattr(m.parameters["timeout"], "int64_param", -1), INVALID,
        "'timeout' must be a whole number"),
    "shared memory": (
        lambda m: setattr(m.inputs[0].parameters["shared_memory_region"], "string_param", "r"),
        INVALID, "shared memory"),
    "cut-off text": (bytes_tensor, INVALID, "cut-off"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_wrong_request_is_told_what_is_wrong(channel, case):
    change, code, text = CHANGES[case]
    message = calls.request("plus", x=X)
    change(message)
    found, details = error_of(channel, message.SerializeToString())
    assert (found, text in details) == (code, True), details


def test_a_message_over_the_limit(channel):
    size = HOUSE_MESSAGE_BYTES // 4
    data = calls.plus_request(np.zeros((1, size), np.float32))
    for method in (calls.INFER, calls.BATCH):
        code, details = error_of(channel, data, method)
        assert code == "RESOURCE_EXHAUSTED"
        assert "larger than max" in details


def test_a_name_or_id_that_is_no_text(channel):
    for field in (b"\x0a\x02\xff\xfe", b"\x1a\x02\xff\xfe"):
        assert error_of(channel, calls.plus_request(X) + field)[0] == INVALID


def test_one_broken_message_in_a_batch_fails_alone(channel):
    good = calls.plus_request(X, "ß")
    data = b"".join(
        b"\x0a" + bytes([len(item)]) + item
        for item in (good, b"\xff" * 9, good + b"\x1a\x01\xff", good)
    )
    response = v1.InferBatchResponse.FromString(channel.unary_unary(calls.BATCH)(data))
    kinds = [item.WhichOneof("result") for item in response.items]
    assert kinds == ["response", "error", "error", "response"]
    assert {item.error.code for item in response.items[1:3]} == {
        grpc.StatusCode.INVALID_ARGUMENT.value[0]
    }
    assert response.items[3].response.id == "ß"


@pytest.mark.parametrize("data", [b"\xff" * 40, b"\x00", b"{}", b"\x0b", b"\x3a\x7f"])
def test_garbage(channel, data):
    for method in (calls.INFER, calls.BATCH):
        code, _ = error_of(channel, data, method)
        assert code == INVALID


def test_garbage_on_a_stream_fails_that_request_only(channel):
    good = calls.plus_request(X, "good")
    answers = list(calls.stream(channel)(iter([good, b"\xff" * 9, good])))
    assert [bool(answer.error_message) for answer in answers] == [False, True, False]
    assert answers[2].infer_response.id == "good"


def mutated(rng: random.Random, data: bytes) -> bytes:
    """The message with one to four random changes of bytes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(changed))
        match rng.randrange(4):
            case 0:
                changed[place] = rng.randrange(256)
            case 1:
                changed[place] ^= 1 << rng.randrange(8)
            case 2:
                changed[place:place] = rng.randbytes(rng.randint(1, 3))
            case 3 if len(changed) > 8:
                del changed[place : place + rng.randint(1, 3)]
    return bytes(changed)


def valid_messages() -> list[pb.ModelInferRequest]:
    """Raw floats with parameters, raw text, and typed contents."""
    raw = calls.request("plus", "some id", (("timeout", 10**9), ("priority", 1)), x=X)
    raw.outputs.add(name="y")
    text = calls.request("text", x=np.array([["", "ab", "c" * 20]], np.object_))
    typed = calls.request("plus", x=X)
    typed.raw_input_contents.clear()
    typed.inputs[0].contents.fp32_contents.extend(X.reshape(-1))
    return [raw, text, typed]


def test_thousands_of_broken_messages(channel):
    """Each gets an answer that can be read, or an error that says whose doing it is."""
    rng = random.Random(1)
    valid = valid_messages()
    singles = [message.SerializeToString() for message in valid]
    batch = v1.InferBatchRequest(requests=valid).SerializeToString()
    infer, infer_batch = calls.infer(channel), channel.unary_unary(
        calls.BATCH, response_deserializer=v1.InferBatchResponse.FromString
    )
    codes = set()
    for _ in range(MUTATIONS // 100):
        futures = [infer.future(mutated(rng, rng.choice(singles))) for _ in range(80)]
        futures += [infer_batch.future(mutated(rng, batch)) for _ in range(20)]
        for future in futures:
            error = future.exception()
            codes.add(error.code().name if error else "OK")
    # A changed timeout may be over at once.
    assert {"OK", INVALID, NOT_FOUND} <= codes <= {"OK", INVALID, NOT_FOUND, "DEADLINE_EXCEEDED"}


def test_aborted_streams_and_cancelled_calls_leave_nothing(house):
    data, long = calls.plus_request(X), calls.work_request(2000)

    async def aborted(number: int, channel: grpc.aio.Channel) -> None:
        stream = calls.stream(channel)()
        for index in range(10):
            await stream.write(long if index == 4 else data)
        for _ in range(number % 5):
            await stream.read()
        stream.cancel()

    async def main() -> None:
        async with grpc.aio.insecure_channel(house.grpc) as channel:
            infer = calls.infer(channel)
            for round_ in range(3):
                waiting = [infer(long) for _ in range(5)]
                await asyncio.gather(*(aborted(round_ + n, channel) for n in range(10)))
                for call in waiting:
                    call.cancel()
            # The whole connection goes while calls are out.
            for _ in range(5):
                infer(long)

    asyncio.run(main())
    house.until_idle()
