"""Ports, socket paths and the ready file: taken with clear errors, given back in the end."""

import json
import socket
import stat
from contextlib import ExitStack

import pytest

from trtserve.errors import ConfigurationError, OperatorError
from trtserve.supervisor.listen import ReadyFile, netloc, reserved_port, unix_socket_path


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", "127.0.0.1:1"), ("::1", "[::1]:1"), ("localhost", "localhost:1")],
)
def test_netloc(host, expected):
    assert netloc(host, 1) == expected


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "0.0.0.0", "::"])
def test_front_ends_can_share_a_reserved_port(host):
    with reserved_port(host, 0) as port, ExitStack() as stack:
        assert port > 0
        for _ in range(2):
            family, kind, _, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            sock = stack.enter_context(socket.socket(family, kind))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
            sock.listen()


def test_a_second_daemon_is_refused_though_nobody_listens_yet():
    with (
        reserved_port("127.0.0.1", 0) as port,
        pytest.raises(OperatorError, match=r"another server has this port.*--grpc-port"),
        reserved_port("127.0.0.1", port),
    ):
        pass


def test_a_port_can_be_had_again():
    with reserved_port("127.0.0.1", 0) as port:
        pass
    with reserved_port("127.0.0.1", port) as again:
        assert again == port


@pytest.mark.parametrize(
    ("host", "error"),
    [("no.such.host.invalid", ConfigurationError), ("192.0.2.1", OperatorError)],
)
def test_hosts_that_are_not_this_machine(host, error):
    with pytest.raises(error, match="address"), reserved_port(host, 0):
        pass


def test_a_stale_socket_is_replaced_and_removed_at_the_end(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    with unix_socket_path(str(path)) as given, socket.socket(socket.AF_UNIX) as sock:
        assert given == str(path)
        sock.bind(given)
    assert not path.exists()


def test_a_socket_that_answers_is_left_alone(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(OperatorError, match="another server answers"), \
                unix_socket_path(str(path)):
            pass
        assert stat.S_ISSOCK(path.stat().st_mode)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "s"
    path.write_text("mine")
    with pytest.raises(OperatorError, match="not a socket"), unix_socket_path(str(path)):
        pass
    assert path.read_text() == "mine"


def test_no_directory_for_the_socket(tmp_path):
    with pytest.raises(OperatorError, match="no such directory"), \
            unix_socket_path(str(tmp_path / "no" / "s")):
        pass


def test_the_ready_file_is_there_only_while_it_is_true(tmp_path):
    path = tmp_path / "ready"
    path.write_text("old")
    with ReadyFile(str(path)) as ready:
        assert not path.exists()
        ready.write({"grpc": "here"})
        assert json.loads(path.read_text()) == {"grpc": "here"}
        assert list(tmp_path.iterdir()) == [path]
    assert not path.exists()


def test_no_directory_for_the_ready_file(tmp_path):
    with pytest.raises(OperatorError, match="--ready-file"), ReadyFile(str(tmp_path / "no/ready")):
        pass


def test_without_a_path_nothing_is_written():
    with ReadyFile(None) as ready:
        ready.write({})
    with unix_socket_path(None) as path:
        assert path is None
