"""The gate: who passes without an access file, what is remembered, and what is counted."""

import pytest

from tests.frontend.stand import catalog_of, floats, request, version_spec
from tests.security.authority import replace
from trtserve.clock import NS_PER_S
from trtserve.errors import ModelNotFound, PermissionDenied, RateLimited, Unauthenticated
from trtserve.frontend import wire
from trtserve.frontend.gate import MAX_REMEMBERED, MAX_REMEMBERED_HEAD_BYTES, Gate
from trtserve.frontend.guarded import KINDS, kind_of
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.proto import trtserve_pb2 as v1
from trtserve.security.access import Kind
from trtserve.security.access_file import read_access
from trtserve.security.tokens import hash_of
from trtserve.security.watched import Watched
from trtserve.testing.clock import FakeClock

METHOD = "inference.GRPCInferenceService/ModelInfer"

SOCKET = "unix:"
NEAR = ("ipv4:127.0.0.1:5000", "ipv6:[::1]:5000", "ipv6:%5B::1%5D:5000", "ipv4:127.8.8.8:1")
FAR = ("ipv4:10.0.0.7:5000", "ipv6:[fe80::1]:5000", "ipv4:1.127.0.0:80", "ipv6:[::1:2]:5000")


class Context:
    """What the gate reads of a gRPC call."""

    def __init__(self, peer=FAR[0], token=None, **seen):
        self._peer = peer
        self.metadata = [("user-agent", "x")]
        if token is not None:
            self.metadata.append(("authorization", f"Bearer {token}"))
        self._seen = seen

    def peer(self):
        return self._peer

    def invocation_metadata(self):
        return self.metadata

    def auth_context(self):
        return self._seen


class Rig:
    """A gate with its surroundings. `rules` become the access file."""

    def __init__(self, folder=None, rules=None, **settings):
        self.clock = FakeClock()
        self.notes = []
        self.path = None
        access = None
        if rules is not None:
            self.path = folder / "access.yaml"
            self.path.write_text(rules)
            access = Watched("access file", (str(self.path),), lambda: read_access(str(self.path)))
        self.access = access
        self.gate = Gate(
            access, catalog=lambda: catalog_of(version_spec()), note=self.note,
            now=self.clock.now_ns, **settings,
        )

    def note(self, error, *, call):
        self.notes.append((call.method, error.word))

    def passes(self, context, kind):
        try:
            self.gate.enter(context, kind, METHOD)
        except PermissionDenied:
            return False
        return True


@pytest.mark.parametrize(("kind", "socket", "near", "far"), [
    (Kind.INFER, True, True, True),
    (Kind.READ, True, True, True),
    (Kind.DEBUG, True, True, False),
    (Kind.CONTROL, True, False, False),
])
def test_without_a_file_the_way_in_decides(kind, socket, near, far):
    rig = Rig()
    assert not rig.gate.guards_everything
    assert rig.passes(Context(SOCKET), kind) is socket
    assert {rig.passes(Context(peer), kind) for peer in NEAR} == {near}
    assert {rig.passes(Context(peer), kind) for peer in FAR} == {far}


def test_control_may_be_opened_on_purpose():
    rig = Rig(control_on_tcp=True)
    assert all(rig.passes(Context(peer), Kind.CONTROL) for peer in (*NEAR, *FAR))


def test_refusals_are_counted_and_noted():
    rig = Rig()
    for _ in range(2):
        assert not rig.passes(Context(), Kind.CONTROL)
    assert rig.gate.refused == {("control", "denied"): 2}
    assert rig.notes == [(METHOD, "denied")] * 2


RULES = f"""
callers:
  - name: app
    tokens: [{hash_of("t")}]
    models: [m, future]
    rate: {{requests_per_second: 1, burst: 2}}
  - name: ops
    tokens: [{hash_of("o")}]
    allow: [control]
"""


def head(model="m"):
    data = request(floats(1, 3), model=model).SerializeToString()
    return wire.split_request(data, 0, len(data))[0]


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path, RULES)


def test_a_right_to_control_is_not_enough_on_tcp(rig):
    assert not rig.passes(Context(NEAR[0], "o"), Kind.CONTROL)
    assert rig.passes(Context(SOCKET, "o"), Kind.CONTROL)


def test_a_request_is_asked_for_its_model_and_counted_against_the_rate(rig):
    call = rig.gate.call(Context(token="t"), METHOD)
    assert call.caller == "app"
    call.admit(head())
    call.admit(head())
    with pytest.raises(RateLimited) as caught:
        call.admit(head())
    assert caught.value.retry_after_ms == pytest.approx(1000, abs=1)
    rig.clock.advance(NS_PER_S)
    call.admit(head())
    # What is refused counts too: it is work all the same.
    rig.clock.advance(2 * NS_PER_S)
    with pytest.raises(PermissionDenied):
        call.admit(head("other"))
    with pytest.raises(ModelNotFound, match=r"^no model 'future'$"):
        call.admit(head("future"))
    with pytest.raises(RateLimited):
        call.admit(head("other"))


def test_the_last_of_two_names_is_the_model_as_it_is_for_the_router(rig):
    call = rig.gate.call(Context(token="t"), METHOD)
    hidden = pb.ModelInferRequest(model_name="other").SerializeToString()
    shown = pb.ModelInferRequest(model_name="m").SerializeToString()
    assert pb.ModelInferRequest.FromString(shown + hidden).model_name == "other"
    with pytest.raises(PermissionDenied):
        call.admit(shown + hidden)


def test_two_authorizations_are_none(rig):
    context = Context(token="t")
    context.metadata.append(("authorization", "Bearer t"))
    with pytest.raises(Unauthenticated):
        rig.gate.call(context, METHOD)


def test_open_calls_follow_the_file(rig):
    call = rig.gate.call(Context(token="t"), METHOD)
    call.admit(head())
    replace(rig.path, RULES.replace("models: [m, future]", "models: [nothing]").encode())
    assert rig.access.look()
    rig.gate.changed()
    with pytest.raises(PermissionDenied):
        call.admit(head())
    replace(rig.path, RULES.replace(hash_of("t"), hash_of("other")).encode())
    assert rig.access.look()
    rig.gate.changed()
    with pytest.raises(Unauthenticated):
        call.admit(head())


def test_what_is_remembered_is_bounded(rig):
    for number in range(MAX_REMEMBERED + 10):
        data = pb.ModelInferRequest(model_name="m", model_version=str(number))
        assert rig.gate.model_of(data.SerializeToString()) == "m"
        with pytest.raises(Unauthenticated):
            rig.gate.enter(Context(token=f"guess {number}"), Kind.INFER, METHOD)
    large = pb.ModelInferRequest(model_name="m", id="x" * MAX_REMEMBERED_HEAD_BYTES)
    assert rig.gate.model_of(large.SerializeToString()) == "m"
    assert len(rig.gate._models) == MAX_REMEMBERED
    assert len(rig.gate._known) == 0, "wrong tokens push no right ones out"


def test_every_call_of_ours_has_a_kind():
    names = {
        method.name
        for file in (pb.DESCRIPTOR, v1.DESCRIPTOR)
        for service in file.services_by_name.values()
        for method in service.methods
    }
    assert KINDS.keys() <= names
    risky = {name for name in names if "Load" in name or "Register" in name or "Setting" in name}
    served = {name for name in risky if "Repository" in name}
    assert {kind_of(f"/s/{name}") for name in served} == {Kind.CONTROL}
    assert kind_of("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo") is Kind.READ


def test_a_common_name_is_not_taken_from_elsewhere(tmp_path):
    rig = Rig(tmp_path, "callers: [{name: deployer, certificates: ['cn:deployer', 'spiffe://a']}]")

    def caller(**seen):
        context = Context(x509_pem_cert=[b""], **seen)
        return rig.gate.enter(context, Kind.READ, METHOD).caller.name

    assert caller(x509_common_name=[b"deployer"]) == "deployer"
    assert caller(x509_subject_alternative_name=[b"spiffe://a"]) == "deployer"
    with pytest.raises(Unauthenticated):
        caller(x509_subject_alternative_name=[b"cn:deployer"], x509_common_name=[b"other"])
