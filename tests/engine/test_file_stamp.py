"""Whether a model's files are still those that were loaded."""

import os

import pytest

from trtserve.engine.file_stamp import FileStamp


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"graph")
    (tmp_path / "weights.bin").write_bytes(b"weights")
    return tmp_path


@pytest.fixture
def stamp(folder):
    return FileStamp(str(folder / "model.onnx"))


def test_nothing_has_changed(stamp):
    assert stamp.changed() == ""


def test_what_comes_later_is_nobodys_concern(folder, stamp):
    (folder / "notes.txt").write_text("new")
    (folder / "golden").mkdir()
    assert stamp.changed() == ""


@pytest.mark.parametrize("name", ["model.onnx", "weights.bin"])
def test_a_file_that_is_replaced_by_an_equally_long_one(folder, stamp, name):
    old = folder / name
    times = old.stat().st_atime_ns, old.stat().st_mtime_ns
    new = folder / ".new"
    new.write_bytes(bytes(old.stat().st_size))
    os.utime(new, ns=times)
    os.replace(new, old)
    assert stamp.changed() == name


def test_a_file_that_is_written_over(folder, stamp):
    (folder / "weights.bin").write_bytes(b"others, longer")
    assert stamp.changed() == "weights.bin"


def test_a_file_that_is_gone(folder, stamp):
    (folder / "model.onnx").unlink()
    assert stamp.changed() == "model.onnx"
