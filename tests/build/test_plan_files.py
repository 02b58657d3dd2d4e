import os
import stat

import pytest

from trtserve.build.plan_files import FinishedPlan, link_whole, next_version, publish, write_whole
from trtserve.errors import RepositoryError


@pytest.fixture
def finished(tmp_path):
    """Makes a plan that lies in a cache."""
    def make(file, content=b"plan", manifest=b"{}"):
        source = tmp_path / "cache" / f"{content.decode()}.plan"
        source.parent.mkdir(exist_ok=True)
        write_whole(source, content)
        return FinishedPlan(file, source, manifest)
    return make


def entries(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_versions_are_counted_up(tmp_path):
    assert next_version(tmp_path / "none") == 1
    assert next_version(tmp_path) == 1
    for name in ("2", "10", "old", "03", ".11.7"):
        (tmp_path / name).mkdir()
    assert next_version(tmp_path) == 11


def test_a_new_version_has_its_plans_and_manifests(tmp_path, finished):
    folder = tmp_path / "models" / "m" / "1"
    paths = publish(
        folder, [finished("a.plan", b"A", b"1"), finished("b.plan", b"B", b"2")], replace=False
    )
    assert paths == [folder / "a.plan", folder / "b.plan"]
    assert entries(folder) == {
        "a.plan": b"A", "a.plan.json": b"1", "b.plan": b"B", "b.plan.json": b"2"
    }
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


def test_nothing_of_a_new_version_is_seen_if_a_plan_is_missing(tmp_path, finished):
    lost = FinishedPlan("b.plan", tmp_path / "lost.plan", b"{}")
    with pytest.raises(RepositoryError):
        publish(tmp_path / "m" / "1", [finished("a.plan"), lost], replace=False)
    assert list((tmp_path / "m").iterdir()) == []


def test_a_plan_joins_the_others_of_a_version(tmp_path, finished):
    folder = tmp_path / "m" / "1"
    publish(folder, [finished("a.plan", b"A")], replace=False)
    publish(folder, [finished("b.plan", b"B")], replace=False)
    assert entries(folder).keys() == {"a.plan", "a.plan.json", "b.plan", "b.plan.json"}


def test_a_plan_is_replaced_only_if_that_is_wanted(tmp_path, finished):
    folder = tmp_path / "m" / "1"
    publish(folder, [finished("a.plan", b"old", b"1")], replace=False)
    with pytest.raises(RepositoryError, match=r"a\.plan is there already") as raised:
        publish(folder, [finished("a.plan", b"new", b"2")], replace=False)
    assert "--force" in raised.value.cure
    assert entries(folder) == {"a.plan": b"old", "a.plan.json": b"1"}
    publish(folder, [finished("a.plan", b"new", b"2")], replace=True)
    assert entries(folder) == {"a.plan": b"new", "a.plan.json": b"2"}


def test_the_same_plan_again_leaves_nothing_beside_it(tmp_path, finished):
    # Both names are of one inode: renaming one over the other does nothing.
    folder = tmp_path / "m" / "1"
    plan = finished("a.plan")
    publish(folder, [plan], replace=False)
    publish(folder, [plan], replace=True)
    assert entries(folder).keys() == {"a.plan", "a.plan.json"}


def test_a_folder_that_can_not_be_written_is_named(tmp_path, finished):
    (tmp_path / "m").write_text("a file where a folder should be")
    with pytest.raises(RepositoryError, match="can not be written") as raised:
        publish(tmp_path / "m" / "1", [finished("a.plan")], replace=False)
    assert str(tmp_path / "m") in raised.value.where


def test_what_is_written_can_not_be_changed_by_others(tmp_path, finished):
    before = os.umask(0)
    try:
        folder = tmp_path / "m" / "1"
        publish(folder, [finished("a.plan")], replace=False)
    finally:
        os.umask(before)
    for path in (folder.parent, folder, folder / "a.plan", folder / "a.plan.json"):
        assert not path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH), path


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "f"
    write_whole(path, b"old")
    with pytest.raises(FileNotFoundError):
        link_whole(tmp_path / "missing", path)
    assert entries(tmp_path) == {"f": b"old"}


def test_a_link_is_the_same_file(tmp_path):
    write_whole(tmp_path / "a", b"x")
    link_whole(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").samefile(tmp_path / "b")


def test_another_file_system_gets_a_copy(tmp_path):
    shared = os.path.realpath("/dev/shm")
    if not os.path.isdir(shared) or os.stat(shared).st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system to write to")
    source = tmp_path / "a"
    write_whole(source, b"x")
    target = tmp_path.__class__(shared) / f"plan-files-{os.getpid()}"
    try:
        link_whole(source, target)
        assert target.read_bytes() == b"x"
        assert not target.samefile(source)
        assert stat.S_IMODE(target.stat().st_mode) == 0o644
    finally:
        target.unlink(missing_ok=True)
