"""`trtserve models`: what a running daemon serves."""

from typing import TYPE_CHECKING

from trtserve.cli.connection import DEFAULT_ADDRESS, Address, Json, connect
from trtserve.cli.output import print_json, print_line, print_table

if TYPE_CHECKING:
    from trtserve.client import Client, ModelInfo, ModelStatus


def models(address: Address = DEFAULT_ADDRESS, json: Json = False) -> None:
    """List the models of a running daemon: states, and what they take and give."""
    with connect(address) as client:
        listed = [(status, _info(client, status)) for status in client.models()]
    if json:
        print_json([
            {"name": s.name, "version": s.version, "state": s.state, "reason": s.reason,
             "inputs": info.inputs if info else (), "outputs": info.outputs if info else ()}
            for s, info in listed
        ])
        return
    print_table(
        ("model", "version", "state", "reason", "inputs", "outputs"),
        [
            (s.name, s.version, s.state, s.reason,
             "\n".join(map(str, info.inputs)) if info else "",
             "\n".join(map(str, info.outputs)) if info else "")
            for s, info in listed
        ],
    )
    if not listed:
        print_line("no models")


def _info(client: "Client", status: "ModelStatus") -> "ModelInfo | None":
    """What a ready model takes and gives; None where it is not ready (any more)."""
    from trtserve.client import NotFound, Unavailable

    if status.state != "READY":
        return None
    try:
        return client.metadata(status.name, status.version)
    except (NotFound, Unavailable):
        return None
