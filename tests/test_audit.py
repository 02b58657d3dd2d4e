"""The audit of dependencies: what it makes of pip-audit's answers, and of what is installed."""

import json
from importlib import metadata

from tools import audit

GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}]}
SKIPPED = {"name": "c", "skip_reason": "not found"}


def test_a_clean_answer_is_clean():
    assert audit.judged([GOOD]) == ([], "")


def test_a_flaw_is_told_with_its_cure():
    flaws, unasked = audit.judged([GOOD, BAD])
    assert flaws == ["b 2 has CVE-1, mended in 2.1"]
    assert not unasked


def test_packages_that_were_left_out_are_not_taken_for_clean():
    flaws, unasked = audit.judged(json.loads(json.dumps([GOOD, BAD, SKIPPED])))
    assert flaws
    assert unasked == "1 of 3 packages were left out, such as c: not found"


def test_what_is_installed_is_found_through_others():
    found = audit.installed()
    assert {"grpcio", "numpy", "pyyaml", "markdown-it-py"} <= found.keys()
    assert not {"pytest", "mypy"} & found.keys()


def test_our_own_dependencies_have_bounds():
    assert audit.unbounded() == []


def test_licences_are_found_in_any_field():
    assert "apache" in audit.licence(metadata.distribution("grpcio")).lower()
    assert "mit" in audit.licence(metadata.distribution("markdown-it-py")).lower()
