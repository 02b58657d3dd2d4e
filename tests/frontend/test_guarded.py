"""What stands around handlers, behind a real gRPC server."""

import asyncio
import logging
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest

from tests.frontend.serving import run
from tests.frontend.stand import catalog_of, version_spec
from trtserve.errors import DeadlineExceeded, ModelNotFound, Overloaded
from trtserve.frontend.gate import Gate
from trtserve.frontend.guarded import OPEN_CALLS, OPEN_READS, Guarded, OpenLimits
from trtserve.frontend.inference_service import walled
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.security.access import Access
from trtserve.security.access_file import read_access
from trtserve.security.tokens import hash_of
from trtserve.security.watched import Watched

SECRET = "/srv/models/det/1/model.plan"


async def fail(_request, _context):
    raise KeyError(SECRET)


async def refuse(_request, _context):
    raise ModelNotFound("no model 'x'")


async def answer(request, _context):
    return request.name.encode()


async def streamed(requests, _context):
    async for request in requests:
        yield request.name.encode()
        raise KeyError(SECRET)


async def told(_request, context):
    for number in range(2):
        await context.write(b"%d" % number)
        RIGHTS.lost()


class Rights:
    """An access file's rules, which a test may change in the midst of a call."""

    def __init__(self):
        self.gate: Any = None
        self.watched: Any = None

    def lost(self):
        self.watched.value = Access(())
        self.gate.changed()


RIGHTS = Rights()

TOKEN = (("authorization", "Bearer t"),)


@asynccontextmanager
async def guarded(folder, inner, *, is_open=False):
    """A channel to handlers for those who know a token."""
    access = folder / "access.yaml"
    access.write_text(
        f"callers: [{{name: app, tokens: ['{hash_of('t')}'], allow: [infer, read, debug]}}]"
    )
    RIGHTS.watched = Watched("access file", (str(access),), lambda: read_access(str(access)))
    RIGHTS.gate = Gate(
        RIGHTS.watched, catalog=lambda: catalog_of(version_spec()),
        note=lambda error, *, call: None,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Guarded(inner, RIGHTS.gate, is_open=is_open),))
    server.add_insecure_port(f"unix:{folder}/s")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"unix:{folder}/s") as channel:
            yield channel
    finally:
        await server.stop(None)


@pytest.mark.parametrize("name", ["Answer", "ModelInfer", "Timeline"])
def test_who_may_not_call_is_refused_before_his_message_comes(tmp_path, name):
    inner = grpc.method_handlers_generic_handler("s", {
        "Answer": grpc.unary_unary_rpc_method_handler(fail),
        "ModelInfer": grpc.unary_unary_rpc_method_handler(fail),
        "Timeline": grpc.unary_stream_rpc_method_handler(fail),
    })

    async def check():
        async with guarded(tmp_path, inner) as channel:
            # The call is open, and its message never comes.
            call = channel.stream_unary(f"/s/{name}")()
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED

    run(check)


@pytest.mark.parametrize("name", ["Answer", "ModelInfer"])
def test_who_may_call_is_answered_as_ever(tmp_path, name):
    async def echo(data, _context):
        return data + b"!"

    inner = grpc.method_handlers_generic_handler("s", {
        name: grpc.unary_unary_rpc_method_handler(echo),
    })

    async def check():
        async with guarded(tmp_path, inner) as channel:
            assert await channel.unary_unary(f"/s/{name}")(b"a", metadata=TOKEN) == b"a!"
            call = channel.stream_unary(f"/s/{name}")(metadata=TOKEN)
            await call.done_writing()
            assert await error_of(call) == (
                "INVALID_ARGUMENT", f"{name} takes one message, and none came"
            )

    run(check)


def test_a_right_that_ends_ends_a_call_that_is_being_answered(tmp_path):
    inner = grpc.method_handlers_generic_handler("s", {
        "Timeline": grpc.unary_stream_rpc_method_handler(told),
    })

    async def check():
        async with guarded(tmp_path, inner) as channel:
            call = channel.unary_stream("/s/Timeline")(b"", metadata=TOKEN)
            assert await call.read() == b"0"
            code, _ = await error_of(call.read())
            assert code == "UNAUTHENTICATED"

    run(check)


def test_calls_for_everybody_are_bounded():
    limits = OpenLimits()
    with ExitStack() as calls:
        for _ in range(OPEN_CALLS):
            calls.enter_context(limits.call())
        with pytest.raises(Overloaded), limits.call():
            pass
    with limits.call():
        pass


def test_one_who_sends_half_a_message_holds_up_nobody_for_long():
    """Those who wait for their turn get it, since nobody reads for longer than he may."""

    class Silent:
        async def read(self):
            await asyncio.Event().wait()

    class Good:
        async def read(self):
            return b"here"

    async def check():
        limits = OpenLimits(seconds=0.001)
        silent = [asyncio.ensure_future(limits.read(Silent())) for _ in range(3 * OPEN_READS)]
        await asyncio.sleep(0)
        assert await limits.read(Good()) == b"here"
        found = await asyncio.gather(*silent, return_exceptions=True)
        assert all(isinstance(each, DeadlineExceeded) for each in found)

    run(check)


@asynccontextmanager
async def served(folder):
    """A channel to handlers that fail in their ways."""
    parse = pb.ModelReadyRequest.FromString
    inner = grpc.method_handlers_generic_handler("s", {
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
        "Answer": grpc.unary_unary_rpc_method_handler(answer, request_deserializer=parse),
        "Stream": grpc.stream_stream_rpc_method_handler(streamed, request_deserializer=parse),
        "ModelInfer": grpc.unary_unary_rpc_method_handler(walled(fail)),
    })
    gate = Gate(
        None, catalog=lambda: catalog_of(version_spec()), note=lambda error, *, call: None
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Guarded(inner, gate),))
    server.add_insecure_port(f"unix:{folder}/s")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"unix:{folder}/s") as channel:
            yield channel
    finally:
        await server.stop(None)


async def error_of(call):
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details()
    raise AssertionError("the call succeeded")


def test_an_unforeseen_error_tells_nothing(tmp_path, caplog):
    async def check():
        async with served(tmp_path) as channel:
            for name in ("Fail", "ModelInfer"):
                code, text = await error_of(channel.unary_unary(f"/s/{name}")(b""))
                assert (code, text) == (
                    "INTERNAL", "an internal error; the server's log says more"
                )
            call = channel.stream_stream("/s/Stream")()
            await call.write(pb.ModelReadyRequest(name="a").SerializeToString())
            assert await call.read() == b"a"
            code, text = await error_of(call.read())
            assert code == "INTERNAL"
            assert SECRET not in text

    with caplog.at_level(logging.ERROR):
        run(check)
    assert caplog.text.count("was not foreseen") == 3
    assert SECRET in caplog.text, "the operator has to know"


def test_foreseen_errors_and_answers_pass(tmp_path):
    async def check():
        async with served(tmp_path) as channel:
            assert await error_of(channel.unary_unary("/s/Refuse")(b"")) == (
                "NOT_FOUND", "no model 'x'"
            )
            data = pb.ModelReadyRequest(name="abc").SerializeToString()
            assert await channel.unary_unary("/s/Answer")(data) == b"abc"

    run(check)


def test_a_message_that_can_not_be_read_is_the_caller_s_mistake(tmp_path):
    async def check():
        async with served(tmp_path) as channel:
            assert await error_of(channel.unary_unary("/s/Answer")(b"\xff\xff")) == (
                "INVALID_ARGUMENT", "the message is not Answer's request"
            )

    run(check)


def test_a_caller_that_goes_is_no_error(tmp_path, caplog):
    async def check():
        async with served(tmp_path) as channel:
            call = channel.stream_stream("/s/Stream")()
            await call.wait_for_connection()
            call.cancel()
            # Whatever the server made of it comes before the answer to this.
            await channel.unary_unary("/s/Answer")(b"")
            await asyncio.sleep(0)

    run(check)
    assert "not foreseen" not in caplog.text


def test_unknown_methods_are_not_kept(tmp_path):
    gate = Gate(
        None, catalog=lambda: catalog_of(version_spec()), note=lambda error, *, call: None
    )
    guarded = Guarded(grpc.method_handlers_generic_handler("s", {}), gate)

    class Details:
        method = "/s/Unknown"

    assert guarded.service(Details()) is None
    assert not guarded._made
