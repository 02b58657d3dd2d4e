"""The rules of who may do what, as values. Pure: access_file.py reads them, the gate asks.

A caller is whoever proves to be one: by a token, by a client certificate, or by nothing, as
`anonymous`. The Unix socket's callers without a token are `socket`: the kernel has let them in.
"""

import fnmatch
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from trtserve.errors import PermissionDenied, Unauthenticated
from trtserve.security.rates import Rate
from trtserve.security.tokens import MAX_TOKEN_CHARACTERS, hash_of

ANONYMOUS = "anonymous"
SOCKET = "socket"

COMMON_NAME = "cn:"
"""In front of a certificate's common name; all else is compared with its alternative names."""


EVERY_MODEL = ("*",)
"""The patterns of a caller that may use all models."""


class Kind(StrEnum):
    """What calls do."""

    INFER = "infer"
    READ = "read"
    CONTROL = "control"
    DEBUG = "debug"


@dataclass(frozen=True)
class Caller:
    """One caller and its rights. `models` are patterns as those of a shell."""

    name: str
    allow: frozenset[Kind]
    models: tuple[str, ...] = EVERY_MODEL
    tokens: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    rate: Rate | None = None
    _pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        whole = "|".join(map(fnmatch.translate, self.models)) or "(?!)"
        object.__setattr__(self, "_pattern", re.compile(whole))

    @property
    def known(self) -> bool:
        """Whether it has proved who it is."""
        return self.name != ANONYMOUS

    def sees(self, model: str) -> bool:
        """Whether it may have anything to do with a model."""
        return self._pattern.match(model) is not None

    def check_kind(self, kind: Kind) -> None:
        """Raises Unauthenticated or PermissionDenied."""
        if kind in self.allow:
            return
        if not self.known:
            raise Unauthenticated(
                f"{kind} calls need a token or a client certificate; send the token in the "
                f"metadata 'authorization' as 'Bearer TOKEN'"
            )
        raise PermissionDenied(f"this caller ('{self.name}') may not make {kind} calls")

    def check_model(self, model: str) -> None:
        """Raises PermissionDenied, alike for models that are there and that are not."""
        if not self.sees(model):
            raise PermissionDenied(
                f"this caller ('{self.name}') may not use a model named '{model[:256]}'"
            )


NOBODY = Caller(ANONYMOUS, frozenset(), models=())
"""Who has proved nothing, where the file has no rules for that."""

EVERYTHING = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class Proof:
    """What a call shows of who makes it: its metadata, its certificate, its way in."""

    authorization: str | None = None
    names: tuple[str, ...] = ()
    """The client certificate's alternative names, and its common name with `cn:` in front."""
    has_certificate: bool = False
    by_socket: bool = False


class Access:
    """All callers. Immutable. `text` is what they were read from."""

    def __init__(self, callers: Iterable[Caller], text: str = "") -> None:
        self.callers = tuple(callers)
        self.text = text
        self._hashes = [(hashed, c) for c in self.callers for hashed in c.tokens]
        self._names = {name: c for c in self.callers for name in c.certificates}
        by_name = {c.name: c for c in self.callers}
        self._anonymous = by_name.get(ANONYMOUS, NOBODY)
        self._socket = by_name.get(SOCKET, self._anonymous)

    def identify(self, proof: Proof) -> Caller:
        """Who calls. A token counts before a certificate, and a wrong one is never passed over.

        Raises Unauthenticated.
        """
        if proof.authorization is not None:
            return self.of_token(bearer_token(proof.authorization))
        for name in proof.names:
            if name in self._names:
                return self._names[name]
        if proof.by_socket:
            return self._socket
        if proof.has_certificate and self._anonymous is NOBODY:
            raise Unauthenticated("the client certificate is not one that may call here")
        return self._anonymous

    def of_token(self, token: str) -> Caller:
        """Whose token it is, compared with all of them in a time that tells nothing.

        Raises Unauthenticated.
        """
        hashed = hash_of(token)
        found = None
        for known, caller in self._hashes:
            if hmac.compare_digest(known, hashed):
                found = caller
        if found is None:
            raise Unauthenticated("the token is not known here")
        return found


def bearer_token(authorization: str) -> str:
    """The token of a metadata value. Raises Unauthenticated."""
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN_CHARACTERS:
        raise Unauthenticated("the metadata 'authorization' has to be 'Bearer TOKEN'")
    return token
