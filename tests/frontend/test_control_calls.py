"""RepositoryModelLoad and RepositoryModelUnload, as far as the front end."""

import asyncio
import json
import os
from typing import Any

import pytest

from trtserve.config import Settings
from trtserve.errors import ControlFailed, InvalidRequest, ModelNotFound, NotServed
from trtserve.frontend.control import MAX_CONFIGURATION_BYTES, MAX_FILES, ControlCalls
from trtserve.ipc.message import ControlReply, ControlRequest
from trtserve.proto import grpc_service_pb2 as pb

PARAMETER = pb.ModelRepositoryParameter


class Supervisor:
    """Takes requests, with what lies in the descriptors, and answers them alike."""

    def __init__(self, repository, **settings):
        self.requests = []
        self.contents = []
        self.reply = ControlReply(0)
        values: dict[str, Any] = {
            "repository": str(repository), "model_control_mode": "explicit",
            "allow_config_override": True, "allow_file_override": True,
        } | settings
        self.calls = ControlCalls(Settings(**values), self._ask)

    async def _ask(self, request, fd):
        self.requests.append(request)
        self.contents.append(
            None if fd is None
            else {path: os.pread(fd, size, offset) for path, offset, size in request.files}
        )
        return self.reply

    def load(self, name="det", repository="", **parameters):
        asyncio.run(self.calls.load(pb.RepositoryModelLoadRequest(
            model_name=name, repository_name=repository, parameters=parameters.get("of", {}),
        )))

    def unload(self, name="det", **parameters):
        asyncio.run(self.calls.unload(pb.RepositoryModelUnloadRequest(
            model_name=name, parameters=parameters,
        )))


@pytest.fixture
def supervisor(tmp_path):
    return Supervisor(tmp_path)


def config(value):
    text = value if isinstance(value, str) else json.dumps(value)
    return {"config": PARAMETER(string_param=text)}


def test_a_load_and_an_unload_are_handed_on(supervisor):
    supervisor.load()
    supervisor.unload(unload_dependents=PARAMETER(bool_param=True))
    assert supervisor.requests == [
        ControlRequest(0, "det", True), ControlRequest(0, "det", False)
    ]
    assert supervisor.contents == [None, None]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (ControlReply(0, "not_found", "the repository has no model 'det'"), ModelNotFound),
        (ControlReply(0, "control", "it does not load"), ControlFailed),
    ],
)
def test_what_the_supervisor_says_is_raised(supervisor, reply, error):
    supervisor.reply = reply
    with pytest.raises(error, match=reply.message):
        supervisor.load()


def test_files_travel_in_memory(supervisor):
    files = {"1/a.onnx": b"123", "1/empty": b"", "2/b": b"x" * 100_000}
    supervisor.load(of={f"file:{path}": PARAMETER(bytes_param=c) for path, c in files.items()})
    assert supervisor.contents == [files]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"max_batch_size": 8}, "max_batch_size: 8\n"),
        ({"maxBatchSize": 8}, "max_batch_size: 8\n"),
        ({"name": "det", "dynamic_batching": {"max_queue_delay_microseconds": "100"}},
         'name: "det"\ndynamic_batching {\n  max_queue_delay_microseconds: 100\n}\n'),
        ({}, "# all defaults\n"),
    ],
)
def test_a_configuration_is_parsed_and_handed_on_as_text(supervisor, value, text):
    supervisor.load(of=config(value))
    assert supervisor.requests == [ControlRequest(0, "det", True, text)]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{", "config of model 'det': Failed to load JSON"),
        ("[]", "config of model 'det': not a JSON object"),
        ("", "config of model 'det': not a JSON object"),
        ({"max_batch": 8}, 'no field named "max_batch"'),
        ({"max_batch_size": "many"}, "max_batch_size"),
        ({"max_batch_size": -1}, "max_batch_size -1 is negative"),
        ({"name": "seg"}, "name is 'seg'"),
        ({"parameters": {"x": {"string_value": "x" * MAX_CONFIGURATION_BYTES}}}, "is larger than"),
    ],
)
def test_a_bad_configuration_is_refused_before_anything_begins(supervisor, value, words):
    with pytest.raises(InvalidRequest, match=words):
        supervisor.load(of=config(value))
    assert supervisor.requests == []


@pytest.mark.parametrize("path", [
    "../a", "1/../a", "/a", "1//a", "1/", "", "a", "0/a", "1/.a", "1/a/b", "1/a\0b", "1/a b",
])
def test_a_hostile_name_is_refused(supervisor, path):
    with pytest.raises(InvalidRequest, match="is no place for a file"):
        supervisor.load(of={f"file:{path}": PARAMETER(bytes_param=b"x")})
    assert supervisor.requests == []


@pytest.mark.parametrize("name", [
    "", ".", "..", "../det", "a/b", "-a", "a b", "a\n", "x\0", "a" * 256,
])
def test_a_hostile_model_is_refused(supervisor, name):
    for call in (supervisor.load, supervisor.unload):
        with pytest.raises(InvalidRequest, match="is no model name"):
            call(name)
    assert supervisor.requests == []


def test_what_is_not_known_or_of_another_type_is_refused(supervisor):
    wrong = {
        "no parameter 'confg'": {"confg": PARAMETER(string_param="{}")},
        "'config' must be a string": {"config": PARAMETER(bytes_param=b"{}")},
        "must be bytes": {"file:1/a": PARAMETER(string_param="x")},
        f"a load takes up to {MAX_FILES}": {
            f"file:1/{number}": PARAMETER(bytes_param=b"") for number in range(MAX_FILES + 1)
        },
    }
    for words, parameters in wrong.items():
        with pytest.raises(InvalidRequest, match=words):
            supervisor.load(of=parameters)
    with pytest.raises(InvalidRequest, match="leave repository_name empty"):
        supervisor.load(repository="other")
    with pytest.raises(InvalidRequest, match="no parameter 'x'"):
        supervisor.unload(x=PARAMETER(bool_param=True))


@pytest.mark.parametrize(
    ("settings", "error", "cure"),
    [
        ({"model_control_mode": "none"}, NotServed, "--model-control-mode explicit"),
        ({"model_control_mode": "poll"}, NotServed, "change the model's folder"),
        ({"allow_config_override": False}, ControlFailed, "--allow-config-override"),
        ({"allow_file_override": False}, ControlFailed, "--allow-file-override"),
    ],
)
def test_what_the_operator_does_not_allow_names_the_cure(tmp_path, settings, error, cure):
    supervisor = Supervisor(tmp_path, **settings)
    with pytest.raises(error, match=cure):
        supervisor.load(of={**config({}), "file:1/a": PARAMETER(bytes_param=b"")})
    assert supervisor.requests == []


def test_the_models_that_are_not_loaded(tmp_path):
    for name in ("a", "b", ".hidden", "lost+found", "no name"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("")
    loaded = {"a": None}
    assert asyncio.run(Supervisor(tmp_path).calls.unloaded(loaded)) == ["b"]
    assert asyncio.run(
        Supervisor(tmp_path, model_control_mode="none").calls.unloaded(loaded)
    ) == []
    assert asyncio.run(Supervisor(tmp_path / "nowhere").calls.unloaded(loaded)) == []
