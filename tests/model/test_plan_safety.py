import os
import stat

import msgspec
import pytest

from tests.model.test_plan_manifest import FULL
from trtserve.errors import ConfigurationError
from trtserve.model.plan_manifest import PlanOptions
from trtserve.model.plan_safety import (
    Place,
    hash_problem,
    host_code_problem,
    needs_host_code,
    parse_hashes,
    places,
    writable_by_others,
    writable_cure,
)

US, ANOTHER = 1000, 1001
FILE, FOLDER = stat.S_IFREG, stat.S_IFDIR


@pytest.mark.parametrize(
    ("mode", "owner", "word"),
    [
        (FILE | 0o644, US, ""),
        (FILE | 0o755, 0, ""),
        (FOLDER | 0o755, US, ""),
        (FOLDER | 0o1777, 0, ""),  # /tmp: nobody can rename another's entries
        (FILE | 0o664, US, "its group"),
        (FILE | 0o646, US, "everybody"),
        (FOLDER | 0o777, US, "its group and everybody"),
        (FOLDER | 0o2775, 0, "its group"),
        (FILE | 0o1666, US, "its group and everybody"),  # sticky means nothing for files
        (FILE | 0o600, ANOTHER, "belongs to user 1001"),
        (FOLDER | 0o1777, ANOTHER, "belongs to user 1001"),
    ],
)
def test_who_could_change_a_plan(mode, owner, word):
    found = writable_by_others([Place("/m/1/x.plan", mode, owner)], US)
    assert [word in problem and "/m/1/x.plan" in problem for problem in found] == (
        [True] if word else []
    )


def test_the_cure_names_what_is_wrong():
    good, loose = Place("/m", FOLDER | 0o755, 0), Place("/m/x", FILE | 0o666, US)
    assert writable_cure([good, loose], US).startswith("chmod go-w /m/x;")
    foreign = Place("/m/y", FILE | 0o644, ANOTHER)
    assert writable_cure([good, loose, foreign], US).startswith("chown 1000 /m/y;")
    assert "allow_writable_plans" in writable_cure([loose], US)


def test_every_folder_above_counts_and_what_links_lead_to(tmp_path):
    real = tmp_path / "volume" / "x.plan"
    real.parent.mkdir()
    real.write_bytes(b"plan")
    link = tmp_path / "models" / "x.plan"
    link.parent.mkdir()
    link.symlink_to(real)
    found = {place.path: place for place in places(link)}
    assert {str(link), str(link.parent), str(real), str(real.parent), str(tmp_path), "/"} <= (
        found.keys()
    )
    assert writable_by_others(places(link), os.getuid()) == []
    real.parent.chmod(0o777)
    (problem,) = writable_by_others(places(link), os.getuid())
    assert str(real.parent) in problem


def test_a_link_that_leads_nowhere_is_an_error_of_the_system(tmp_path):
    (tmp_path / "x.plan").symlink_to(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        places(tmp_path / "x.plan")


def test_version_compatible_plans_carry_code():
    with_code = msgspec.structs.replace(
        FULL, request=msgspec.structs.replace(
            FULL.request, options=PlanOptions(version_compatible=True)
        )
    )
    assert needs_host_code(with_code)
    assert "daemon's rights" in host_code_problem(with_code, allowed=False)
    assert host_code_problem(with_code, allowed=True) == ""
    assert host_code_problem(FULL, allowed=False) == ""
    assert host_code_problem(None, allowed=False) == ""


def test_an_allow_list_is_what_sha256sum_prints():
    one, two = "a1" * 32, "b2" * 32
    text = f"# checked by hand\n\n{one}  m/1/x.plan\n{two.upper()} *y.plan  # binary\n"
    assert parse_hashes(text, "hashes") == {one, two}


@pytest.mark.parametrize("line", ["m/1/x.plan", "a1" * 31, "a1" * 32 + "0"])
def test_a_line_that_is_no_hash_is_named(line):
    with pytest.raises(ConfigurationError, match="no SHA-256") as raised:
        parse_hashes(f"\n{line}\n", "hashes.txt")
    assert raised.value.where == "hashes.txt:2"


def test_only_listed_plans_are_allowed():
    one = "a1" * 32
    assert hash_problem(one, None) == ""
    assert hash_problem(one, {one}) == ""
    assert one in hash_problem(one, {"b2" * 32})
