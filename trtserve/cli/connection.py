"""How the commands that talk to a running daemon reach it."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from trtserve.errors import OperatorError

if TYPE_CHECKING:
    from trtserve.client import Client

DEFAULT_ADDRESS = "127.0.0.1:8001"

_PANEL = "Connection"
"""The heading of these options in --help."""

Address: TypeAlias = Annotated[str, typer.Option(
    "--address", envvar="TRTSERVE_ADDRESS", rich_help_panel=_PANEL,
    help="The daemon's gRPC address: HOST:PORT, or unix:PATH for a Unix socket.",
)]

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]

TlsCa: TypeAlias = Annotated[Path | None, typer.Option(
    "--tls-ca", envvar="TRTSERVE_CLIENT_CA", rich_help_panel=_PANEL,
    help="Speak TLS, and trust servers whose certificate is signed by one in this PEM file.",
)]
TlsCert: TypeAlias = Annotated[Path | None, typer.Option(
    "--tls-cert", envvar="TRTSERVE_CLIENT_CERT", rich_help_panel=_PANEL,
    help="A PEM file with the client's certificate, for a server that asks for one.",
)]
TlsKey: TypeAlias = Annotated[Path | None, typer.Option(
    "--tls-key", envvar="TRTSERVE_CLIENT_KEY", rich_help_panel=_PANEL,
    help="A PEM file with its key.",
)]
Token: TypeAlias = Annotated[str | None, typer.Option(
    "--token", envvar="TRTSERVE_TOKEN", rich_help_panel=_PANEL, show_default=False,
    help="A token that says who calls. Better in the environment: others can see command lines.",
)]


@dataclass(frozen=True, slots=True)
class _Proofs:
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    token: str | None = None


_proofs: ContextVar[_Proofs] = ContextVar("_proofs", default=_Proofs())  # noqa: B039 - frozen

_OPTIONS = {"tls_ca": TlsCa, "tls_cert": TlsCert, "tls_key": TlsKey, "token": Token}


def securely(command: Callable[..., Any], *, below: bool = False) -> Callable[..., Any]:
    """A command that has the options of TLS and tokens too, for `connect`, if it has an address;
    else the command itself. `below`: they may also stand before the command's name, after that of
    the command above it."""
    signature = inspect.signature(command)
    if "address" not in signature.parameters:
        return command

    @functools.wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in _OPTIONS}
        before = _proofs.get() if below else _Proofs()
        _proofs.set(replace(before, **{k: v for k, v in given.items() if v is not None}))
        return command(*arguments, **options)

    added = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
        )
        for name, annotation in _OPTIONS.items()
    ]
    shown: Any = wrapped  # typer reads the parameters and their types from these two
    shown.__signature__ = signature.replace(
        parameters=[*signature.parameters.values(), *added]
    )
    shown.__annotations__ = {**command.__annotations__, **_OPTIONS}
    return wrapped


@contextmanager
def connect(address: str) -> Iterator["Client"]:
    """A client, whose errors become errors for the operator."""
    # Here and not above: gRPC takes a while to import, and `trtserve --help` does not need it.
    from trtserve.client import Client, InferenceError, Security

    proofs = _proofs.get()
    try:
        security = Security(
            ca=proofs.tls_ca, certificate=proofs.tls_cert, key=proofs.tls_key, token=proofs.token
        )
        with Client(address, security=security) as client:
            yield client
    except InferenceError as error:
        wait = error.retry_after
        cure = f"Try again in {wait:g} s" if wait is not None else ""
        if error.code == "UNAUTHENTICATED":
            cure = "Give --token, or set TRTSERVE_TOKEN; `trtserve token` makes one"
        raise OperatorError(error.message, where=error.code, cure=cure) from error
