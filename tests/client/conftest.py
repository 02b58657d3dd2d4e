"""The server that clients are tried against."""

from tests.client.echo_server import address, server

__all__ = ["address", "server"]
