import ml_dtypes
import numpy as np
import pytest

from trtserve.client import InferenceError, Internal, InvalidArgument, Item, Overloaded, Result
from trtserve.client.codec import (
    decode_batch,
    decode_response,
    encode_batch,
    encode_items,
    encode_request,
)
from trtserve.model.tensor import DATATYPES, encode
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.proto import trtserve_pb2


def parsed(item: Item) -> pb.ModelInferRequest:
    return pb.ModelInferRequest.FromString(b"".join(encode_request(item)))


def test_the_pieces_join_to_the_message_that_protobuf_would_make():
    x = np.arange(100_000, dtype=np.float32).reshape(10, -1)
    item = Item("m", {"x": x, "k": np.array(7)}, ["y", "z"], 3, 2, 5000, True, "id 1")
    expected = pb.ModelInferRequest(
        model_name="m", model_version="3", id="id 1",
        inputs=[
            {"name": "x", "datatype": "FP32", "shape": [10, 10_000]},
            {"name": "k", "datatype": "INT64", "shape": []},
        ],
        outputs=[{"name": "y"}, {"name": "z"}],
        raw_input_contents=[x.tobytes(), (7).to_bytes(8, "little")],
    )
    expected.parameters["receipt"].bool_param = True
    expected.parameters["priority"].uint64_param = 2
    expected.parameters["timeout"].int64_param = 5000
    assert parsed(item) == expected


def test_nothing_is_said_that_was_not_asked():
    request = parsed(Item("m", {}))
    assert request == pb.ModelInferRequest(model_name="m")


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != "BYTES"])
def test_every_datatype_goes_there_and_back(datatype):
    array = np.arange(6).reshape(2, 3).astype(DATATYPES[datatype].numpy)
    result = decode_response(echo(Item("m", {"x": array})))
    assert result["x"].dtype == array.dtype
    np.testing.assert_array_equal(result["x"], array)


@pytest.mark.parametrize(
    "strings",
    [
        np.array(["a", "zwölf", ""]),
        np.array([b"a", b"zw\xc3\xb6lf", b""]),
        np.array(["a", "zwölf".encode(), bytearray()], np.object_),
        ["a", "zwölf", ""],
    ],
)
def test_strings_come_back_as_bytes(strings):
    result = decode_response(echo(Item("m", {"x": strings})))
    assert result["x"].tolist() == [b"a", "zwölf".encode(), b""]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
        np.arange(24, dtype=np.int16)[::-2],
        np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        np.arange(4, dtype=">i4"),
        np.ones((4, 1), ml_dtypes.bfloat16)[::2],
        np.zeros((0, 3), np.float32),
        np.array(5, np.uint8),
    ],
    ids=["transposed", "reversed", "fortran", "big-endian", "bf16", "empty", "scalar"],
)
def test_any_memory_layout_is_sent_in_row_major_order(array):
    result = decode_response(echo(Item("m", {"x": array})))
    assert result["x"].shape == array.shape
    np.testing.assert_array_equal(result["x"], array)


def test_a_contiguous_array_is_viewed_not_copied():
    array = np.zeros(10, np.float32)
    view = encode_request(Item("m", {"x": array}))[-1]
    array[0] = 1
    assert bytes(view) == array.tobytes()


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (Item("m", {"x": np.zeros(2, np.complex64)}), "'x'.*complex64"),
        (Item("m", {"x": np.array([1, "a"], np.object_)}), "'x'.*int.*bytes or str"),
        (Item("m", {"x": [[1], [1, 2]]}), "'m' can not be sent"),  # type: ignore[dict-item]
        (Item("m", {}, priority=-1), "'m' can not be sent.*range"),
    ],
)
def test_what_no_message_can_say_is_refused_here(item, words):
    with pytest.raises(InvalidArgument, match=words):
        encode_request(item)


def test_a_batch_is_the_message_that_protobuf_would_make():
    items = [Item("a", {"x": np.arange(1000)}), Item("b", {"y": np.array(["s"])})]
    joined = b"".join(encode_batch(encode_request(item) for item in items))
    expected = trtserve_pb2.InferBatchRequest(requests=[parsed(item) for item in items])
    assert trtserve_pb2.InferBatchRequest.FromString(joined) == expected


def test_a_batch_answers_in_order_with_each_items_own_error():
    encoded = encode_items([
        Item("a", {"x": np.zeros(1)}),
        Item("b", {"x": np.zeros(1, np.complex64)}),
        Item("c", {"x": np.zeros(1)}),
    ])
    response = trtserve_pb2.InferBatchResponse()
    response.items.add().error.CopyFrom(
        trtserve_pb2.InferError(code=8, message="full", retry_after_ms=50)
    )
    response.items.add().response.CopyFrom(echo(Item("c", {"x": np.ones(1)})))
    first, second, third = decode_batch(encoded, response)
    assert isinstance(first, Overloaded)
    assert (first.message, first.retry_after) == ("full", 0.05)
    assert isinstance(second, InvalidArgument)
    assert isinstance(third, Result)
    assert third.model == "c"


def test_a_contradictory_item_is_its_own_error():
    response = trtserve_pb2.InferBatchResponse()
    response.items.add().response.outputs.add(name="y")
    (answer,) = decode_batch(encode_items([Item("a", {})]), response)
    assert isinstance(answer, Internal)


def test_a_missing_answer_is_an_error_of_the_call():
    with pytest.raises(Internal, match="1 items were sent and 0 answered"):
        decode_batch(encode_items([Item("a", {})]), trtserve_pb2.InferBatchResponse())


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("FP32", [3], b"1234"),
        ("FP8", [1], b"1"),
        ("BYTES", [1], b"\x09\x00\x00\x00abc"),
        ("BYTES", [1], encode(np.array(["a", "b"]))),
    ],
)
def test_an_answer_that_contradicts_itself_is_told(datatype, shape, data):
    response = pb.ModelInferResponse(model_name="m", raw_output_contents=[data])
    response.outputs.add(name="y", datatype=datatype, shape=shape)
    with pytest.raises(Internal, match=f"'y' of m came as {len(data)} bytes"):
        decode_response(response)


def test_parameters_become_the_receipt():
    response = pb.ModelInferResponse(model_name="m", model_version="2", id="i")
    assert decode_response(response).receipt is None
    response.parameters["lane"].int64_param = 0
    response.parameters["variant"].string_param = "v"
    response.parameters["said nothing"].SetInParent()
    assert decode_response(response).receipt == {"lane": 0, "variant": "v"}


def test_a_result_is_a_mapping():
    result = decode_response(echo(Item("m", {"a": np.zeros(1), "b": np.zeros((2, 2))})))
    assert list(result) == ["a", "b"]
    assert len(result) == 2
    assert repr(result) == "<Result of m version : a: float64[1], b: float64[2, 2]>"
    assert not isinstance(result, InferenceError)


def echo(item: Item) -> pb.ModelInferResponse:
    request = parsed(item)
    response = pb.ModelInferResponse(
        model_name=request.model_name, raw_output_contents=request.raw_input_contents
    )
    for tensor in request.inputs:
        response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    return response
