"""The pip package tritonclient against the daemon, in one process with our own client."""

import asyncio
import queue
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.e2e.daemon_process import PATIENCE_S, Daemon
from trtserve import __version__
from trtserve.client import Client


@pytest.fixture
def other(house: Daemon) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(house.grpc) as other:
        yield other


def tensor(
    array: np.ndarray, datatype: str, name: str = "x", module=triton
) -> triton.InferInput:
    made = module.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def refusal(call) -> tuple[str, str]:
    """The status and the message of a call that must fail."""
    with pytest.raises(InferenceServerException) as caught:
        call()
    return caught.value.status(), caught.value.message()


def test_states_and_metadata(other):
    assert other.is_server_live()
    assert other.is_server_ready()
    assert other.is_model_ready("plus")
    assert other.is_model_ready("plus", "1")
    assert not other.is_model_ready("plus", "2")
    server = other.get_server_metadata(as_json=True)
    assert (server["name"], server["version"]) == ("trtserve", __version__)
    assert "statistics" in server["extensions"]
    assert other.get_model_metadata("sized", as_json=True) == {
        "name": "sized", "versions": ["1"], "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", "-1", "-1"]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": ["-1", "-1", "-1"]}],
    }


def test_configuration_and_index(other):
    config = other.get_model_config("text").config
    assert (config.name, config.backend) == ("text", "onnxruntime")
    assert config.max_batch_size > 1
    assert [(i.name, list(i.dims)) for i in config.input] == [("x", [3])]
    index = other.get_model_repository_index().models
    assert [(model.version, model.state, model.reason) for model in index] == [
        ("1", "READY", "")
    ] * len(index)
    assert {"brain", "half", "look_up", "plus", "sized", "text", "work"} <= {
        model.name for model in index
    }


def test_statistics_count_requests_and_rows(other):
    def counts() -> tuple[int, int]:
        (stats,) = other.get_inference_statistics("plus").model_stats
        return stats.inference_count, stats.inference_stats.success.count

    rows, requests = counts()
    other.infer("plus", [tensor(np.zeros((5, 2), np.float32), "FP32")])
    assert counts() == (rows + 5, requests + 1)


@pytest.mark.parametrize(("model", "datatype", "array"), [
    ("plus", "FP32", np.arange(6, dtype=np.float32).reshape(2, 3)),
    ("half", "FP16", np.array([[0.5, -2, 65504]], np.float16)),
    ("text", "BYTES", np.array([["", "ß", "x" * 300]], np.object_)),
    ("text", "BYTES", np.array([[b"a", b"", b"bc"]] * 2, np.object_)),
])
def test_arrays_come_back(other, model, datatype, array):
    result = other.infer(model, [tensor(array, datatype)], request_id="seven")
    assert result.get_response().id == "seven"
    found = result.as_numpy("y")
    if datatype == "BYTES":
        array = np.vectorize(lambda item: item.encode() if isinstance(item, str) else item,
                             otypes=[object])(array)
    np.testing.assert_array_equal(found, array + 1 if model == "plus" else array)


def test_bf16(other, client):
    values = np.array([[1.0, -3.5, 1024.0]], np.float32)
    exact = values.astype(ml_dtypes.bfloat16)
    # Older versions of the package take FP32 for it and cut it off themselves.
    taken = exact if np_to_triton_dtype(exact.dtype) == "BF16" else values
    result = other.infer("brain", [tensor(taken, "BF16")])
    np.testing.assert_array_equal(result.as_numpy("y").astype(np.float32), values)
    assert result.get_response().raw_output_contents[0] == exact.tobytes()
    np.testing.assert_array_equal(client.infer("brain", {"x": exact})["y"], exact)


def test_both_clients_in_one_process(other, client: Client):
    x = np.random.default_rng(0).standard_normal((3, 7), np.float32)
    theirs = other.infer("plus", [tensor(x, "FP32")]).as_numpy("y")
    np.testing.assert_array_equal(theirs, client.infer("plus", {"x": x})["y"])


def test_parameters(other):
    steps = tensor(np.array([1], np.int64), "INT64", "steps")
    x = tensor(np.zeros(16, np.float32), "FP32")
    result = other.infer("work", [x, steps], priority=3, timeout=PATIENCE_S * 1_000_000,
                         parameters={"receipt": True})
    receipt = result.get_response().parameters
    assert receipt["receipt_batch_requests"].int64_param == 1
    assert receipt["receipt_variant"].string_param == "model.onnx"
    assert receipt["receipt_compute_us"].int64_param > 0


def test_errors_have_their_code_and_a_message_that_helps(other):
    x = np.zeros((1, 2), np.float32)
    status, message = refusal(lambda: other.infer("nothing", [tensor(x, "FP32")]))
    assert status == "StatusCode.NOT_FOUND"
    assert "no model 'nothing'" in message
    assert "'plus'" in message
    status, message = refusal(lambda: other.infer("plus", [tensor(x, "FP32", "z")]))
    assert status == "StatusCode.INVALID_ARGUMENT"
    assert "no input 'z'" in message
    status, message = refusal(lambda: other.infer("plus", [tensor(x, "FP32")], "3"))
    assert status == "StatusCode.NOT_FOUND"
    assert "no version 3" in message
    wanted = [triton.InferRequestedOutput("z")]
    status, message = refusal(
        lambda: other.infer("plus", [tensor(x, "FP32")], outputs=wanted)
    )
    assert status == "StatusCode.INVALID_ARGUMENT"
    status, message = refusal(lambda: other.load_model("plus"))
    assert status == "StatusCode.PERMISSION_DENIED"
    assert "Unix socket" in message


def test_a_deadline_of_the_call(other):
    steps = tensor(np.array([3000], np.int64), "INT64", "steps")
    inputs = [tensor(np.zeros(16, np.float32), "FP32"), steps]
    status, _ = refusal(lambda: other.infer("work", inputs, client_timeout=0.02))
    assert status == "StatusCode.DEADLINE_EXCEEDED"


def test_a_stream_answers_in_order_and_errors_in_their_place(other):
    answers: queue.Queue = queue.Queue()
    other.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(20):
        x = np.full((1, 4), number, np.float32)
        name = "nothing" if number == 7 else "plus"
        other.async_stream_infer(name, [tensor(x, "FP32")], request_id=str(number))
    for number in range(20):
        result, error = answers.get(timeout=PATIENCE_S)
        if number == 7:
            assert result is None
            assert "no model 'nothing'" in error.message()
        else:
            assert result.get_response().id == str(number)
            assert result.as_numpy("y").max() == number + 1
    other.stop_stream()


def test_callbacks(other):
    answers: queue.Queue = queue.Queue()
    x = np.ones((1, 4), np.float32)
    other.async_infer("plus", [tensor(x, "FP32")], lambda result, error: answers.put(result))
    assert answers.get(timeout=PATIENCE_S).as_numpy("y").min() == 2


def test_asyncio(house):
    async def main() -> None:
        async with triton_aio.InferenceServerClient(house.grpc) as other:
            assert await other.is_server_ready()
            arrays = [np.full((1, width), width, np.float32) for width in range(1, 30)]
            results = await asyncio.gather(*(
                other.infer("plus", [tensor(x, "FP32", module=triton_aio)]) for x in arrays
            ))
            for x, result in zip(arrays, results, strict=True):
                np.testing.assert_array_equal(result.as_numpy("y"), x + 1)

            async def requests():
                for number, x in enumerate(arrays):
                    yield {"model_name": "plus", "request_id": str(number),
                           "inputs": [tensor(x, "FP32", module=triton_aio)]}

            number = 0
            async for result, error in other.stream_infer(requests()):
                assert error is None
                assert result.get_response().id == str(number)
                np.testing.assert_array_equal(result.as_numpy("y"), arrays[number] + 1)
                number += 1
            assert number == len(arrays)

    asyncio.run(main())


def test_nothing_is_left(house):
    house.until_idle()
