"""The gate that guarded calls pass: who calls, whether that caller may, and how often.

Where nothing is configured inference passes no gate, and costs nothing more.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from google.protobuf.message import DecodeError

from trtserve import clock
from trtserve.errors import (
    InvalidRequest,
    ModelNotFound,
    PermissionDenied,
    RateLimited,
    RequestError,
)
from trtserve.frontend.call import Call
from trtserve.model.catalog import Catalog
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.security.access import (
    COMMON_NAME,
    EVERYTHING,
    SOCKET,
    Access,
    Caller,
    Kind,
    Proof,
)
from trtserve.security.rates import Allowance
from trtserve.security.watched import Watched

MAX_REMEMBERED = 1024
"""Tokens whose callers are known without comparing them again, and heads whose models are."""

MAX_REMEMBERED_HEAD_BYTES = 4096

_LOOPBACK = ("ipv4:127.", "ipv6:[::1]:", "ipv6:%5B::1%5D:")
_UNIX = "unix:"

_EVERYBODY = Caller("everybody", frozenset({Kind.INFER, Kind.READ}))
_NEAR = Caller("everybody on this machine", frozenset({Kind.INFER, Kind.READ, Kind.DEBUG}))
_BY_SOCKET = Caller(SOCKET, EVERYTHING)


class Note(Protocol):
    """Writes a line about a refusal, at a bounded rate."""

    def __call__(self, error: RequestError, *, call: Call) -> None:
        """Write it."""


class Visit:
    """One call that has passed: for its requests."""

    __slots__ = ("_context", "_gate", "_kind", "_rules", "caller")

    def __init__(self, gate: "Gate", context: Any, kind: Kind, caller: Caller) -> None:
        self._gate = gate
        self._context = context
        self._kind = kind
        self._rules = gate.rules
        self.caller = caller

    def admit(self, head: bytes) -> None:
        """Let a request in by its head (wire.py). Raises Unauthenticated, PermissionDenied,
        ModelNotFound and RateLimited."""
        self.renew()
        self._gate.take(self.caller)  # before the head is parsed, which may take long
        self.check_model(self._gate.model_of(head))

    def renew(self) -> None:
        """Ask again where the rules have changed: a call may outlive the right to it. Raises
        Unauthenticated and PermissionDenied."""
        if self._rules != self._gate.rules:
            self.caller = self._gate.identify(self._context, self._kind)
            self._rules = self._gate.rules

    def check_model(self, model: str) -> None:
        """Raises PermissionDenied; ModelNotFound without other models' names."""
        self.caller.check_model(model)
        if model not in self._gate.catalog().models:
            raise ModelNotFound(f"no model '{model[:256]}'")


class Gate:
    """Knows the rules. `catalog` gives the models there are; `access` is None without a file.
    `note` writes a line about what is refused (refusals.py).

    `refused` counts what it turned away, by kind of call and the error's word; `rules` counts
    the access file's changes.
    """

    def __init__(
        self, access: Watched[Access] | None, *, control_on_tcp: bool = False,
        catalog: Callable[[], Catalog], note: Note, now: Callable[[], int] = clock.now_ns,
    ) -> None:
        self._note = note
        self.catalog = catalog
        self.refused: dict[tuple[str, str], int] = {}
        self.rules = 0
        self._access = access
        self._control_on_tcp = control_on_tcp
        self._now = now
        self._known: OrderedDict[bytes, Caller] = OrderedDict()
        self._models: dict[bytes, str] = {}
        self._allowances: dict[str, Allowance] = {}

    @property
    def guards_everything(self) -> bool:
        """Whether calls to infer and to read have to pass too."""
        return self._access is not None

    def changed(self) -> None:
        """The access file's rules are new: forget whose token was whose."""
        self.rules += 1
        self._known.clear()

    def call(self, context: Any, method: str) -> Call:
        """A call that brings requests for inference: each of them is asked about. Raises as
        `enter` does."""
        visit = self.enter(context, Kind.INFER, method)
        return Call(context, method, visit.caller.name, visit.admit)

    def enter(self, context: Any, kind: Kind, method: str) -> Visit:
        """Let a call in. Raises Unauthenticated and PermissionDenied, counted and logged."""
        try:
            return Visit(self, context, kind, self.identify(context, kind))
        except RequestError as error:
            key = (str(kind), error.word)
            self.refused[key] = self.refused.get(key, 0) + 1
            self._note(error, call=Call(context, method))
            raise

    def identify(self, context: Any, kind: Kind) -> Caller:
        """Who calls, if it may make such calls. Raises Unauthenticated and PermissionDenied."""
        caller = self._caller(context)
        if kind is Kind.CONTROL and not self._control_on_tcp and not _by_socket(context):
            raise PermissionDenied(
                "control calls are taken over the server's Unix socket only; its operator "
                "may allow them elsewhere (control_on_tcp)"
            )
        if caller in (_EVERYBODY, _NEAR) and kind not in caller.allow:
            raise PermissionDenied(
                f"{kind} calls are taken over the server's Unix socket and from its own "
                "machine only, unless its operator gives callers the right to them "
                "(access_file)"
            )
        caller.check_kind(kind)
        return caller

    def take(self, caller: Caller) -> None:
        """Count a request against a caller's rate. Raises RateLimited."""
        if caller.rate is None:
            return
        now = self._now()
        allowance = self._allowances.get(caller.name)
        if allowance is None or allowance.rate != caller.rate:
            allowance = self._allowances[caller.name] = Allowance(caller.rate)
        wait_ms = allowance.take(now)
        if wait_ms:
            raise RateLimited(
                f"this caller ('{caller.name}') may send {caller.rate.requests_per_second:g} "
                f"requests a second, {caller.rate.burst:g} at once", wait_ms,
            )

    def model_of(self, head: bytes) -> str:
        """The model that a request's head names. Raises InvalidRequest."""
        known = self._models.get(head)
        if known is not None:
            return known
        try:
            model = str(pb.ModelInferRequest.FromString(head).model_name)
        except DecodeError as error:
            raise InvalidRequest("the message is not a ModelInferRequest") from error
        if len(head) <= MAX_REMEMBERED_HEAD_BYTES:
            if len(self._models) >= MAX_REMEMBERED:
                self._models.pop(next(iter(self._models)))
            self._models[head] = model
        return model

    def _caller(self, context: Any) -> Caller:
        if self._access is None:
            if _by_socket(context):
                return _BY_SOCKET
            if self._control_on_tcp:
                return _BY_SOCKET
            return _NEAR if _on_this_machine(context) else _EVERYBODY
        authorization = _authorization(context)
        if authorization is None:
            return self._access.value.identify(_proof(context))
        key = hashlib.sha256(authorization.encode()).digest()
        known = self._known.get(key)
        if known is None:
            known = self._access.value.identify(Proof(authorization))
            if len(self._known) >= MAX_REMEMBERED:
                self._known.popitem(last=False)
            self._known[key] = known
        else:
            self._known.move_to_end(key)
        return known


def _authorization(context: Any) -> str | None:
    """The one that came. Two of them are as good as a wrong one."""
    found = None
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            found = value if found is None else f"{found}, {value}"
    return found


def _proof(context: Any) -> Proof:
    seen = context.auth_context()
    alternatives = [
        name.decode(errors="replace") for name in seen.get("x509_subject_alternative_name", ())
    ]
    # "cn:x" may be a URI in somebody's certificate, and is no common name then.
    names = [name for name in alternatives if not name.startswith(COMMON_NAME)]
    names += [
        COMMON_NAME + name.decode(errors="replace") for name in seen.get("x509_common_name", ())
    ]
    return Proof(
        names=tuple(names), has_certificate="x509_pem_cert" in seen,
        by_socket=_by_socket(context),
    )


def _by_socket(context: Any) -> bool:
    return bool(context.peer().startswith(_UNIX))


def _on_this_machine(context: Any) -> bool:
    return bool(context.peer().startswith(_LOOPBACK))
