"""Workers whose models come and go."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.worker.change_stand import ChangeStand
from trtserve.testing.device import FakeDevice


@pytest.fixture(params=[False, True], ids=["separate", "unified"])
def changing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChangeStand]:
    """A worker without models, where host and device share memory and where they do not."""
    found = ChangeStand(tmp_path, unified=request.param)
    yield found
    found.close()


@pytest.fixture
def make_changing(tmp_path: Path) -> Iterator[Callable[..., ChangeStand]]:
    """Makes such workers."""
    stands: list[ChangeStand] = []

    def make(device: FakeDevice | None = None, *, unified: bool = False) -> ChangeStand:
        stands.append(ChangeStand(tmp_path, device=device, unified=unified))
        return stands[-1]

    yield make
    for each in stands:
        each.close()
