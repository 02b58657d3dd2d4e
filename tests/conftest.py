"""Fixtures for all tests."""

import shutil
import signal

import pytest


def pytest_configure() -> None:
    """Have SIGINT end children: they inherit that it is ignored, as shells set it for jobs in the
    background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is missing: apt-get install prometheus, or `make test`, which gets it "
                    f"where apt-get can")
    return found


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus's checker. A test without it is skipped, aloud."""
    return _tool("promtool")


@pytest.fixture(scope="session")
def prometheus() -> str:
    """The Prometheus server, likewise."""
    return _tool("prometheus")
