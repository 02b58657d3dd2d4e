"""Fixtures for all tests."""

import os
import shutil

import pytest


def _tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        message = f"{name} is missing; install it with: apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus's checker. CI must have it; elsewhere a test without it is skipped, aloud."""
    return _tool("promtool", "prometheus")


@pytest.fixture(scope="session")
def prometheus() -> str:
    """The Prometheus server, likewise."""
    return _tool("prometheus", "prometheus")
