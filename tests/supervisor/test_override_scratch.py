"""Folders for what load calls bring: nothing leads out of them, nothing is left of them."""

import os
import subprocess
import sys

import pytest

from trtserve.errors import ConfigurationError, ProtocolError
from trtserve.supervisor.scratch import Scratch

HOSTILE = [
    "../a", "1/../a", "1/../../a", "/a", "//a", "1//a", "1/", "/", "", "a", "1", "0/a", "01/a",
    "-1/a", "1/.a", "1/..", "1/a/b", "1/a\0b", "1/a\nb", "1\\a", "1/a b", "\uff11/a",
    "1/" + "a" * 300, "config.pbtxt", "1/~", "1/$(a)",
]


@pytest.fixture
def content():
    """The memory that files come in: `123` and `45`."""
    fd = os.memfd_create("content")
    os.write(fd, b"12345")
    yield fd
    os.close(fd)


@pytest.fixture
def scratch(tmp_path):
    with Scratch(str(tmp_path / "scratch")) as scratch:
        yield scratch


def everything(tmp_path):
    return sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))


def test_files_and_configuration(scratch, content, tmp_path):
    files = [("1/a.onnx", 0, 3), ("2/b", 3, 2)]
    folder = scratch.place(None, "max_batch_size: 8\n", files, content)
    found = {}
    for home, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(home, name)
            assert os.stat(path).st_mode & 0o077 == 0
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = file.read()
    assert found == {"config.pbtxt": b"max_batch_size: 8\n", "1/a.onnx": b"123", "2/b": b"45"}
    assert os.stat(folder).st_mode & 0o077 == 0


def test_a_configuration_alone_stands_beside_links(scratch, tmp_path):
    model = tmp_path / "models/det"
    (model / "1").mkdir(parents=True)
    (model / "1/a.onnx").write_bytes(b"old")
    (model / "config.yaml").write_text("max_batch_size: 2")
    (model / ".hidden").write_text("")
    folder = scratch.place(str(model), "max_batch_size: 8\n", (), None)
    assert sorted(os.listdir(folder)) == ["1", "config.pbtxt"]
    assert os.readlink(os.path.join(folder, "1")) == str(model / "1")
    scratch.remove(folder)
    assert not os.path.exists(folder)
    assert (model / "1/a.onnx").read_bytes() == b"old"


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_leads_out(scratch, content, tmp_path, name):
    scratch.check()
    before = everything(tmp_path)
    with pytest.raises(ProtocolError):
        scratch.place(None, "", [("1/good", 0, 1), (name, 0, 1)], content)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("place", [(0, 6), (5, 1), (-1, 2), (0, -1)])
def test_no_more_is_read_than_there_is(scratch, content, tmp_path, place):
    scratch.check()
    before = everything(tmp_path)
    with pytest.raises(ProtocolError):
        scratch.place(None, "", [("1/a", *place)], content)
    assert everything(tmp_path) == before


def test_a_name_that_comes_twice_is_refused(scratch, content):
    with pytest.raises(FileExistsError):
        scratch.place(None, "", [("1/a", 0, 1), ("1/a", 1, 1)], content)


def test_each_load_has_a_folder_of_its_own(scratch, content):
    files = [("1/a", 0, 3)]
    one, other = (scratch.place(None, "", files, content) for _ in range(2))
    assert one != other
    scratch.remove(one)
    scratch.remove(one)  # nothing is there any more, which harms nobody
    assert not os.path.exists(one)
    assert os.path.exists(other)


def test_what_is_not_its_own_is_left_alone(scratch, content, tmp_path):
    scratch.place(None, "", [("1/a", 0, 3)], content)
    (tmp_path / "models").mkdir()
    scratch.remove(str(tmp_path / "models"))
    scratch.remove(None)
    assert (tmp_path / "models").exists()


def test_nothing_stays_at_the_end(content, tmp_path):
    with Scratch(str(tmp_path)) as scratch:
        scratch.place(None, "", [("1/a", 0, 3)], content)
        assert everything(tmp_path)
    assert everything(tmp_path) == []
    with Scratch(str(tmp_path)):
        pass
    assert everything(tmp_path) == []


def test_a_folder_that_can_not_be_used_is_said_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    with Scratch(str(tmp_path / "file")) as scratch, pytest.raises(
        ConfigurationError, match=r"scratch_folder: .* can not be written"
    ):
        scratch.check()


KILLED = """
import os, signal, sys
from trtserve.supervisor.scratch import Scratch
scratch = Scratch(sys.argv[1])
scratch.place(None, "max_batch_size: 8", (), None)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_daemon_left_is_removed_and_nothing_else(tmp_path):
    home = tmp_path / "scratch"
    subprocess.run([sys.executable, "-c", KILLED, str(home)], check=False)
    (left,) = home.iterdir()
    (tmp_path / "precious").mkdir()
    (home / "trtserve-scratch-link").symlink_to(tmp_path / "precious")
    (home / "trtserve-scratch-file").write_text("")
    (home / "mine").mkdir()
    with Scratch(str(home)) as living, Scratch(str(home)) as other:
        folder = living.place(None, "max_batch_size: 8", (), None)
        other.check()
        assert not left.exists()
        assert os.path.isdir(folder)
    assert (tmp_path / "precious").is_dir()
    assert {path.name for path in home.iterdir()} == {
        "trtserve-scratch-link", "trtserve-scratch-file", "mine",
    }
