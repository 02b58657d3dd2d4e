"""How a client trusts its server, and proves who it is."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from trtserve.client.errors import InvalidArgument

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Security:
    """TLS and a token; either goes without the other.

    With `tls` the server's certificate has to be signed by one of those in the file `ca`, or by
    one that the system trusts where there is none. `certificate` and `key` are files with the
    client's own pair, for servers that ask for one. All files are PEM. `token` is sent with each
    call: without TLS everybody on the way can read it.
    """

    tls: bool = False
    ca: Path | str | None = None
    certificate: Path | str | None = None
    key: Path | str | None = None
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidArgument("a client certificate and its key go together: give both")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            # gRPC would say that metadata is invalid, and show the token.
            raise InvalidArgument("the token holds characters that no token has, such as a line's "
                                  "end: give it as `trtserve token` showed it")

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken: asked for, or of use for a file that is given."""
        return self.tls or self.ca is not None or self.certificate is not None

    @property
    def metadata(self) -> Metadata:
        """What every call carries."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)


NO_SECURITY = Security()


def open_channel(
    api: Any, address: str, options: list[tuple[str, Any]], security: Security
) -> Any:
    """A channel of the sync (`grpc`) or the asyncio API (`grpc.aio`).

    Raises InvalidArgument for a file that can not be read.
    """
    if not security.secure:
        return api.insecure_channel(address, options=options)
    credentials = grpc.ssl_channel_credentials(
        _read(security.ca), _read(security.key), _read(security.certificate)
    )
    return api.secure_channel(address, credentials, options=options)


def _read(path: Path | str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{path} can not be read: {error.strerror}") from error
