"""What the threat model promises: defaults, and that the tests it names are there."""

import re
from pathlib import Path

import pytest

from trtserve.config import Settings
from trtserve.frontend import wire
from trtserve.frontend.server import (
    KEEPALIVE_SECONDS,
    KEEPALIVE_TIMEOUT_SECONDS,
    MAX_METADATA_BYTES,
)
from trtserve.frontend.template import MAX_PARAMETERS
from trtserve.model.tensor import MAX_RANK
from trtserve.security.access_file import parse_access
from trtserve.security.tokens import MAX_TOKEN_CHARACTERS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()


def test_nothing_is_open_by_default():
    defaults = Settings(repository="")
    assert defaults.host == "127.0.0.1"
    assert defaults.socket_mode == "0600"
    assert defaults.model_control_mode == "none"
    for name in ("control_on_tcp", "allow_config_override", "allow_file_override",
                 "allow_writable_plans", "allow_engine_host_code"):
        assert getattr(defaults, name) is False, name


def section(title):
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)


def test_every_class_of_flaws_names_a_test():
    rows = [line for line in section("Classes of flaws").splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 12
    assert not [row for row in rows if "tests/" not in row.rsplit("|", 2)[1]]


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_the_tests_that_are_named_exist(file, test):
    source = (ROOT / file).read_text()
    assert not test or f"def {test}(" in source


def test_the_example_of_an_access_file_is_good():
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)
    assert [caller.name for caller in parse_access(example, "access.yaml").callers] == [
        "vision", "deployer", "socket", "anonymous"
    ]


@pytest.mark.parametrize(("row", "number"), [
    ("metadata of a call", f"{MAX_METADATA_BYTES // 1024} KiB"),
    ("requests in one InferBatch", f"{wire.MAX_BATCH_ITEMS:,}"),
    ("fields of a request", str(wire.MAX_FIELDS)),
    ("parameters of a request", str(MAX_PARAMETERS)),
    ("dimensions of a tensor", str(MAX_RANK)),
    ("a token", str(MAX_TOKEN_CHARACTERS)),
    ("connections of a front end", str(Settings(repository="").grpc_max_connections)),
    ("a client that says nothing", f"{KEEPALIVE_SECONDS} s"),
    ("a client that says nothing", f"{KEEPALIVE_TIMEOUT_SECONDS} s"),
])
def test_the_limits_are_those_of_the_code(row, number):
    (line,) = [line for line in section("Limits").splitlines() if line.startswith(f"| {row}")]
    assert number in line
