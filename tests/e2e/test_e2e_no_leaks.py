"""What errors tell clients: never a path, a process, an address, or a name out of our code."""

import json
import re

import grpc
import numpy as np
import pytest

from tests.e2e.calls import BATCH, INFER, STREAM, request, work_request
from tests.e2e.daemon_process import running
from tests.e2e.repositories import add_look_up, add_model, add_plus, add_work
from trtserve.errors import request_error_classes
from trtserve.frontend.reply import STATUS_NUMBERS
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.proto import trtserve_pb2 as v1
from trtserve.security.tokens import hash_of, make_token

# Files of a version are no secret: a receipt names its variant so.
FORBIDDEN = {
    "a path": re.compile(r"(?<![\w.:])(/[\w.-]+){2,}|/tmp|\bmodels/"),
    "a process": re.compile(r"\bpid\b|\bprocess \d|\bfd \d"),
    "an address in memory": re.compile(r"0x[0-9a-fA-F]{4,}"),
    "a traceback": re.compile(r"Traceback|line \d+, in |File \""),
    "a class of ours or Python's": re.compile(
        r"<class|\b[A-Za-z]+(?:Error|Exception)\b|\btrtserve\.\w|\b(?:InvalidRequest|"
        r"ModelNotFound|Overloaded|ExecutionFailed|Dispatcher)\b"
    ),
    "shared memory": re.compile(r"memfd|/dev/shm|arena \d"),
}

SERVICE = "/inference.GRPCInferenceService/"

X = np.ones((1, 3), np.float32)

GOOD = request("plus", x=X).SerializeToString()

TOKEN = make_token()
SLOW = make_token()
DEPLOYER = make_token()


def make_garbage(path: str) -> None:
    with open(path, "wb") as file:
        file.write(b"no model")


def make_part(path: str) -> None:
    add = path.replace("model.onnx", "whole.onnx")
    from trtserve.testing import models

    models.make_add(add, 1.0, ("N", "M"))
    with open(add, "rb") as whole, open(path, "wb") as file:
        file.write(whole.read()[:-20])


@pytest.fixture(scope="module")
def leaky(tmp_path_factory):
    """A daemon with everything that may go wrong."""
    folder = tmp_path_factory.mktemp("leaky")
    repository = folder / "models"
    add_plus(repository)
    add_work(repository, config="dynamic_batching { default_queue_policy { max_queue_size: 1 } }\n")
    add_look_up(repository)
    add_model(repository, "garbage", make_garbage)
    add_model(repository, "part", make_part)
    add_plus(repository, "misnamed", config='name: "another"\n')
    add_plus(repository, "misread", config="max_batch_size: many\n")
    add_plus(repository, "unlike", config='input { name: "z" data_type: TYPE_FP32 dims: 3 }\n')
    (repository / "empty" / "1").mkdir(parents=True)
    access = folder / "access.yaml"
    access.write_text(json.dumps({"callers": [
        {"name": "app", "tokens": [hash_of(TOKEN)]},
        {"name": "slow", "tokens": [hash_of(SLOW)],
         "rate": {"requests_per_second": 0.001, "burst": 1}},
        {"name": "deployer", "tokens": [hash_of(DEPLOYER)], "allow": ["control"],
         "models": ["plus", "new-*"]},
        {"name": "socket", "allow": ["infer", "read", "control", "debug"]},
    ]}))
    with running(
        repository, folder, "--access-file", str(access), "--socket", str(folder / "s"),
        "--max-in-flight", "2", "--max-message-bytes", str(1 << 20), "--lanes", "1",
        "--model-control-mode", "explicit", "--load-models", "*", "--allow-config-override",
        "--allow-file-override",
    ) as daemon:
        yield daemon


class Said:
    """What a server answered to calls: (code, text)."""

    def __init__(self, address: str, token: str = TOKEN) -> None:
        self.channel = grpc.insecure_channel(
            address, options=[("grpc.enable_retries", 0), ("grpc.max_metadata_size", 1 << 20)]
        )
        self.metadata = (("authorization", f"Bearer {token}"),)
        self.said: list[tuple[str, str]] = []

    def call(self, method: str, data: bytes, **options) -> bytes:
        options.setdefault("metadata", self.metadata)
        try:
            return bytes(self.channel.unary_unary(method)(data, timeout=20, **options))
        except grpc.RpcError as error:
            self.said.append((error.code().name, error.details()))
            return b""

    def stream(self, *messages: bytes) -> None:
        answers = self.channel.stream_stream(
            STREAM, response_deserializer=pb.ModelStreamInferResponse.FromString
        )(iter(messages), metadata=self.metadata, timeout=20)
        self.said += [("in band", answer.error_message) for answer in answers]

    def batch(self, *messages: bytes) -> None:
        data = b"".join(b"\x0a" + pb_varint(len(one)) + one for one in messages)
        answer = v1.InferBatchResponse.FromString(self.call(BATCH, data))
        self.said += [("in band", item.error.message) for item in answer.items]


def pb_varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80, value >> 7]) if value > 0x7F else bytes([value])


def provoke(leaky) -> list[tuple[str, str]]:
    """Every kind of error, on every way that it can come."""
    said = Said(leaky.grpc)
    bad_requests = [
        request("nowhere", x=X), request("plus", z=X), request("plus", x=X.astype(np.float64)),
        request("plus", x=X[0]), request("look_up", x=np.array([[99]])),
        *(request(name, x=X) for name in ("garbage", "part", "misnamed", "misread", "unlike",
                                          "empty")),
    ]
    messages = [one.SerializeToString() for one in bad_requests]
    messages += [b"\xff\xff\xff", GOOD[:-3], b"\x0a\x02\xff\xfe", b"\x2a\x05\x0a\x03abc\x99"]
    for message in messages:
        said.call(INFER, message)
    said.stream(*messages)
    said.batch(*messages)
    said.call(BATCH, b"\x12\x00")
    said.call(INFER, GOOD + b"\x32" + b"\x80\x80\x80\x01" + bytes(1 << 21))
    call = said.channel.unary_unary(INFER)
    # The first one keeps the only lane busy; for the others one limit or another is reached.
    flood = [
        call.future(work_request(1000, timeout_us), metadata=said.metadata, timeout=20)
        for timeout_us in (0, 1, *[0] * 10)
    ]
    said.said += [
        (error.code().name, error.details()) for one in flood
        if (error := one.exception()) is not None
    ]
    for name in ("ModelMetadata", "ModelConfig", "ModelStatistics", "ModelReady"):
        for model in ("nowhere", "garbage", "misread", "../plus", "plus/1"):
            said.call(SERVICE + name, pb.ModelMetadataRequest(name=model).SerializeToString())
        said.call(SERVICE + name, pb.ModelMetadataRequest(
            name="plus", version="9").SerializeToString())
        said.call(SERVICE + name, pb.ModelMetadataRequest(
            name="plus", version="one").SerializeToString())
        said.call(SERVICE + name, b"\xff\xff\xff")
    said.call(SERVICE + "SystemSharedMemoryStatus", b"")
    said.call(SERVICE + "NoSuchCall", b"")
    said.call("/no.such.Service/Call", b"")
    said.call("/trtserve.v1.DebugService/Timeline", b"")
    index = pb.RepositoryIndexResponse.FromString(said.call(SERVICE + "RepositoryIndex", b""))
    assert len([model for model in index.models if model.reason]) >= 5
    said.said += [("reason", model.reason) for model in index.models if model.reason]
    said.call(INFER, GOOD, metadata=())
    said.call(INFER, GOOD, metadata=(("authorization", "Bearer x"),))
    said.call(INFER, GOOD, metadata=(("authorization", "what"),))
    said.call(INFER, GOOD, metadata=(("x", "y" * 20_000), *said.metadata))
    slow = Said(leaky.grpc, SLOW)
    slow.call(INFER, GOOD)
    slow.call(INFER, GOOD)
    assert [code for code, _ in slow.said] == ["RESOURCE_EXHAUSTED"]
    local = Said(f"unix:{leaky.ready['socket']}")
    for name in ("RepositoryModelLoad", "RepositoryModelUnload"):
        for model in ("nowhere", "garbage", "../plus", "/etc/passwd"):
            data = pb.RepositoryModelLoadRequest(model_name=model).SerializeToString()
            said.call(SERVICE + name, data)
            local.call(SERVICE + name, data, metadata=())
        local.call(SERVICE + name, b"\xff\xff\xff", metadata=())
    for key, value in (
        ("config", "{"), ("config", '{"nmae": 1}'), ("config", '{"input": [{"name": "z"}]}'),
        ("file:../../x/model.onnx", "no model"), ("file:1/../../x", "no model"),
        ("file:1/model.onnx", "no model"), ("what", "x"),
    ):
        load = pb.RepositoryModelLoadRequest(model_name="plus")
        if key.startswith("file:"):
            load.parameters["config"].string_param = "{}"
            load.parameters[key].bytes_param = value.encode()
        else:
            load.parameters[key].string_param = value
        local.call(SERVICE + "RepositoryModelLoad", load.SerializeToString(), metadata=())
    return said.said + slow.said + local.said


def test_no_error_tells_of_the_inside(leaky, tmp_path_factory):
    said = provoke(leaky)
    codes = {code for code, _ in said}
    missing = set(STATUS_NUMBERS) - {"CANCELLED"} - codes  # that is for those who have gone
    assert not missing
    found = []
    for code, text in set(said):
        for what, pattern in FORBIDDEN.items():
            leak = pattern.search(text)
            # A client may read again what it sent itself.
            if leak and leak[0] not in ("/etc/passwd", "/no.such.Service/Call"):
                found.append(f"{what} ({leak[0]!r}) in {code}: {text}")
        if str(tmp_path_factory.getbasetemp()) in text:
            found.append(f"the folder in {code}: {text}")
    assert not found, "\n".join(found)
    for name, cls in request_error_classes().items():
        assert not any(re.search(rf"\b{cls.__name__}\b", text) for _, text in said), name


def test_who_controls_some_models_hears_of_no_others(leaky):
    local = Said(f"unix:{leaky.ready['socket']}", DEPLOYER)
    for name in ("RepositoryModelLoad", "RepositoryModelUnload"):
        for model in ("new-one", "work", "absent"):
            data = pb.RepositoryModelLoadRequest(model_name=model).SerializeToString()
            local.call(SERVICE + name, data)
    assert [code for code, _ in local.said] == ["NOT_FOUND", *["PERMISSION_DENIED"] * 2] * 2
    assert not [text for _, text in local.said if "look_up" in text or "garbage" in text]


def test_the_patterns_find_leaks():
    for text in (
        "can not read /var/lib/models/det/1", "models/det is broken", "see pid 123",
        "<object at 0x7f12ab34>", "Unexpected <class 'ValueError'>: no", "KeyError: 'x'",
        'File "a.py", line 3, in run', "raised by trtserve.frontend",
    ):
        assert any(pattern.search(text) for pattern in FORBIDDEN.values()), text
