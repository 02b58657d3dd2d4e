"""The HTTP port, with a supervisor's loop that is played by the test."""

import base64
import hashlib
import json
import re
import socket
import urllib.error
import urllib.request
from contextlib import closing

import pytest

from tests.supervisor.snapshots import NASTY, snapshot
from trtserve.clock import now_ns
from trtserve.errors import OperatorError
from trtserve.supervisor.exposition import Exposition
from trtserve.supervisor.http import LIVE_NS, HttpServer


class Loop:
    """Answers as the supervisor's loop would."""

    def __init__(self):
        self.turned_ns = now_ns()
        self.answer = snapshot()
        self.fresh = []
        self.watching = 0

    def snapshot(self, fresh, watching=False):
        self.fresh.append(fresh)
        self.watching += watching
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture(params=["127.0.0.1", "::1"])
def get(request, loop):
    server = HttpServer(loop, Exposition(1))
    with closing(server):
        host = f"[{request.param}]" if ":" in request.param else request.param
        port = server.open(request.param, 0)
        server.start()

        def get(path, method="GET"):
            url = urllib.request.Request(f"http://{host}:{port}{path}", method=method)
            try:
                with urllib.request.urlopen(url, timeout=30) as answer:
                    return answer.status, answer.headers, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.headers, error.read().decode()

        yield get


def test_metrics_come_from_a_fresh_snapshot(get, loop):
    status, headers, body = get("/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "trtserve_ready 0.0" in body
    assert loop.fresh == [True]


def test_live_while_the_loop_turns(get, loop):
    assert get("/livez")[0] == 200
    loop.turned_ns = now_ns() - LIVE_NS
    assert get("/livez")[0] == 503
    assert loop.fresh == []


def test_ready_or_why_not(get, loop):
    status, _, body = get("/readyz")
    assert status == 503
    assert body == f"not ready: model {NASTY} is broken\n"
    loop.answer = loop.answer.__class__(
        loop.answer.addresses, True, (), (), (), loop.answer.statistics
    )
    assert get("/readyz")[::2] == (200, "ready\n")


def test_a_loop_that_does_not_answer(get, loop):
    loop.answer = TimeoutError()
    assert get("/readyz")[0] == 503
    assert get("/metrics")[0] == 503
    loop.answer = ValueError("a bug")
    assert get("/metrics")[0] == 500


@pytest.mark.parametrize("path", ["/", "/status", "/status/tables", "/docs"])
def test_pages_have_a_strict_policy(get, path):
    status, headers, body = get(path)
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        for content in re.findall(f"<{tag}>(.*?)</{tag}>", body, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"{directive} 'sha256-{digest}'" in policy


def test_the_status_for_scripts(get, loop):
    status, headers, body = get("/status.json")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body)["not_ready"] == [f"model {NASTY} is broken"]
    assert get("/status.json?after=12")[0] == 200
    for wrong in ("x", "-1", "1" * 40):
        assert get(f"/status.json?after={wrong}")[0] == 400
    assert "Content-Security-Policy" not in headers


def test_all_who_look_at_once_cost_one_question(get, loop):
    for path in ("/", "/status.json", "/status/tables", "/"):
        assert get(path)[0] == 200
    assert loop.fresh == [True]
    assert loop.watching == 1


def test_other_paths_and_methods_are_refused(get):
    status, _, body = get("/nothing")
    assert status == 404
    assert "/metrics" in body
    status, headers, _ = get("/metrics", "POST")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_head_has_the_length_and_no_body(get):
    for path in ("/metrics", "/livez", "/"):
        status, headers, body = get(path, "HEAD")
        assert (status, body) == (200, "")
        assert int(headers["Content-Length"]) > 0


def test_a_port_in_use_is_a_clear_error(loop):
    with socket.socket() as other, closing(HttpServer(loop, Exposition(1))) as server:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OperatorError, match=r"another server has this port.*--http-port"):
            server.open("127.0.0.1", other.getsockname()[1])
