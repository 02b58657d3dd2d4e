"""The Open Inference Protocol's service, called through gRPC."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import msgspec
import pytest

from tests.frontend.serving import Caller, Serving, run, serving
from tests.frontend.stand import floats, request, variant, version_spec
from trtserve import __version__, clock
from trtserve.clock import NS_PER_S
from trtserve.ipc.message import Cancel, Failed
from trtserve.ipc.statistics import CounterSample, Statistics
from trtserve.model.catalog import Placement
from trtserve.model.spec import ModelState
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.proto.model_config_pb2 import ModelConfig

Test = Callable[[Serving, Caller], Awaitable[None]]

BOTH = (version_spec(), version_spec(variant(row=(3,)), version=2))


@pytest.fixture
def serve(tmp_path) -> Callable[..., None]:
    """Run a test's coroutine against a server of these specs."""

    def with_server(test: Test, *specs: Any) -> None:
        async def main() -> None:
            async with serving(tmp_path, *specs) as (stand, caller):
                await test(stand, caller)

        run(main)

    return with_server


async def error_of(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def break_model(stand: Serving, model: str = "broken", version: int = 1) -> None:
    """Another model that does not load."""
    stand.use(stand.dispatcher.templates.catalog.with_placement(
        model, version, None, Placement("w1", ModelState.UNAVAILABLE, "no such file")
    ))


# --- inference ---------------------------------------------------------------------------


def test_a_request_is_answered(serve):
    async def test(stand: Serving, caller: Caller) -> None:
        array = floats(2, 3)
        answer = await caller.call("ModelInfer", request(array, request_id="7"))
        assert (answer.id, answer.model_name, answer.model_version) == ("7", "m", "1")
        assert answer.raw_output_contents[0] == array.tobytes()

    serve(test)


def test_the_calls_deadline_reaches_the_worker(serve):
    async def test(stand: Serving, caller: Caller) -> None:
        stand.answers = False
        before = clock.now_ns()
        call = asyncio.ensure_future(caller.call("ModelInfer", request(floats(1, 3)), timeout=600))
        await stand.until(lambda: bool(stand.held))
        deadline = stand.held[0].deadline_ns
        # gRPC rounds what it sends, by up to a hundredth.
        assert before + 500 * NS_PER_S < deadline < before + 700 * NS_PER_S
        call.cancel()
        await stand.until(lambda: Cancel((stand.held[0].id,)) in stand.others)

    serve(test)


@pytest.mark.parametrize(("message", "code", "text"), [
    (request(floats(1, 3), model="n"), grpc.StatusCode.NOT_FOUND, "no model 'n'"),
    (request(floats(9, 3)), grpc.StatusCode.INVALID_ARGUMENT, "it takes x FP32[1..8, 1..]"),
    (request(floats(1, 3), model="broken"), grpc.StatusCode.UNAVAILABLE, "no such file"),
])
def test_errors_have_their_code_and_say_why(serve, message, code, text):
    async def test(stand: Serving, caller: Caller) -> None:
        break_model(stand)
        error = await error_of(caller.call("ModelInfer", message))
        assert error.code() == code
        assert text in (error.details() or "")

    serve(test)


def test_an_overload_says_when_to_come_again(serve):
    async def test(stand: Serving, caller: Caller) -> None:
        stand.answers = False
        call = asyncio.ensure_future(caller.call("ModelInfer", request(floats(1, 3))))
        await stand.until(lambda: bool(stand.held))
        stand.workers[0].say(Failed((stand.held.pop().id,), "overloaded", "full", 123))
        error = await error_of(call)
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "123"

    serve(test)


def test_a_stream_answers_in_order_with_errors_in_their_places(serve):
    async def test(stand: Serving, caller: Caller) -> None:
        call = caller.stream()
        for number in range(6):
            model = "n" if number == 3 else "m"
            await call.write(request(floats(1, number + 1), request_id=str(number), model=model))
        await call.done_writing()
        answers = [answer async for answer in call]
        assert [answer.infer_response.id for answer in answers] == list("012345")
        assert "no model 'n'" in answers[3].error_message
        assert [bool(answer.error_message) for answer in answers].count(True) == 1
        assert answers[5].infer_response.raw_output_contents[0] == floats(1, 6).tobytes()

    serve(test)


def test_a_stream_without_requests_ends(serve):
    async def test(stand: Serving, caller: Caller) -> None:
        call = caller.stream()
        await call.done_writing()
        assert [answer async for answer in call] == []

    serve(test)


def test_what_a_stream_owes_is_cancelled_with_it(serve):
    async def test(stand: Serving, caller: Caller) -> None:
        stand.answers = False
        call = caller.stream()
        for _ in range(3):
            await call.write(request(floats(1, 2)))
        await stand.until(lambda: len(stand.held) == 3)
        call.cancel()
        await stand.until(lambda: len(stand.others) == 3)
        assert {message.ids[0] for message in stand.others if isinstance(message, Cancel)} == {
            submit.id for submit in stand.held
        }

    serve(test)


# --- the server --------------------------------------------------------------------------


def test_live_ready_and_metadata(serve):
    async def test(stand: Serving, caller: Caller) -> None:
        assert (await caller.call("ServerLive", pb.ServerLiveRequest())).live
        assert (await caller.call("ServerReady", pb.ServerReadyRequest())).ready
        stand.ready = False
        assert not (await caller.call("ServerReady", pb.ServerReadyRequest())).ready
        found = await caller.call("ServerMetadata", pb.ServerMetadataRequest())
        assert (found.name, found.version) == ("trtserve", __version__)
        assert "statistics" in found.extensions

    serve(test)


def test_a_call_that_is_not_served_says_so(serve):
    async def test(stand: Serving, caller: Caller) -> None:
        error = await error_of(caller.call(
            "SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest()
        ))
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED
        assert "SystemSharedMemoryStatus" in (error.details() or "")

    serve(test)


# --- models ------------------------------------------------------------------------------


def test_a_model_is_ready_or_not(serve):
    async def test(stand: Serving, caller: Caller) -> None:
        break_model(stand)
        for name, version, ready in (
            ("m", "", True), ("m", "2", True), ("m", "3", False), ("n", "", False),
            ("broken", "", False), ("broken", "1", False), ("m", "canary", False),
            ("broken", "canary", False),
        ):
            answer = await caller.call("ModelReady", pb.ModelReadyRequest(
                name=name, version=version
            ))
            assert answer.ready == ready, (name, version)
        error = await error_of(caller.call("ModelReady", pb.ModelReadyRequest(
            name="m", version="1st"
        )))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT

    serve(test, *BOTH)


def test_metadata_of_a_model(serve):
    async def test(stand: Serving, caller: Caller) -> None:
        break_model(stand)
        tensor = pb.ModelMetadataResponse.TensorMetadata
        found = await caller.call("ModelMetadata", pb.ModelMetadataRequest(name="m"))
        assert found == pb.ModelMetadataResponse(
            name="m", versions=["1", "2"], platform="fake",
            inputs=[tensor(name="x", datatype="FP32", shape=[-1, 3])],
            outputs=[tensor(name="y", datatype="FP32", shape=[-1, 3])],
        )
        for name, code in (
            ("n", grpc.StatusCode.NOT_FOUND), ("broken", grpc.StatusCode.UNAVAILABLE)
        ):
            error = await error_of(caller.call("ModelMetadata", pb.ModelMetadataRequest(name=name)))
            assert error.code() == code

    serve(test, *BOTH)


def test_the_configuration_of_a_model(serve):
    config = ModelConfig(name="m", max_batch_size=8)
    spec = msgspec.structs.replace(version_spec(), config=config.SerializeToString())

    async def test(stand: Serving, caller: Caller) -> None:
        found = await caller.call("ModelConfig", pb.ModelConfigRequest(name="m", version="1"))
        assert found.config == config

    serve(test, spec)


def test_statistics_of_one_and_all(serve):
    async def test(stand: Serving, caller: Caller) -> None:
        break_model(stand)
        stand.statistics = Statistics(
            (CounterSample("version_sums", ("m", "2", "inferences"), 12),)
        )

        async def ask(name: str = "", version: str = "") -> list[tuple[str, str, int]]:
            found = await caller.call("ModelStatistics", pb.ModelStatisticsRequest(
                name=name, version=version
            ))
            return [(each.name, each.version, each.inference_count) for each in found.model_stats]

        assert await ask() == [("broken", "1", 0), ("m", "1", 0), ("m", "2", 12)]
        assert await ask("m") == [("m", "1", 0), ("m", "2", 12)]
        assert await ask("m", "2") == [("m", "2", 12)]
        error = await error_of(ask("n"))
        assert error.code() == grpc.StatusCode.NOT_FOUND

    serve(test, *BOTH)


def test_the_index_lists_what_is_broken_too(serve):
    async def test(stand: Serving, caller: Caller) -> None:
        break_model(stand, version=0)  # a folder that can not be read has no version
        found = await caller.call("RepositoryIndex", pb.RepositoryIndexRequest())
        assert [(each.name, each.version, each.state, each.reason) for each in found.models] == [
            ("broken", "", "UNAVAILABLE", "no such file"),
            ("m", "1", "READY", ""), ("m", "2", "READY", ""),
        ]
        found = await caller.call("RepositoryIndex", pb.RepositoryIndexRequest(ready=True))
        assert [(each.name, each.version) for each in found.models] == [("m", "1"), ("m", "2")]

    serve(test, *BOTH)
