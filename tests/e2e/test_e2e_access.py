"""Who may do what, with the real daemon: tokens over TLS, the Unix socket, an access file that
changes while it serves."""

import json
import os
import subprocess
import sys
from queue import SimpleQueue

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.calls import STREAM, floats, request, stream
from tests.e2e.daemon_process import Daemon, running
from tests.e2e.repositories import add_plus
from tests.security.authority import Authority, replace
from tests.security.other_users import as_user, connect
from trtserve.client import (
    Client,
    InferenceError,
    Item,
    NotFound,
    Overloaded,
    PermissionDenied,
    Security,
    Unauthenticated,
)
from trtserve.errors import ConfigurationError
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.security.socket_file import Permissions, protect
from trtserve.security.tokens import hash_of, make_token

TOKENS = {name: make_token() for name in ("vision", "slow", "ops", "leaving")}

X = np.ones((1, 3), np.float32)


def access_file(*names: str) -> bytes:
    rules: dict[str, dict[str, object]] = {
        "vision": {"models": ["plus", "plan-*"], "allow": ["infer", "read"]},
        "slow": {"rate": {"requests_per_second": 0.001, "burst": 3}},
        "ops": {"allow": ["infer", "read", "control", "debug"]},
        "leaving": {},
    }
    callers: list[object] = [
        {"name": name, "tokens": [hash_of(TOKENS[name])], **rules[name]} for name in names
    ]
    callers.append({"name": "socket", "allow": ["read", "control"], "models": ["hidden"]})
    return json.dumps({"callers": callers}).encode()  # JSON is YAML too


class Guarded:
    """The daemon, with what its clients need."""

    def __init__(self, daemon: Daemon, authority: Authority, access) -> None:
        self.daemon = daemon
        self.authority = authority
        self.access = access

    def client(self, token: str | None = None) -> Client:
        return Client(self.daemon.grpc, retry=False, security=Security(
            ca=self.authority.ca, token=token
        ))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guarded")
    add_plus(folder / "models")
    add_plus(folder / "models", "hidden", 10)
    authority = Authority(folder)
    certificate, key = authority.server()
    access = folder / "access.yaml"
    access.write_bytes(access_file(*TOKENS))
    with running(
        folder / "models", folder, "--tls-certificate", certificate, "--tls-key", key,
        "--access-file", str(access), "--socket", str(folder / "s"),
    ) as daemon:
        yield Guarded(daemon, authority, access)


def test_without_a_token_only_health_is_told(guarded):
    with guarded.client() as client:
        for call in (client.models, client.ready, client.live,
                     lambda: client.metadata("plus"), lambda: client.infer("plus", {"x": X}),
                     lambda: client.infer_many([("plus", {"x": X})]),
                     lambda: list(client.timeline(0.1))):
            with pytest.raises(Unauthenticated, match="need a token"):
                call()
    credentials = grpc.ssl_channel_credentials(guarded.authority.ca.read_bytes())
    with grpc.secure_channel(guarded.daemon.grpc, credentials) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_wrong_token_and_a_channel_without_tls_get_nowhere(guarded):
    with guarded.client(make_token()) as client, pytest.raises(
        Unauthenticated, match="not known here"
    ):
        client.infer("plus", {"x": X})
    with Client(guarded.daemon.grpc, retry=False, security=Security(token=TOKENS["ops"])) as c, (
        pytest.raises(InferenceError)
    ):
        c.live(deadline=5)


def test_a_caller_sees_its_own_models_and_no_others(guarded):
    with guarded.client(TOKENS["vision"]) as client:
        np.testing.assert_array_equal(client.infer("plus", {"x": X})["y"], X + 1)
        assert [status.name for status in client.models()] == ["plus"]
        for call in (client.metadata, client.model_ready,
                     lambda model: client.infer(model, {"x": X})):
            with pytest.raises(PermissionDenied, match="named 'hidden'"):
                call("hidden")
            with pytest.raises(PermissionDenied, match="named 'absent'"):
                call("absent")
        # A model that it might use is not there: it hears no others' names.
        with pytest.raises(NotFound) as caught:
            client.infer("plan-9", {"x": X})
        assert caught.value.message == "no model 'plan-9'"
        with pytest.raises(NotFound, match=r"^no model 'plan-9'$"):
            client.metadata("plan-9")
        with pytest.raises(PermissionDenied, match="may not make debug calls"):
            list(client.timeline(0.1))
        answers = client.infer_many([Item("plus", {"x": X}), Item("hidden", {"x": X})])
    np.testing.assert_array_equal(answers[0]["y"], X + 1)
    assert isinstance(answers[1], PermissionDenied)


def test_statistics_are_of_visible_models(guarded):
    def names(token):
        credentials = grpc.ssl_channel_credentials(guarded.authority.ca.read_bytes())
        with grpc.secure_channel(guarded.daemon.grpc, credentials) as channel:
            answer = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelStatistics",
                request_serializer=pb.ModelStatisticsRequest.SerializeToString,
                response_deserializer=pb.ModelStatisticsResponse.FromString,
            )(pb.ModelStatisticsRequest(), metadata=(("authorization", f"Bearer {token}"),))
        return {model.name for model in answer.model_stats}

    assert names(TOKENS["vision"]) == {"plus"}
    assert names(TOKENS["ops"]) == {"plus", "hidden"}


def test_a_stream_is_asked_about_each_request(guarded):
    credentials = grpc.ssl_channel_credentials(guarded.authority.ca.read_bytes())
    messages = [request(model, x=X).SerializeToString() for model in ("plus", "hidden", "plus")]
    with grpc.secure_channel(guarded.daemon.grpc, credentials) as channel:
        answers = list(stream(channel)(
            iter(messages), metadata=(("authorization", f"Bearer {TOKENS['vision']}"),)
        ))
        refused = stream(channel)(iter(messages))
        assert refused.code() is grpc.StatusCode.UNAUTHENTICATED, STREAM
    assert [bool(answer.error_message) for answer in answers] == [False, True, False]
    assert "may not use a model named 'hidden'" in answers[1].error_message
    np.testing.assert_array_equal(floats(answers[2].infer_response), X + 1)


def test_a_rate_is_for_all_requests_of_a_caller(guarded):
    with guarded.client(TOKENS["slow"]) as client:
        answers = client.infer_many([("plus", {"x": X})] * 2)
        assert not any(isinstance(answer, InferenceError) for answer in answers)
        client.infer("plus", {"x": X})
        with pytest.raises(Overloaded, match="3 at once") as caught:
            client.infer("plus", {"x": X})
        assert caught.value.retry_after == 10
        assert client.models(), "only inference counts"
    with guarded.client(TOKENS["vision"]) as client:
        client.infer("plus", {"x": X})


def test_control_calls_come_over_the_socket_only(guarded):
    def load(channel, model, *metadata):
        return channel.unary_unary(
            "/inference.GRPCInferenceService/RepositoryModelLoad",
            request_serializer=pb.RepositoryModelLoadRequest.SerializeToString,
            response_deserializer=pb.RepositoryModelLoadResponse.FromString,
        ).future(pb.RepositoryModelLoadRequest(model_name=model), metadata=metadata)

    credentials = grpc.ssl_channel_credentials(guarded.authority.ca.read_bytes())
    ops = ("authorization", f"Bearer {TOKENS['ops']}")
    with grpc.secure_channel(guarded.daemon.grpc, credentials) as channel:
        call = load(channel, "plus", ops)
        assert call.exception().code() is grpc.StatusCode.PERMISSION_DENIED
        assert "Unix socket only" in call.exception().details()
    with grpc.insecure_channel(f"unix:{guarded.daemon.ready['socket']}") as channel:
        assert "named 'plus'" in load(channel, "plus").exception().details()
        # Past the gate; what the server makes of it is another matter.
        for passed in (load(channel, "hidden"), load(channel, "plus", ops)):
            error = passed.exception()
            assert error is None or error.code() not in (
                grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED
            )


def test_the_socket_s_file_is_its_user_s(guarded):
    mode = os.stat(guarded.daemon.ready["socket"]).st_mode
    assert mode & 0o777 == 0o600
    with Client(f"unix:{guarded.daemon.ready['socket']}", retry=False) as client:
        assert [status.name for status in client.models()] == ["hidden"]
        with pytest.raises(PermissionDenied, match="'socket'"):
            client.infer("hidden", {"x": X})


def test_a_changed_file_is_in_force_at_once_on_open_streams_too(guarded):
    credentials = grpc.ssl_channel_credentials(guarded.authority.ca.read_bytes())
    message = request("plus", x=X).SerializeToString()

    with grpc.secure_channel(guarded.daemon.grpc, credentials) as channel:
        messages: SimpleQueue[bytes | None] = SimpleQueue()
        answers = stream(channel)(
            iter(messages.get, None), metadata=(("authorization", f"Bearer {TOKENS['leaving']}"),)
        )

        def error():
            messages.put(message)
            return next(answers).error_message

        assert not error()
        replace(guarded.access, access_file("vision", "slow", "ops"))
        assert "not known here" in guarded.daemon.until(error, "the end of a token")
        messages.put(None)
        assert not list(answers)
    before = guarded.daemon.metric("trtserve_reload_failures_total", what="access file")
    replace(guarded.access, b"callers: [")
    guarded.daemon.until_metric(
        before + 1, "trtserve_reload_failures_total", what="access file"
    )
    with guarded.client(TOKENS["vision"]) as client:
        client.infer("plus", {"x": X})
    assert "the changed access file is not used" in guarded.daemon.log
    replace(guarded.access, access_file(*TOKENS))


def test_refusals_are_counted_and_logged_without_tokens(guarded):
    with guarded.client("guess-me") as client, pytest.raises(Unauthenticated):
        client.models()
    guarded.daemon.until(
        lambda: guarded.daemon.metric(
            "trtserve_refused_calls_total", kind="read", outcome="unauthenticated"
        ), "the refusal's count",
    )
    log = guarded.daemon.log
    assert "refused (unauthenticated)" in log
    assert "guess-me" not in log
    assert not any(token in log for token in TOKENS.values())


def test_the_command_line_has_the_options(guarded):
    def models(*flags, **environment):
        return subprocess.run(
            [sys.executable, "-m", "trtserve", "models", "--address", guarded.daemon.grpc,
             "--tls-ca", str(guarded.authority.ca), "--json", *flags],
            capture_output=True, text=True, env={**os.environ, **environment}, check=False,
        )

    listed = models(TRTSERVE_TOKEN=TOKENS["vision"])
    assert [model["name"] for model in json.loads(listed.stdout)] == ["plus"], listed.stderr
    refused = models("--token", "wrong")
    assert refused.returncode == 1
    assert "TRTSERVE_TOKEN" in refused.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_socket_is_for_the_users_that_are_named(start, tmp_path):
    guest, stranger = 54_321, 54_322
    probe = tmp_path / "probe"
    probe.touch()
    try:
        protect(str(probe), Permissions(users=frozenset({guest})))
    except ConfigurationError:
        pytest.skip("there are no access control lists on this file system")
    add_plus(tmp_path / "models")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != folder.parent:
            folder.chmod(folder.stat().st_mode | 0o111)
    daemon = start("--socket", str(tmp_path / "s"), "--socket-users", str(guest))
    path = str(daemon.ready["socket"])
    assert as_user(guest, lambda: connect(path))
    assert not as_user(stranger, lambda: connect(path))
    with Client(f"unix:{path}", retry=False) as client:
        client.infer("plus", {"x": X})
