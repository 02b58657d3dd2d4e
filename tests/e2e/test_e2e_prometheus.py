"""The metrics, read by Prometheus's own programs."""

import json
import socket
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.daemon_process import PATIENCE_S, Daemon
from trtserve.client import Client

CONFIG = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
  - job_name: trtserve
    static_configs: [{{targets: ["{target}"]}}]
"""

PROMTOOL_LINT = 3
"""promtool's exit code where everything parses and only style is wanting."""


@pytest.fixture(scope="module")
def traffic(house: Daemon) -> Iterator[None]:
    """Requests to `plus`, one after the other, as long as the tests here run."""
    over = threading.Event()

    def ask() -> None:
        with Client(house.grpc) as client:
            while not over.wait(0.01):
                client.infer("plus", {"x": np.zeros((2, 4), np.float32)})

    thread = threading.Thread(target=ask)
    thread.start()
    yield
    over.set()
    thread.join()


@contextmanager
def scraping(program: str, target: str, folder: Path, *flags: str) -> Iterator[str]:
    """A Prometheus that scrapes the daemon: its address."""
    (folder / "prometheus.yml").write_text(CONFIG.format(target=target))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, f"--config.file={folder / 'prometheus.yml'}",
             f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}",
             *flags],
            stdout=log, stderr=log,
        )
    try:
        yield address
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def value(address: str, query: str) -> float | None:
    """The first value that a query has now; None without one that is a number above 0."""
    url = f"http://{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            result = json.load(answer)["data"]["result"]
    except (urllib.error.URLError, ConnectionError):  # it is starting
        return None
    found = float(result[0]["value"][1]) if result else 0.0
    return found if found > 0 else None


def test_prometheus_scrapes_and_answers_queries(house, traffic, tmp_path, prometheus):
    with scraping(prometheus, str(house.ready["http"]), tmp_path) as address:
        def until(query: str) -> float:
            return house.until(lambda: value(address, query), query) or 0.0

        assert until('up{job="trtserve"}') == 1
        assert until('rate(nv_inference_count{model="plus"}[5s])') > 1
        assert until('rate(trtserve_requests_total{model="plus",outcome="ok"}[5s])') > 1
        median = until(
            "histogram_quantile(0.5, sum by (le, model) "
            '(rate(trtserve_request_duration_seconds_bucket{model="plus"}[5s])))'
        )
        assert 0 < median < 10
        assert until('trtserve_model_state{model="plus",state="READY"}') == 1


def test_promtool_finds_nothing_but_tritons_own_names(house, traffic, promtool):
    _, metrics = house.get("/metrics")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=metrics, capture_output=True, text=True,
        check=False,
    )
    assert done.returncode in (0, PROMTOOL_LINT), done.stderr
    complaints = [line for line in done.stderr.splitlines() if line.strip()]
    assert not [line for line in complaints if not line.startswith("nv_")]
