"""What somebody may send who means harm, to the real daemon. Most of it comes from nobody: the
daemon has an access file, and the caller no token."""

import json

import grpc
import psutil
import pytest

from tests.e2e import http2
from tests.e2e.daemon_process import running
from tests.e2e.repositories import add_plus
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.security.tokens import hash_of, make_token

SERVICE = "/inference.GRPCInferenceService"
MIB = 1 << 20

TOKEN = make_token()
WITH_TOKEN = (("authorization", f"Bearer {TOKEN}"),)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    add_plus(folder / "models")
    add_plus(folder / "models", "hidden", 10)
    access = folder / "access.yaml"
    access.write_text(json.dumps({"callers": [
        {"name": "app", "tokens": [hash_of(TOKEN)], "models": ["plus"]},
    ]}))
    with running(
        folder / "models", folder, "--access-file", str(access),
        "--max-message-bytes", str(64 * MIB),
    ) as found:
        yield found
        assert len(found.children()) == 2, "everybody lives"


@pytest.fixture
def channel(daemon):
    with grpc.insecure_channel(
        daemon.grpc, options=[("grpc.max_send_message_length", -1)]
    ) as found:
        yield found


def memory(daemon):
    return psutil.Process(daemon.children()["front end 1"]).memory_info().rss


def answers(channel):
    call = channel.unary_unary(f"{SERVICE}/ServerLive")
    return bool(pb.ServerLiveResponse.FromString(call(b"", metadata=WITH_TOKEN)).live)


def error_of(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


@pytest.mark.parametrize("path", [
    b"/inference.GRPCInferenceService/\xff\xfe", b"/\xff", b"\xff", b"/", b"//", b"/a/b/c",
    b"/grpc.health.v1.Health/\xc0\xaf",
])
def test_a_method_s_name_may_be_anything(daemon, channel, path):
    http2.call(daemon.grpc, path)
    assert answers(channel)


def test_metadata_may_be_anything_and_fill_no_log(daemon, channel):
    before = len(daemon.log)
    for _ in range(50):
        said = http2.call(
            daemon.grpc, f"{SERVICE}/ServerLive".encode(), (b"authorization", b"Bearer \xff\xfe"),
            (b"x-request-id", b"\x1b[31m\xff"),
        )
        assert b"not known here" in said
    assert answers(channel)
    added = daemon.log[before:]
    assert "Traceback" not in added
    assert "\x1b" not in added
    assert len(added) < 10_000, "a bounded rate"


def test_a_compressed_message_is_not_unpacked_beyond_the_limit(daemon, channel):
    before = memory(daemon)
    call = channel.unary_unary(f"{SERVICE}/ModelInfer")
    code, text = error_of(lambda: call(
        bytes(600 * MIB), metadata=WITH_TOKEN, compression=grpc.Compression.Gzip
    ))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED, text
    assert _peak(daemon.children()["front end 1"]) - before < 200 * MIB


@pytest.mark.parametrize("method", ["ModelInfer", "ServerLive", "ModelStatistics"])
def test_the_messages_of_those_who_may_not_call_are_not_read(daemon, channel, method):
    before = memory(daemon)
    data = bytes(60 * MIB)
    calls = [channel.unary_unary(f"{SERVICE}/{method}").future(data) for _ in range(8)]
    for call in calls:
        assert call.exception().code() is grpc.StatusCode.UNAUTHENTICATED
    assert _peak(daemon.children()["front end 1"]) - before < 200 * MIB


def test_health_says_nothing_of_how_a_bad_message_is_read(daemon, channel):
    before = len(daemon.log)
    code, text = error_of(lambda: channel.unary_unary("/grpc.health.v1.Health/Check")(b"\xff\xff"))
    assert (code, text) == (
        grpc.StatusCode.INVALID_ARGUMENT, "the message is not Check's request"
    )
    assert "Traceback" not in daemon.log[before:]


@pytest.mark.parametrize("request_of", [
    lambda long: ("ModelInfer", pb.ModelInferRequest(
        model_name="plus", inputs=[pb.ModelInferRequest.InferInputTensor(name=long)],
    )),
    lambda long: ("ModelInfer", pb.ModelInferRequest(
        model_name="plus",
        inputs=[pb.ModelInferRequest.InferInputTensor(name="x", datatype=long)],
    )),
    lambda long: ("ModelInfer", pb.ModelInferRequest(model_name=long)),
    lambda long: ("ModelMetadata", pb.ModelMetadataRequest(name="plus", version=long)),
], ids=["input", "datatype", "model", "version"])
@pytest.mark.parametrize("long", ["n" * MIB, "\u00fc" * MIB], ids=["ascii", "umlauts"])
def test_an_error_never_outgrows_what_clients_take(channel, request_of, long):
    method, message = request_of(long)
    code, text = error_of(lambda: channel.unary_unary(f"{SERVICE}/{method}")(
        message.SerializeToString(), metadata=WITH_TOKEN
    ))
    assert code in (
        grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
    ), text
    assert len(text.encode()) <= 2048


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig"])
def test_an_empty_name_shows_no_others(channel, method):
    code, text = error_of(lambda: channel.unary_unary(f"{SERVICE}/{method}")(
        b"", metadata=WITH_TOKEN
    ))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "hidden" not in text


def _peak(pid: int) -> int:
    """The most memory that a process has had."""
    with open(f"/proc/{pid}/status") as file:
        line = next(line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
