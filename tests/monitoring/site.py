"""A real Prometheus beside the real daemon, asked over its HTTP interface."""

import json
import math
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.daemon_process import PATIENCE_S

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: trtserve
    static_configs: [{{targets: [{targets}], labels: {{namespace: here}}}}]
"""

VARIABLES = {
    "$namespace": ".*", "$job": ".*", "$instance": ".*", "$model": ".*",
    "$__rate_interval": "10s", "$__range": "30s",
}
"""What Grafana would put in their places."""


def filled(promql: str) -> str:
    """A panel's query as Grafana would send it, with everything chosen."""
    for variable, value in VARIABLES.items():
        promql = promql.replace(variable, value)
    return promql


class Prometheus:
    """One that runs."""

    def __init__(self, address: str) -> None:
        self._address = address

    def ask(self, path: str, **arguments: str) -> Any:
        """The data of an answer; None while it starts. Fails the test where it says no."""
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode()
            # Without a server behind it yet: it replays its log.
            if error.code != 503:
                raise AssertionError(f"{arguments}: {text}") from None
        except (urllib.error.URLError, ConnectionError):
            pass
        return None

    def values(self, query: str) -> list[float]:
        """The numbers that a query has now."""
        data = self.ask("query", query=query)
        if data is None:
            return []
        found = [float(series["value"][1]) for series in data["result"]]
        return [value for value in found if not math.isnan(value)]


@contextmanager
def prometheus(
    program: str, rules: Path, targets: Sequence[str], folder: Path
) -> Iterator[Prometheus]:
    """A Prometheus that scrapes these targets and evaluates these rules."""
    listed = ", ".join(f'"{target}"' for target in targets)
    configuration = folder / "prometheus.yml"
    configuration.write_text(CONFIG.format(rules=rules, targets=listed))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [program, f"--config.file={configuration}",
             f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"],
            stdout=log, stderr=log,
        )
    try:
        yield Prometheus(address)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
