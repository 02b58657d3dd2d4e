"""How the commands that talk to a running daemon reach it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from trtserve.errors import OperatorError

if TYPE_CHECKING:
    from trtserve.client import Client

DEFAULT_ADDRESS = "127.0.0.1:8001"

Address: TypeAlias = Annotated[str, typer.Option(
    "--address", envvar="TRTSERVE_ADDRESS",
    help="The daemon's gRPC address: HOST:PORT, or unix:PATH for a Unix socket.",
)]

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@contextmanager
def connect(address: str) -> Iterator["Client"]:
    """A client, whose errors become errors for the operator."""
    # Here and not above: gRPC takes a while to import, and `trtserve --help` does not need it.
    from trtserve.client import Client, InferenceError

    with Client(address) as client:
        try:
            yield client
        except InferenceError as error:
            wait = error.retry_after
            cure = f"Try again in {wait:g} s" if wait is not None else ""
            raise OperatorError(error.message, where=error.code, cure=cure) from error
