"""Log lines: one for each event, with the role."""

import json
import logging
import re
import sys
from collections.abc import Iterator

import pytest

from trtserve import log


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    """The root logger, restored after the test."""
    found = logging.getLogger()
    handlers, level = found.handlers[:], found.level
    yield found
    found.handlers[:] = handlers
    found.setLevel(level)


def test_console_lines_show_time_role_and_level(capsys):
    log.configure("worker cpu", "info", "console")
    logging.getLogger("x").warning("lane %d is late", 2)
    line = capsys.readouterr().err
    assert re.fullmatch(r"\d\d:\d\d:\d\d  worker cpu     WARNING lane 2 is late\n", line)


def test_json_lines_have_fields_of_their_own(capsys):
    log.configure("front end 1", "info", "json")
    logging.getLogger("x").info("served %s", "m", extra={"model": "m", "path": sys.path})
    (line,) = capsys.readouterr().err.splitlines()
    fields = json.loads(line)
    assert fields["message"] == "served m"
    assert (fields["level"], fields["role"], fields["model"]) == ("info", "front end 1", "m")
    assert set(fields) == {"time", "level", "role", "message", "model", "path"}
    assert fields["time"] > 1.6e9


def test_what_json_lacks_becomes_text(capsys):
    log.configure("supervisor", "info", "json")
    logging.getLogger("x").info("it", extra={"what": {1}})
    assert json.loads(capsys.readouterr().err)["what"] == "{1}"


def test_exceptions_stay_in_one_json_line(capsys):
    log.configure("supervisor", "info", "json")
    try:
        raise ValueError("no such thing")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: no such thing" in json.loads(line)["exception"]


def test_lines_below_the_level_are_left_out(capsys, root):
    log.configure("supervisor", "warning", "console")
    logging.getLogger("x").info("quiet")
    assert capsys.readouterr().err == ""
    assert root.level == logging.WARNING


def test_configuring_twice_does_not_double_lines(capsys):
    log.configure("supervisor", "info", "console")
    log.configure("supervisor", "info", "console")
    logging.getLogger("x").info("once")
    assert capsys.readouterr().err.count("once") == 1
