"""Both clients against a real gRPC server; each test runs with the sync and the asyncio one."""

import asyncio
import socket

import numpy as np
import pytest

from tests.client.echo_server import running
from trtserve.client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    FailedPrecondition,
    InferenceError,
    InvalidArgument,
    Item,
    ModelInfo,
    ModelStatus,
    NotFound,
    Overloaded,
    Result,
    TensorInfo,
    Unavailable,
)

X = np.arange(6, dtype=np.float32).reshape(2, 3)


class Awaited:
    """An AsyncClient that is called like a Client: each call runs its own event loop."""

    def __init__(self, address, *, retry=True):
        self.address, self.retry = address, retry

    def __getattr__(self, name):
        async def run(*args, **options):
            async with AsyncClient(self.address, retry=self.retry) as client:
                return await getattr(client, name)(*args, **options)

        return lambda *args, **options: asyncio.run(run(*args, **options))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@pytest.fixture(params=[Client, Awaited], ids=["sync", "asyncio"])
def connect(request):
    return request.param


@pytest.fixture
def client(connect, address):
    with connect(address) as client:
        yield client


def test_infer_gives_arrays_for_arrays(client, server):
    result = client.infer(
        "echo", {"x": X}, outputs=["x"], version=2, priority=1, timeout_us=1000, receipt=True,
        request_id="r", deadline=10.0,
    )
    np.testing.assert_array_equal(result["x"], X)
    assert (result.model, result.version, result.id) == ("echo", "2", "r")
    assert result.receipt == {"queue_us": 12, "variant": "model.onnx"}
    (request,) = server.requests
    assert request.parameters["priority"].uint64_param == 1
    assert request.parameters["timeout"].int64_param == 1000
    assert [output.name for output in request.outputs] == ["x"]


def test_without_a_receipt_there_is_none(client):
    assert client.infer("echo", {"x": X}).receipt is None


def test_large_tensors_pass_gRPCs_default_limit(client):
    big = np.arange(6 << 20, dtype=np.uint8)
    np.testing.assert_array_equal(client.infer("echo", {"x": big})["x"], big)


def test_a_message_over_the_servers_limit_says_what_to_do(connect, address):
    told = pytest.raises(Overloaded, match=r"larger than max.*--max-message-bytes")
    with connect(address, retry=False) as client, told:
        client.infer("echo", {"x": np.zeros(9 << 20, np.uint8)})


def test_infer_many_puts_each_error_in_its_place(client):
    answers = client.infer_many(
        [
            ("echo", {"x": X}),
            ("missing", {"x": X}),
            Item("echo", {"x": X.astype(np.complex64)}),
            Item("busy", {}),
            Item("echo", {"x": X[0]}, request_id="last"),
        ],
        deadline=10.0,
    )
    kinds = [Result, NotFound, InvalidArgument, Overloaded, Result]
    assert [type(answer) for answer in answers] == kinds
    assert answers[3].retry_after == 0.25
    assert answers[4].id == "last"
    np.testing.assert_array_equal(answers[4]["x"], X[0])


def test_infer_many_of_nothing_is_nothing(client):
    assert client.infer_many([]) == []


def test_a_batch_that_is_not_answered_whole_fails_as_a_call(client):
    with pytest.raises(InferenceError, match="2 items were sent and 1 answered"):
        client.infer_many([("echo", {"x": X}), ("swallowed", {"x": X})])


def test_metadata_and_states(client):
    assert client.metadata("echo", 2) == ModelInfo(
        "echo", ("1", "2"), "echo",
        (TensorInfo("x", "FP32", (-1, 3)), TensorInfo("names", "BYTES", (-1,))),
        (TensorInfo("x", "FP32", (-1, 3)),),
    )
    assert client.models() == [
        ModelStatus("echo", "2", "READY", ""),
        ModelStatus("broken", "1", "UNAVAILABLE", "bad file"),
    ]
    assert client.live() is True
    assert client.ready() is False
    assert client.model_ready("echo", 2) is True
    assert client.model_ready("echo") is False


def test_a_servers_error_is_raised_with_its_words(client):
    with pytest.raises(NotFound, match="no model 'missing'; there is 'echo'") as caught:
        client.infer("missing", {"x": X})
    assert caught.value.code == "NOT_FOUND"
    with pytest.raises(DeadlineExceeded, match="too late"):
        client.infer("slow", {"x": X})


def test_a_deadline_that_is_over_before_the_call_sends_nothing(client, server):
    for deadline in (0.0, -1.0):
        with pytest.raises(DeadlineExceeded, match="over before the call"):
            client.infer("echo", {"x": X}, deadline=deadline)
    assert server.attempts == 0


def test_a_deadline_ends_the_wait_for_a_server_that_does_not_answer(client, server):
    with pytest.raises(DeadlineExceeded):
        client.infer("held", {"x": X}, deadline=0.05)
    server.release.set()


@pytest.mark.parametrize("elements", [10, 1 << 20], ids=["small", "an image"])
def test_an_overloaded_server_is_tried_again(client, server, elements):
    server.refusals = 3
    result = client.infer("busy", {"x": np.zeros(elements, np.float32)})
    assert result["x"].shape == (elements,)
    assert server.attempts == 4


def test_the_fourth_refusal_is_final(client, server):
    server.refusals = 9
    with pytest.raises(Overloaded, match="too much in flight") as caught:
        client.infer("busy", {"x": X})
    assert caught.value.retry_after == 0.02
    assert server.attempts == 4


def test_an_overload_that_lasts_is_not_made_worse(server):
    server.refusals = 10_000

    async def press(address):
        async with AsyncClient(address) as client:
            calls = [client.infer("busy", {"x": X}) for _ in range(200)]
            await asyncio.gather(*calls, return_exceptions=True)
            before = server.attempts
            with pytest.raises(Overloaded):
                await client.infer("busy", {"x": X})
            return before, server.attempts

    with running(server) as address:
        before, after = asyncio.run(press(address))
    assert 500 <= before < 4 * 200
    assert after == before + 1


def test_without_retry_the_first_refusal_is_final(connect, address, server):
    server.refusals = 1
    with connect(address, retry=False) as client, pytest.raises(Overloaded):
        client.infer("busy", {"x": X})
    assert server.attempts == 1


def test_where_no_server_is_the_error_names_the_address(connect):
    with socket.socket() as taken:  # bound and not listening: nobody else gets the port
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            connect(address, retry=False) as client,
            pytest.raises(Unavailable, match=rf"no server answers at {address} .*Is trtserve"),
        ):
            client.live()


def test_a_unix_socket_is_an_address(connect, server, tmp_path):
    with running(server, f"unix:{tmp_path}/s") as address, connect(address) as client:
        assert client.live()


def test_closing_twice_is_harmless(address):
    client = Client(address)
    client.close()
    client.close()


def test_an_async_client_runs_calls_together(address):
    async def run():
        async with AsyncClient(address) as client:
            arrays = [np.full(n, n) for n in range(1, 20)]
            results = await asyncio.gather(*(client.infer("echo", {"x": a}) for a in arrays))
            await client.close()
            return [result["x"].shape for result in results]

    assert asyncio.run(run()) == [(n,) for n in range(1, 20)]


def test_models_are_loaded_and_unloaded(client, server):
    client.load("echo")
    client.load("echo", config={"max_batch_size": 8}, files={"1/a.onnx": b"123"})
    client.load("echo", config="{}")
    client.unload("echo")
    assert [change.model_name for change in server.changes] == ["echo"] * 4
    plain, full, text, _ = server.changes
    assert not plain.parameters
    assert full.parameters["config"].string_param == '{"max_batch_size": 8}'
    assert full.parameters["file:1/a.onnx"].bytes_param == b"123"
    assert text.parameters["config"].string_param == "{}"
    with pytest.raises(FailedPrecondition, match="is not loaded: bad"):
        client.load("missing")
