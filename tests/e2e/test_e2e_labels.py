"""Versions by label and by weight, through the real daemon."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from tests.e2e.daemon_process import Daemon, running
from trtserve.client import Client, Item, NotFound, Result
from trtserve.testing import models

X = np.zeros((1, 2), np.float32)

CONFIG = """\
version_policy: {specific: {versions: [1, 2, 3]}}
parameters:
  version_labels: {string_value: "stable=1, canary=2"}
  version_weights: {string_value: "1=3, 2=1"}
"""


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A model of three versions; version n adds n."""
    folder = tmp_path_factory.mktemp("split")
    for version in (1, 2, 3):
        there = folder / "models" / "plus" / str(version)
        there.mkdir(parents=True)
        partial(models.make_add, value=float(version), shape=("N", "M"))(str(there / "m.onnx"))
    (folder / "models" / "plus" / "config.yaml").write_text(CONFIG)
    with running(folder / "models", folder) as daemon:
        yield daemon


def command(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trtserve", *arguments, "--address", daemon.grpc],
        capture_output=True, text=True, timeout=60, check=False,
    )


def test_a_label_in_place_of_the_number(split):
    with Client(split.grpc) as client:
        for name, version in (("stable", "1"), ("canary", "2"), ("3", "3"), (3, "3")):
            result = client.infer("plus", {"x": X}, version=name)
            assert result.version == version
            assert result["y"][0, 0] == float(version)
            assert client.metadata("plus", name).versions == ("1", "2", "3")
            assert client.model_ready("plus", name)
        assert not client.model_ready("plus", "beta")
        with pytest.raises(NotFound, match=r"it has 1, 2, 3, and the labels stable \(1\), canary"):
            client.infer("plus", {"x": X}, version="beta")


def test_weights_split_what_names_no_version(split):
    with Client(split.grpc) as client:
        calls = Counter(client.infer("plus", {"x": X}).version for _ in range(20))
        items = [Item("plus", {"x": X}) for _ in range(20)]
        results = client.infer_many(items)
    batches = Counter(result.version for result in results if isinstance(result, Result))
    assert calls == batches == {"1": 15, "2": 5}


def test_the_command_line_knows_labels(split):
    listed = json.loads(command(split, "models", "--json").stdout)
    assert [(each["version"], each["labels"], each["weight"]) for each in listed] == [
        ("1", ["stable"], 3), ("2", ["canary"], 1), ("3", [], 0)
    ]
    assert "canary (1)" in command(split, "models").stdout
    ran = command(split, "infer", "plus", "--input", "x=zeros:1x2", "--version", "canary", "--json")
    assert json.loads(ran.stdout)["version"] == "2"
    wrong = command(split, "infer", "plus", "--input", "x=zeros:1x2", "--version", "beta")
    assert wrong.returncode != 0
    assert "canary (2)" in wrong.stderr.replace("\n", " ")
