"""What tells one state of a folder from another."""

import os
import signal

import pytest

from trtserve.supervisor.fingerprint import being_written, fingerprint


@pytest.fixture
def folder(tmp_path):
    version = tmp_path / "det" / "1"
    version.mkdir(parents=True)
    (version / "a.onnx").write_bytes(b"12345")
    return tmp_path / "det"


@pytest.mark.parametrize("change", [
    lambda folder: (folder / "1/a.onnx").write_bytes(b"123456"),
    lambda folder: (folder / "1/b.onnx").write_bytes(b""),
    lambda folder: (folder / "1/a.onnx").unlink(),
    lambda folder: (folder / "1/a.onnx").rename(folder / "1/c.onnx"),
    lambda folder: (folder / "2").mkdir(),
    lambda folder: os.utime(folder / "1/a.onnx", ns=(0, 0)),
    lambda folder: (folder / "config.pbtxt").symlink_to("nowhere"),
], ids=["size", "new", "gone", "renamed", "folder", "time", "dead link"])
def test_a_change_shows(folder, change):
    before = fingerprint(str(folder))
    assert fingerprint(str(folder)) == before
    change(folder)
    assert fingerprint(str(folder)) != before


def test_another_file_of_the_same_size_and_time_shows(folder):
    path = folder / "1/a.onnx"
    status = path.stat()
    before = fingerprint(str(folder))
    (folder / ".new").write_bytes(b"54321")
    os.utime(folder / ".new", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(folder / ".new", path)
    assert fingerprint(str(folder)) != before


def test_hidden_names_do_not_count(folder):
    before = fingerprint(str(folder))
    (folder / "1/.a.onnx.part").write_bytes(b"123")
    assert fingerprint(str(folder)) == before


def test_a_link_that_leads_elsewhere_shows(folder, tmp_path):
    (tmp_path / "..1").mkdir()
    (tmp_path / "..2").mkdir()
    for name in ("..1", "..2"):
        os.link(folder / "1/a.onnx", tmp_path / name / "a.onnx")
    link = tmp_path / "link"
    link.symlink_to("..1")
    before = fingerprint(str(link))
    link.unlink()
    link.symlink_to("..2")
    assert fingerprint(str(link)) != before


def test_links_in_circles_end(folder):
    (folder / "1/loop").symlink_to(folder)
    found = fingerprint(str(folder))
    assert 4 < len(found.entries) < 100


def test_its_folders_and_its_last_change_are_told(folder):
    found = fingerprint(str(folder))
    assert found.folders == (str(folder), str(folder / "1"))
    assert found.changed_ns == max(
        path.stat().st_ctime_ns for path in (folder, folder / "1", folder / "1/a.onnx")
    )


def test_an_open_writer_is_noticed(folder):
    old = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        assert being_written(str(folder)) == ""
        with (folder / "1/a.onnx").open("r+b"):
            assert being_written(str(folder)) == str(folder / "1/a.onnx")
        with (folder / "1/a.onnx").open("rb"):
            assert being_written(str(folder)) == ""
        assert being_written(str(folder)) == ""
    finally:
        signal.signal(signal.SIGIO, old)
