"""What the HTTP port's clients may take, with real sockets."""

import io
import resource
import socket
from contextlib import ExitStack, closing

import pytest

from tests.supervisor.test_http import Loop
from trtserve.supervisor.exposition import Exposition
from trtserve.supervisor.http import HttpServer
from trtserve.supervisor.http_connections import (
    MAX_CONNECTIONS,
    MAX_REQUEST_BYTES,
    Bounded,
    Connections,
)

PATIENCE_S = 30


@pytest.fixture
def port():
    server = HttpServer(Loop(), Exposition(1))
    with closing(server):
        found = server.open("127.0.0.1", 0)
        server.start()
        yield found


def asked(port, head=b"GET /livez HTTP/1.1\r\n\r\n"):
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        try:
            connection.sendall(head)
            return connection.makefile("rb").read().split(b"\r\n")[0]
        except ConnectionError:
            return b""


def test_the_oldest_makes_room_for_the_newest():
    open_ones = Connections(limit=2)
    with ExitStack() as stack:
        pairs = []
        for _ in range(3):
            pair = socket.socketpair()
            pairs.append(pair)
            for end in pair:
                end.settimeout(PATIENCE_S)
                stack.enter_context(end)
        for ours, _ in pairs[:2]:
            open_ones.add(ours)
        open_ones.remove(pairs[0][0])
        open_ones.add(pairs[2][0])
        for ours, theirs in pairs:
            ours.sendall(b"here")
            assert theirs.recv(4) == b"here"
        open_ones.add(pairs[0][0])
        assert pairs[1][1].recv(1) == b"", "it was the oldest"


def test_a_request_is_bounded():
    file = Bounded(io.BytesIO(b"abc\n" + b"x" * 100), limit=10)
    assert file.readline(100) == b"abc\n"
    with pytest.raises(OSError, match="too large"):
        file.readline(100)


def test_many_who_say_nothing_keep_no_probe_out(port):
    with ExitStack() as stack:
        for _ in range(2 * MAX_CONNECTIONS):
            silent = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
            stack.enter_context(silent).sendall(b"G")
        assert asked(port).endswith(b"200 OK")


def test_a_request_without_end_is_cut_off(port):
    line = b"X-Much: " + b"x" * 1000 + b"\r\n"
    head = b"GET /livez HTTP/1.1\r\n"
    assert asked(port, head + line * 10 + b"\r\n").endswith(b"200 OK")
    assert asked(port, head + line * (MAX_REQUEST_BYTES // 1000 + 1) + b"\r\n") == b""


def test_it_outlives_a_time_without_files(port):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as waiting:
        used = waiting.fileno()
        with socket.socket() as late:
            late.settimeout(PATIENCE_S)
            resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
            try:
                late.connect(("127.0.0.1", port))
                late.sendall(b"GET /livez HTTP/1.1\r\n\r\n")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert b"200 OK" in late.recv(100)
        assert asked(port).endswith(b"200 OK")
