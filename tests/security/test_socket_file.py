"""The Unix socket: whom the kernel lets in, with real users, and who is seen to be connected."""

import os
import socket
import stat

import pytest

from tests.security.other_users import as_user, connect, fork
from trtserve.errors import ConfigurationError
from trtserve.security.socket_file import Peer, Peers, Permissions, permissions, protect

GUEST, STRANGER = 54_321, 54_322

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def listener(tmp_path):
    # pytest's folder is its own user's; others have to get as far as the socket.
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != folder.parent:
            folder.chmod(folder.stat().st_mode | 0o111)
    with socket.socket(socket.AF_UNIX) as found:
        found.bind(str(tmp_path / "s"))
        found.listen()
        yield found


def test_by_default_only_the_owner():
    assert permissions("0600", None, None) == Permissions(0o600)


@pytest.mark.parametrize(("mode", "group", "users", "setting"), [
    ("600x", None, None, "socket_mode"), ("0999", None, None, "socket_mode"),
    ("", None, None, "socket_mode"), ("17777", None, None, "socket_mode"),
    ("0600", "no such group", None, "socket_group"),
    ("0600", None, "0,no such user", "socket_users"),
])
def test_settings_that_can_not_be(mode, group, users, setting):
    with pytest.raises(ConfigurationError) as caught:
        permissions(mode, group, users)
    assert caught.value.where == setting


def test_names_and_numbers_are_taken():
    assert permissions("660", "root", "root, 54321") == Permissions(
        0o660, 0, frozenset({0, GUEST})
    )


@pytest.mark.parametrize(("wanted", "user", "groups", "inside"), [
    (Permissions(), STRANGER, (), True),
    (Permissions(users=frozenset({GUEST})), GUEST, (), True),
    (Permissions(users=frozenset({GUEST})), 0, (), True),
    (Permissions(users=frozenset({GUEST})), os.geteuid(), (), True),
    (Permissions(users=frozenset({GUEST})), STRANGER, (7,), False),
    (Permissions(0o660, 7, frozenset({GUEST})), STRANGER, (8, 7), True),
    (Permissions(0o660, 7, frozenset({GUEST})), STRANGER, (8,), False),
    (Permissions(0o600, 7, frozenset({GUEST})), STRANGER, (7,), False),
    (Permissions(0o666, None, frozenset({GUEST})), STRANGER, (8,), True),
    (Permissions(0o664, None, frozenset({GUEST})), STRANGER, (8,), False),
])
def test_whom_the_kernel_lets_in_is_not_cut_off(wanted, user, groups, inside):
    assert wanted.lets_in(Peer(1, user, frozenset(groups))) is inside


@needs_root
def test_the_kernel_lets_in_whom_the_settings_name(listener):
    path = listener.getsockname()
    protect(path, Permissions(0o600))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert not as_user(GUEST, lambda: connect(path))
    protect(path, Permissions(0o600, users=frozenset({GUEST})))
    assert as_user(GUEST, lambda: connect(path))
    assert not as_user(STRANGER, lambda: connect(path))
    protect(path, Permissions(0o660, group=STRANGER))
    assert as_user(STRANGER, lambda: connect(path))


@needs_root
def test_a_connection_s_user_is_seen_and_whom_nobody_named_is_cut_off(listener):
    path = listener.getsockname()
    protect(path, Permissions(0o666))
    peers = Peers(path, Permissions(0o600, users=frozenset({GUEST})))
    ours = socket.socket(socket.AF_UNIX)
    theirs, back = socket.socketpair()
    with ours, theirs, back:
        ours.connect(path)
        first, _ = listener.accept()
        child = fork()
        if child == 0:
            try:
                os.setgid(STRANGER)
                os.setuid(STRANGER)
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(path)
                    back.send(b"!")
                    # The end of the connection is what this waits for.
                    os._exit(7 if client.recv(1) == b"" else 1)
            finally:
                os._exit(2)
        assert theirs.recv(1) == b"!"
        second, _ = listener.accept()
        with first, second:
            new, cut_off = peers.look()
            assert [(peer.user, peer.pid) for peer in cut_off] == [(STRANGER, child)]
            ours_too = next(peer for peer in new if peer.pid == os.getpid())
            assert ours_too.user == os.geteuid()
            assert ours_too.groups == {os.getegid(), *os.getgroups()}
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            ours.send(b"still here")
            assert first.recv(10) == b"still here"
            assert peers.look() == ([], []), "each is told once"


def test_only_connections_to_that_path_count(listener, tmp_path):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "other"))
        other.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "other"))
            accepted, _ = other.accept()
            with accepted:
                assert Peers(listener.getsockname(), Permissions()).look() == ([], [])
