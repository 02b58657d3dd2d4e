"""From requests to a worker and back, over a real channel and real shared memory.

`Stand.close` proves at the end of every test that no block, permit or request is left over.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.frontend.stand import Stand, blocks, floats, request, variant, version_spec
from trtserve.clock import NS_PER_MS
from trtserve.errors import (
    Cancelled,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
)
from trtserve.ipc.message import Cancel, Failed, OutputBlock, Release
from trtserve.proto import grpc_service_pb2 as pb


@pytest.fixture
def stand() -> Iterator[Stand]:
    found = Stand()
    yield found
    found.close()


def test_a_request_is_answered_with_its_outputs(stand):
    worker = stand.start_worker()
    array = floats(2, 3)
    stand.clock.advance(1000)
    stand.start(request(array, request_id="abc"), deadline_ns=99)
    assert stand.flushes_wanted
    stand.pump()
    (submit,) = worker.submits()
    assert (submit.variant, submit.bucket, submit.rows) == (10, ((3,),), 2)
    assert (submit.outputs, submit.deadline_ns, submit.priority) == ((0,), 99, 0)
    assert submit.arrived_ns == stand.clock.now_ns()
    assert worker.bytes_of(submit) == [array.tobytes()]
    assert blocks(stand) == 1
    lease = worker.done(submit)
    stand.pump()
    assert stand.reply.answers == {0: pb.ModelInferResponse(
        model_name="m", model_version="1", id="abc",
        outputs=[pb.ModelInferResponse.InferOutputTensor(name="y", datatype="FP32", shape=[2, 3])],
        raw_output_contents=[array.tobytes()],
    )}
    assert worker.read() == [Release((lease,))]
    counts = stand.dispatcher.counts.of("m", 1)
    assert (counts.ok, counts.failed, counts.input_bytes, counts.output_bytes) == (1, 0, 24, 24)


def test_a_batch_answers_each_request_with_its_own_rows(stand):
    worker = stand.start_worker()
    arrays = [floats(rows, 3) * rows for rows in (1, 3, 2)]
    for array in arrays:
        stand.start(request(array))
    stand.pump()
    worker.done(*worker.submits())
    stand.pump()
    for slot, array in enumerate(arrays):
        answer = stand.reply.answers[slot]
        assert answer.raw_output_contents[0] == array.tobytes()
        assert list(answer.outputs[0].shape) == list(array.shape)


def test_inputs_in_another_order_and_some_of_the_outputs():
    stand = Stand(version_spec(variant({"x": "FP32", "x1": "FP32"}, row=(2,))))
    worker = stand.start_worker()
    message = pb.ModelInferRequest(model_name="m")
    first, second = floats(1, 2), floats(1, 2) * 10
    message.inputs.add(name="x1", datatype="FP32", shape=[1, 2])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    message.raw_input_contents.extend([second.tobytes(), first.tobytes()])
    message.outputs.add(name="y1")
    stand.start(message)
    stand.pump()
    (submit,) = worker.submits()
    assert worker.bytes_of(submit) == [first.tobytes(), second.tobytes()]
    assert all(offset % 256 == 0 for offset, _ in submit.inputs)
    assert submit.outputs == (1,)
    worker.arena.view[512:520] = second.tobytes()
    worker.done_with((submit,), (OutputBlock(1, (2,), 512, (8,)),))
    stand.pump()
    assert [output.name for output in stand.reply.answers[0].outputs] == ["y1"]
    assert stand.reply.answers[0].raw_output_contents[0] == second.tobytes()
    stand.close()


def test_a_variant_without_a_batch_answers_with_the_whole_shape():
    stand = Stand(version_spec(variant(row=(2, 3), max_batch=0)))
    worker = stand.start_worker()
    stand.start(request(floats(2, 3)))
    stand.pump()
    (submit,) = worker.submits()
    assert (submit.bucket, submit.rows) == (((2, 3),), 1)
    worker.done(submit)
    stand.pump()
    assert list(stand.reply.answers[0].outputs[0].shape) == [2, 3]
    stand.close()


def test_typed_contents_are_placed_like_raw_ones(stand):
    worker = stand.start_worker()
    message = pb.ModelInferRequest(model_name="m")
    tensor = message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    tensor.contents.fp32_contents.extend([5, 6])
    stand.start(message)
    stand.pump()
    (submit,) = worker.submits()
    assert worker.bytes_of(submit) == [np.array([5, 6], np.float32).tobytes()]
    worker.done(submit)
    stand.pump()
    assert stand.reply.answers[0].raw_output_contents


def test_an_empty_tensor_is_served():
    stand = Stand(version_spec(variant({"x": "BYTES"}, row=(1,))))
    worker = stand.start_worker()
    message = pb.ModelInferRequest(model_name="m", raw_input_contents=[b"\0\0\0\0"])
    message.inputs.add(name="x", datatype="BYTES", shape=[1, 1])
    stand.start(message)
    stand.pump()
    (submit,) = worker.submits()
    worker.done_with((submit,), (OutputBlock(0, (1,), 0, (0,)),))
    stand.pump()
    assert stand.reply.answers[0].raw_output_contents == [b""]
    stand.close()


def test_a_receipt_comes_when_it_is_asked_for(stand):
    worker = stand.start_worker()
    message = request(floats(1, 2))
    message.parameters["receipt"].bool_param = True
    stand.start(message)
    stand.pump()
    worker.done(*worker.submits())
    stand.pump()
    parameters = stand.reply.answers[0].parameters
    assert parameters["receipt_queue_us"].int64_param == 5
    assert parameters["receipt_variant"].string_param == "v"


def test_a_failure_of_the_worker_keeps_its_class(stand):
    worker = stand.start_worker()
    stand.start(request(floats(1, 2), request_id="r"))
    stand.pump()
    (submit,) = worker.submits()
    worker.say(Failed((submit.id, 999), "overloaded", "the queue is full", 40))
    stand.pump()
    error = stand.reply.errors[0]
    assert isinstance(error, Overloaded)
    assert (str(error), error.retry_after_ms) == ("the queue is full", 40)
    assert stand.reply.ids[0] == b"r"
    assert stand.dispatcher.counts.of("m", 1).outcomes == {"overloaded": 1}


# --- refused at the door -----------------------------------------------------------------


def without_raw(message: Any) -> Any:
    del message.raw_input_contents[:]
    return message


def raw_and_typed() -> Any:
    message = request(floats(1, 2))
    message.inputs[0].contents.fp32_contents.extend([1, 2])
    return message


def too_short() -> Any:
    message = without_raw(request(floats(1, 2)))
    message.raw_input_contents.append(b"1234567")
    return message


@pytest.mark.parametrize(("message", "error", "text"), [
    (without_raw(request(floats(1, 2))), InvalidRequest, "0 raw_input_contents came for 1 inputs"),
    (raw_and_typed(), InvalidRequest, "either in raw_input_contents or typed, not both"),
    (too_short(), InvalidRequest, "input 'x' has 7 bytes; FP32[1, 2] needs 8"),
    (request(floats(1, 2), model="n"), ModelNotFound, "no model 'n'"),
    (request(floats(9, 2)), InvalidRequest, "it takes x FP32[1..8, 1..]"),
    (b"\xff\xff", InvalidRequest, "cut off"),
])
def test_what_can_never_run_is_refused_at_once(stand, message, error, text):
    stand.start_worker()
    assert stand.start(message) is None
    assert type(stand.reply.errors[0]) is error
    assert text in str(stand.reply.errors[0])


def test_only_requests_of_known_models_count_under_their_names(stand):
    stand.start_worker()
    stand.start(request(floats(1, 2), model="n"))
    stand.start(too_short())
    assert stand.dispatcher.counts.unknown.outcomes == {"not_found": 1}
    assert stand.dispatcher.counts.of("m", 1).outcomes == {"invalid": 1}


def test_bytes_whose_lengths_do_not_add_up_are_refused():
    stand = Stand(version_spec(variant({"x": "BYTES"})))
    stand.start_worker()
    for raw, text in ((b"\5\0\0\0abc", "a cut-off list"), (b"\0\0\0\0", "holds 1 elements")):
        message = pb.ModelInferRequest(model_name="m", raw_input_contents=[raw])
        message.inputs.add(name="x", datatype="BYTES", shape=[1, 2])
        stand.start(message)
        assert text in str(stand.reply.errors[stand.slot - 1])
    stand.close()


def test_beyond_the_limit_nothing_waits():
    stand = Stand(limit=1)
    worker = stand.start_worker()
    stand.start(request(floats(1, 2)))
    assert stand.start(request(floats(1, 2), request_id="late")) is None
    error = stand.reply.errors[1]
    assert isinstance(error, Overloaded)
    assert error.retry_after_ms is not None
    assert error.retry_after_ms >= 1
    assert stand.reply.ids[1] == b"late"
    stand.pump()
    worker.done(*worker.submits())
    stand.pump()
    assert stand.start(request(floats(1, 2))) is not None
    stand.pump()
    worker.done(*worker.submits())
    stand.pump()
    stand.close()


def test_a_full_arena_pushes_back_and_recovers():
    stand = Stand(arena_bytes=1 << 16)
    worker = stand.start_worker()
    half = floats(1, 1 << 13)  # 32 KiB
    for _ in range(3):
        stand.start(request(half))
    error = stand.reply.errors[2]
    assert isinstance(error, Overloaded)
    assert "arena_bytes" in str(error)
    assert error.retry_after_ms is not None
    assert error.retry_after_ms >= 1
    stand.pump()
    worker.done(*worker.submits())
    stand.pump()
    stand.start(request(half))
    stand.pump()
    worker.done(*worker.submits())
    stand.pump()
    assert sorted(stand.reply.answers) == [0, 1, 3]
    stand.close()


def test_what_never_fits_the_arena_is_invalid():
    stand = Stand(arena_bytes=1 << 14)
    stand.start_worker()
    assert stand.start(request(floats(1, 1 << 13))) is None
    error = stand.reply.errors[0]
    assert isinstance(error, InvalidRequest)
    assert "32768 bytes, more than the server's arena_bytes (16384)" in str(error)
    stand.close()


# --- deadlines ---------------------------------------------------------------------------


def with_timeout(us: int) -> Any:
    message = request(floats(1, 2))
    message.parameters["timeout"].int64_param = us
    return message


@pytest.mark.parametrize(("timeout_us", "call_ms", "expected_ms"), [
    (0, None, None), (0, 50, 50), (20_000, None, 20), (20_000, 50, 20), (70_000, 50, 50),
])
def test_the_earlier_of_the_calls_and_the_requests_deadline_counts(
    stand, timeout_us, call_ms, expected_ms
):
    worker = stand.start_worker()
    now = stand.clock.now_ns()
    deadline = now + call_ms * NS_PER_MS if call_ms else 0
    stand.start(with_timeout(timeout_us), deadline_ns=deadline)
    stand.pump()
    (submit,) = worker.submits()
    expected = now + expected_ms * NS_PER_MS if expected_ms else 0
    assert submit.deadline_ns == expected
    worker.done(submit)
    stand.pump()


def test_the_longest_timeout_still_reaches_the_worker(stand):
    worker = stand.start_worker()
    stand.start(with_timeout((1 << 63) - 1))
    stand.pump()
    (submit,) = worker.submits()
    assert stand.clock.now_ns() < submit.deadline_ns < 1 << 63
    worker.done(submit)
    stand.pump()


# --- cancelling --------------------------------------------------------------------------


def test_a_cancelled_request_keeps_its_block_until_the_worker_answers(stand):
    worker = stand.start_worker()
    pending = stand.start(request(floats(1, 2)))
    stand.pump()
    (submit,) = worker.submits()
    stand.dispatcher.cancel(pending)
    stand.dispatcher.cancel(pending)
    stand.pump()
    assert worker.read() == [Cancel((submit.id,))]  # once
    assert blocks(stand) == 1
    worker.say(Failed((submit.id,), "cancelled", "cancelled while it waited"))
    stand.pump()
    assert blocks(stand) == 0
    assert isinstance(stand.reply.errors[0], Cancelled)
    stand.dispatcher.cancel(pending)  # answered: nothing happens
    stand.pump()
    assert worker.read() == []


def test_a_cancelled_request_may_still_be_answered(stand):
    worker = stand.start_worker()
    pending = stand.start(request(floats(1, 2)))
    stand.pump()
    stand.dispatcher.cancel(pending)
    worker.done(*worker.submits())
    stand.pump()
    assert 0 in stand.reply.answers


def test_a_cancelled_request_of_a_dead_worker_is_not_sent_again(stand):
    worker = stand.start_worker()
    pending = stand.start(request(floats(1, 2)))
    stand.pump()
    stand.dispatcher.cancel(pending)
    worker.die()
    stand.pump()
    stand.reap()
    assert isinstance(stand.reply.errors[0], Cancelled)
