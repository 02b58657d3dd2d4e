"""What end-to-end tests share: one daemon with small models of many kinds, and starting others."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import grpc
import pytest

from tests.e2e.daemon_process import Daemon, running
from tests.e2e.repositories import add_look_up, add_model, add_plus, add_work
from trtserve.client import Client
from trtserve.testing import models

HOUSE_MESSAGE_BYTES = 1 << 20
"""The house daemon's largest message: small, so that a larger one is quickly made."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here starts the daemon."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("e2e")


def fill_house(repository: Path) -> None:
    """Models of the house daemon."""
    add_plus(repository)
    add_work(repository)
    add_look_up(repository)
    add_look_up(repository, "untried_look_up")
    for name, datatype in (("text", "BYTES"), ("half", "FP16"), ("brain", "BF16")):
        make = partial(models.make_identity, shape=("N", 3), datatype=datatype)
        add_model(repository, name, make)
    for name, size in (("small", 8), ("large", 16)):
        make = partial(models.make_add, value=1.0, shape=("N", size, size))
        add_model(repository, "sized", make, file=f"{name}.onnx")


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that many tests share, each leaving it as it was: idle, with nobody killed."""
    folder = tmp_path_factory.mktemp("house")
    fill_house(folder / "models")
    flags = ("--max-message-bytes", str(HOUSE_MESSAGE_BYTES), "--arena-bytes", str(64 << 20))
    with running(folder / "models", folder, *flags) as daemon:
        yield daemon


@pytest.fixture
def client(house: Daemon) -> Iterator[Client]:
    """A client of the house daemon that repeats nothing."""
    with Client(house.grpc, retry=False) as client:
        yield client


@pytest.fixture
def channel(house: Daemon) -> Iterator[grpc.Channel]:
    """A bare gRPC channel to the house daemon."""
    with grpc.insecure_channel(house.grpc) as channel:
        yield channel


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Start daemons that do not outlive the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(
            running(tmp_path / "models", tmp_path, *arguments, **options)
        )
