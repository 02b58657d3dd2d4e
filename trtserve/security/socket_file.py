"""Who may connect to the Unix socket: file mode, group and users, and who did connect.

The kernel decides when somebody connects, by that process's user: the mode, and an access
control list for the users of `socket_users`. Nobody else gets as far as sending a byte. Who is
connected is read from the kernel too (SO_PEERCRED), to be logged, and to cut off whom the
setting does not name, such as a process that may pass over file permissions.
"""

import grp
import os
import pwd
import re
import socket
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from trtserve.errors import ConfigurationError

_MODE = re.compile(r"0?[0-7]{3}")

_READ_WRITE = 6

_PEER_GROUPS = 59
"""SO_PEERGROUPS, which Python has no name for: all groups of whoever connected."""

_MAX_GROUPS = 65_536
"""Of one process, as Linux has it."""

_NO_ID = 0xFFFFFFFF
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
"""Kinds of entries of an access control list, as Linux keeps it in an attribute of the file."""

_ACL = "system.posix_acl_access"
_ACL_VERSION = struct.pack("<I", 2)


@dataclass(frozen=True, slots=True)
class Permissions:
    """The settings socket_mode, socket_group and socket_users, with numbers for names."""

    mode: int = 0o600
    group: int | None = None
    users: frozenset[int] = frozenset()

    def lets_in(self, peer: "Peer") -> bool:
        """Whether a process may be connected: with `users`, theirs, ours, root's, and those that
        the mode lets in."""
        if not self.users or peer.user in self.users or peer.user in (0, os.geteuid()):
            return True
        if self.mode & _READ_WRITE == _READ_WRITE:
            return True
        group = os.getegid() if self.group is None else self.group
        return self.mode >> 3 & _READ_WRITE == _READ_WRITE and group in peer.groups


def permissions(mode: str, group: str | None, users: str | None) -> Permissions:
    """Read the settings. Raises ConfigurationError that names the one that is wrong."""
    if not _MODE.fullmatch(mode):
        raise ConfigurationError(
            f"'{mode}' is no file mode", where="socket_mode",
            cure="Use three octal digits, such as 0600 or 0660",
        )
    return Permissions(
        int(mode, 8),
        None if group is None else _group(group),
        frozenset(_user(name.strip()) for name in users.split(",")) if users else frozenset(),
    )


def protect(path: str, wanted: Permissions) -> None:
    """Give a socket's file these permissions. Raises ConfigurationError where that fails.

    Bind it under `closed_umask` first: nobody else can connect before this is done.
    """
    if wanted.group is not None:
        try:
            os.chown(path, -1, wanted.group)
        except OSError as error:
            raise ConfigurationError(
                f"the socket can not be given to the group: {os.strerror(error.errno or 0)}",
                where="socket_group", cure="Name a group that the daemon's user is in",
            ) from error
    try:
        os.removexattr(path, _ACL)  # what its folder may have given it
    except OSError:
        pass
    os.chmod(path, wanted.mode)
    if wanted.users:
        try:
            os.setxattr(path, _ACL, _access_list(os.stat(path).st_mode, wanted.users))
        except OSError as error:
            raise ConfigurationError(
                f"{path} takes no access control list: {os.strerror(error.errno or 0)}",
                where="socket_users",
                cure="Put the socket on another file system (tmpfs, ext4 and xfs can), or use "
                "socket_group",
            ) from error


def _access_list(mode: int, users: frozenset[int]) -> bytes:
    """The mode's own rights, and for these users to read and to write."""
    entries = [
        (_USER_OBJ, mode >> 6 & 7, _NO_ID),
        *((_USER, _READ_WRITE, user) for user in sorted(users)),
        (_GROUP_OBJ, mode >> 3 & 7, _NO_ID),
        (_MASK, mode >> 3 & 7 | _READ_WRITE, _NO_ID),
        (_OTHER, mode & 7, _NO_ID),
    ]
    return _ACL_VERSION + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of a connection, when it connected."""

    pid: int
    user: int
    groups: frozenset[int]


class Peers:
    """The connections to one socket's path that this process has accepted.

    gRPC accepts them out of our sight, so they are found among our descriptors: some
    microseconds for each of these, connections to ports included.
    """

    def __init__(self, path: str, wanted: Permissions) -> None:
        self._path = path
        self._wanted = wanted
        self._seen: set[Peer] = set()

    def look(self) -> tuple[list[Peer], list[Peer]]:
        """(processes that are new, those of them that were cut off). Raises OSError where there
        is no descriptor left to look with."""
        now: set[Peer] = set()
        cut_off: set[Peer] = set()
        for connection in _connections(self._path):
            with connection:
                peer = _peer(connection)
                now.add(peer)
                if not self._wanted.lets_in(peer):
                    cut_off.add(peer)
                    _shut(connection)
        new = now - self._seen
        self._seen = now
        return sorted(new, key=lambda p: p.pid), sorted(cut_off & new, key=lambda p: p.pid)


def _connections(path: str) -> Iterator[socket.socket]:
    for name in os.listdir("/proc/self/fd"):
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            found = socket.socket(fileno=os.dup(int(name)))
        except OSError:  # closed meanwhile
            continue
        try:
            ours = (
                found.family == socket.AF_UNIX
                and found.getsockname() == path
                and not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            )
        except OSError:
            ours = False
        if ours:
            yield found
        else:
            found.close()


def _peer(connection: socket.socket) -> Peer:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, user, group = struct.unpack("3i", data)
    return Peer(pid, user, frozenset({group, *_other_groups(connection)}))


def _other_groups(connection: socket.socket) -> tuple[int, ...]:
    for count in (32, _MAX_GROUPS):
        try:
            data = connection.getsockopt(socket.SOL_SOCKET, _PEER_GROUPS, 4 * count)
        except OSError:  # more than that; or a kernel before 4.13
            continue
        return struct.unpack(f"{len(data) // 4}I", data)
    return ()


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has ended by itself
        pass


def _user(name: str) -> int:
    try:
        return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
    except KeyError as error:
        raise ConfigurationError(
            f"there is no user '{name}'", where="socket_users",
            cure="Give users' numbers or names with commas between",
        ) from error


def _group(name: str) -> int:
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise ConfigurationError(
            f"there is no group '{name}'", where="socket_group",
            cure="Give a group's number or its name",
        ) from error
