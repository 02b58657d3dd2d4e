"""The places that the daemon takes: TCP ports, a Unix socket's path, the ready file.

Each is a context manager that gives the place back, so that nothing is left behind.
"""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from trtserve.errors import ConfigurationError, OperatorError

Address = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
"""What getaddrinfo gives for IPv4, for IPv6, and where Python lacks IPv6."""


def netloc(host: str, port: int) -> str:
    """`HOST:PORT`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextmanager
def reserved_port(host: str, port: int) -> Iterator[int]:
    """Hold a TCP port, without listening, for several processes to share by SO_REUSEPORT.

    Gives the port, which is a free one for 0. Raises OperatorError when somebody has it: that
    is found by binding without SO_REUSEPORT first, because with it two daemons would share the
    port in silence. The reservation lacks SO_REUSEADDR, so that this test of another daemon
    finds it even before anybody listens.
    """
    family, address = resolve(host, port)
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Connections of an earlier server that linger in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bind(probe, address, "grpc_port")
    with socket.socket(family, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bind(holder, address, "grpc_port")
        yield int(holder.getsockname()[1])


def resolve(host: str, port: int) -> tuple[socket.AddressFamily, Address]:
    """The address family and the address to bind. Raises ConfigurationError for a bad host."""
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigurationError(
            f"'{host}' is no address of this machine: {error}", where="host",
            cure="Use 127.0.0.1 for this machine only, 0.0.0.0 or :: for all networks",
        ) from error
    return found[0], found[4]


def bind(sock: socket.socket, address: Address, setting: str) -> None:
    """Bind a socket. Raises OperatorError with the cause and the cure."""
    try:
        sock.bind(address)
    except OSError as error:
        where = netloc(str(address[0]), int(address[1]))
        flag = "--" + setting.replace("_", "-")
        cures = {
            errno.EADDRINUSE: f"Stop the other server, or choose another port with {flag}",
            errno.EACCES: f"Choose a port above 1023 with {flag}",
            errno.EADDRNOTAVAIL: "Choose an address of this machine with --host",
        }
        problem = {
            errno.EADDRINUSE: "another server has this port",
            errno.EADDRNOTAVAIL: "this machine has no such address",
        }.get(error.errno or 0, os.strerror(error.errno or 0))
        raise OperatorError(
            problem, where=where, cure=cures.get(error.errno or 0, "")
        ) from error


@contextmanager
def unix_socket_path(path: str | None) -> Iterator[str | None]:
    """Make sure that a Unix socket can be made at a path, and remove it at the end.

    Gives the absolute path. Removes a socket on which nobody answers. Raises OperatorError if
    somebody does, or if something else is there.
    """
    if path is None:
        yield None
        return
    place = Path(path).absolute()
    try:
        _clear(place)
    except OSError as error:
        raise _unusable(place, "socket", error) from error
    try:
        yield str(place)
    finally:
        place.unlink(missing_ok=True)


def _clear(place: Path) -> None:
    """Remove a stale socket."""
    if not place.parent.is_dir():
        raise OperatorError(
            "there is no such directory", where=str(place.parent), cure="Make it first"
        )
    if not place.exists() and not place.is_symlink():
        return
    if not stat.S_ISSOCK(place.lstat().st_mode):
        raise OperatorError(
            "this exists and is not a socket", where=str(place),
            cure="Choose another path with --socket",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(place))
        except ConnectionRefusedError:
            place.unlink()
            return
    raise OperatorError(
        "another server answers on this socket", where=str(place),
        cure="Stop it, or choose another path with --socket",
    )


class ReadyFile:
    """A file that says where the daemon is, there only while it serves."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path).absolute() if path is not None else None

    def __enter__(self) -> "ReadyFile":
        """Remove what an earlier daemon left. Raises OperatorError if the path is no good."""
        self._remove()
        if self._path is not None and not os.access(self._path.parent, os.W_OK):
            raise OperatorError(
                "the ready file can not be written here", where=str(self._path.parent),
                cure="Make the directory, or choose another path with --ready-file",
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def write(self, content: dict[str, object]) -> None:
        """Write it as JSON, all at once: whoever sees the file sees all of it."""
        if self._path is None:
            return
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            draft.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
            draft.replace(self._path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise _unusable(self._path, "ready-file", error) from error

    def _remove(self) -> None:
        if self._path is None:
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise _unusable(self._path, "ready-file", error) from error


def _unusable(place: Path, flag: str, error: OSError) -> OperatorError:
    return OperatorError(
        os.strerror(error.errno or 0), where=str(place), cure=f"Choose another path with --{flag}"
    )
