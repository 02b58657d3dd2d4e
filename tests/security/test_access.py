"""The rules: who a call is from, what that caller may, and what refusals give away."""

import pytest

from trtserve.errors import PermissionDenied, Unauthenticated
from trtserve.security.access import (
    ANONYMOUS,
    EVERYTHING,
    SOCKET,
    Access,
    Caller,
    Kind,
    Proof,
)
from trtserve.security.tokens import hash_of

INFER = frozenset({Kind.INFER})
VISION = Caller("vision", INFER, ("det", "ocr-*"), tokens=(hash_of("v1"), hash_of("v2")))
OPS = Caller("ops", EVERYTHING, tokens=(hash_of("o"),),
             certificates=("spiffe://cluster/ops", "cn:old-ops"))
ACCESS = Access([VISION, OPS])
OPEN = Access([VISION, OPS, Caller(ANONYMOUS, frozenset({Kind.READ})), Caller(SOCKET, EVERYTHING)])


@pytest.mark.parametrize(("proof", "name"), [
    (Proof("Bearer v1"), "vision"),
    (Proof("bearer v2"), "vision"),
    (Proof("Bearer  o "), "ops"),
    (Proof(names=("spiffe://cluster/ops",), has_certificate=True), "ops"),
    (Proof(names=("x", "cn:old-ops"), has_certificate=True), "ops"),
    (Proof("Bearer v1", names=("spiffe://cluster/ops",), has_certificate=True), "vision"),
    (Proof("Bearer v1", by_socket=True), "vision"),
    (Proof(), ANONYMOUS),
    (Proof(by_socket=True), ANONYMOUS),
])
def test_who_calls(proof, name):
    assert ACCESS.identify(proof).name == name


def test_the_file_may_have_rules_for_those_who_prove_nothing():
    assert OPEN.identify(Proof(by_socket=True)).name == SOCKET
    assert OPEN.identify(Proof()).allow == {Kind.READ}
    assert OPEN.identify(Proof(names=("stranger",), has_certificate=True)).name == ANONYMOUS


@pytest.mark.parametrize("proof", [
    Proof("Bearer wrong"),
    Proof("Bearer "),
    Proof("v1"),
    Proof("Basic v1"),
    Proof("Bearer v1, Bearer v1"),
    Proof("Bearer " + "v" * 2000),
    Proof(f"Bearer {hash_of('v1')}"),
    # A wrong token is not passed over, whatever else there is.
    Proof("Bearer wrong", names=("spiffe://cluster/ops",), has_certificate=True),
    Proof("Bearer wrong", by_socket=True),
    # A common name does not count as an alternative name, nor the other way round.
    Proof(names=("old-ops",), has_certificate=True),
    Proof(names=("cn:spiffe://cluster/ops",), has_certificate=True),
])
def test_who_is_nobody(proof):
    with pytest.raises(Unauthenticated):
        ACCESS.identify(proof)


@pytest.mark.parametrize(("model", "seen"), [
    ("det", True), ("ocr-1", True), ("ocr-", True), ("detector", False), ("my-det", False),
    ("DET", False), ("", False), ("ocr", False), ("det\n", False),
])
def test_patterns_fit_whole_names(model, seen):
    assert VISION.sees(model) is seen
    if seen:
        VISION.check_model(model)
    else:
        with pytest.raises(PermissionDenied):
            VISION.check_model(model)


@pytest.mark.parametrize("kind", Kind)
def test_kinds(kind):
    OPS.check_kind(kind)
    nobody = ACCESS.identify(Proof())
    with pytest.raises(Unauthenticated, match="need a token"):
        nobody.check_kind(kind)
    if kind is not Kind.INFER:
        with pytest.raises(PermissionDenied, match=f"may not make {kind} calls"):
            VISION.check_kind(kind)


def test_refusals_name_nobody_else_and_no_other_model():
    said = []
    for attempt in (
        lambda: VISION.check_model("secret"), lambda: VISION.check_kind(Kind.CONTROL),
        lambda: ACCESS.identify(Proof("Bearer wrong")),
        lambda: ACCESS.identify(Proof(names=("x",), has_certificate=True)),
        lambda: ACCESS.identify(Proof()).check_kind(Kind.INFER),
    ):
        with pytest.raises((PermissionDenied, Unauthenticated)) as caught:
            attempt()
        said.append(str(caught.value))
    text = "\n".join(said)
    assert "ops" not in text
    assert "ocr" not in text
    assert "wrong" not in text, "a token must not come back in an error"
