"""Tests in this folder need a CUDA device: they are marked `gpu`, and skipped where none is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from trtserve.device.cuda import CudaDevice
from trtserve.device.probe import probe_in_child

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session", autouse=True)
def cuda_devices() -> int:
    """How many devices there are."""
    found = probe_in_child()
    if found.problem:
        pytest.skip(found.problem)
    return len(found.devices)


@pytest.fixture
def device() -> Iterator[CudaDevice]:
    """The first device, which this thread has entered."""
    device = CudaDevice(0)
    yield device
    device.close()
