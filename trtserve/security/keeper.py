"""The last good contents of the files that the settings name, for processes that start later.

A front end that dies while the files are broken, or have expired, could else not start again. The
supervisor keeps what it could read last, in memory only, and gives it to each front end; it is
used where the files are not.
"""

import msgspec

from trtserve.clock import NS_PER_S
from trtserve.security.access import Access
from trtserve.security.certificates import Identity
from trtserve.security.watched import Watched

LOOK_EVERY_NS = NS_PER_S


class Kept(msgspec.Struct, frozen=True):
    """The certificate and its key, and the access file's text; None without the setting."""

    identity: Identity | None = None
    access: str | None = None

    def __repr__(self) -> str:
        return "Kept(...)"  # it holds a key


NOTHING = Kept()


class Keeper:
    """The supervisor's view of the files."""

    def __init__(
        self, identity: Watched[Identity] | None, access: Watched[Access] | None
    ) -> None:
        self.identity = identity
        self._access = access
        self._looked_ns = 0

    def turn(self, now: int) -> None:
        """Take up changed files, once a second."""
        if now - self._looked_ns < LOOK_EVERY_NS:
            return
        self._looked_ns = now
        for watched in (self.identity, self._access):
            if watched is not None:
                watched.look()

    def contents(self) -> bytes:
        """What a front end gets, for `kept`."""
        return msgspec.msgpack.encode(Kept(
            self.identity.value if self.identity is not None else None,
            self._access.value.text if self._access is not None else None,
        ))


def kept(contents: bytes) -> Kept:
    """What the supervisor sent; nothing, if it had nothing to send."""
    return msgspec.msgpack.decode(contents, type=Kept) if contents else NOTHING
