"""A two-way channel of typed messages over a Unix SOCK_SEQPACKET socket.

Messages wait until `flush`, then leave together: several in one datagram. What does not fit a
datagram travels in a memfd whose descriptor the datagram carries. End of file means that the
peer died. Never blocks; one thread only.

A datagram is one byte (0: the messages follow; 1: they are in the last descriptor's file) and
a MessagePack array of messages.
"""

import array
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from trtserve.errors import ProtocolError
from trtserve.ipc.message import AnyMessage

MAX_DATAGRAM = 64 * 1024
"""Bytes. Below Linux's default socket buffer (208 KiB), which bounds a datagram."""

_MAX_FDS = 8
_ANCILLARY = socket.CMSG_SPACE(_MAX_FDS * array.array("i").itemsize)
_INLINE, _IN_FILE = 0, 1


class Channel:
    """One end of a channel.

    `send` queues; `flush` sends what the socket takes and says whether all went; `receive`
    returns the messages that have come, or None at the end of the peer. A descriptor that came
    with a message waits for `take_fd`, in order.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.setblocking(False)
        self._outbox: list[AnyMessage] = []
        self._backlog: deque[tuple[bytes | bytearray, list[int]]] = deque()
        self._fds: deque[int] = deque()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(list[AnyMessage])
        self._out = bytearray()
        self._in = bytearray(MAX_DATAGRAM + 1)
        self._in_view = memoryview(self._in)
        self.closed = False

    @classmethod
    def from_fd(cls, fd: int) -> "Channel":
        """The end behind a descriptor, which the channel then owns."""
        return cls(socket.socket(fileno=fd))

    @classmethod
    def pair(cls) -> tuple["Channel", "Channel"]:
        """Both ends of a new channel, in this process."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(one), cls(other)

    def fileno(self) -> int:
        """The socket's descriptor, for selectors and event loops."""
        return self._sock.fileno()

    def send(self, message: AnyMessage, fd: int | None = None) -> None:
        """Queue a message; `fd` travels with it and stays open here until it has left."""
        if self.closed:
            return
        if fd is None:
            self._outbox.append(message)
        else:
            self._pack()
            self._backlog.append((b"\0" + self._encode([message]), [os.dup(fd)]))

    @property
    def waiting(self) -> bool:
        """Whether anything is queued."""
        return bool(self._outbox or self._backlog)

    def flush(self) -> bool:
        """Send what is queued. False: the socket is full, call again when it is writable.

        A peer that is gone swallows everything: its end of file says so on `receive`.
        """
        if not self._backlog and self._outbox:
            # The usual case: everything in one datagram, through one reused buffer.
            try:
                self._encoder.encode_into(self._outbox, self._out, 1)
            except UnicodeEncodeError:
                self._out[:] = b"\0" + self._encode(self._outbox)
            self._out[0] = _INLINE
            if len(self._out) <= MAX_DATAGRAM:
                self._outbox.clear()
                if self._send(self._out, []):
                    return True
                self._backlog.append((bytes(self._out), []))
                return False
        self._pack()
        while self._backlog:
            data, fds = self._backlog[0]
            if not self._send(data, fds):
                return False
            self._backlog.popleft()
            for fd in fds:
                os.close(fd)
        return True

    def receive(self) -> list[AnyMessage] | None:
        """The messages of one datagram, [] if none waits, None when the peer is gone.

        Raises ProtocolError for a datagram that is not ours.
        """
        try:
            size, ancillary, flags, _ = self._sock.recvmsg_into(
                [self._in], _ANCILLARY, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return []
        except ConnectionResetError:
            # The peer died with messages of ours unread, which Linux says once and first: what
            # it had sent comes after.
            return self.receive()
        except ConnectionError:
            return None
        if size == 0:
            return None
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
                self._fds.extend(fds)
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ProtocolError("a datagram was cut off")
        if self._in[0] == _IN_FILE and not ancillary:
            raise ProtocolError("a datagram came without the file that it speaks of")
        try:
            if self._in[0] == _IN_FILE:
                # The file's descriptor is the last that came, and no message's.
                return self._decoder.decode(_read_file(self._fds.pop()))
            return self._decoder.decode(self._in_view[1:size])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ProtocolError(f"a datagram does not decode: {error}") from error

    def take_fd(self) -> int:
        """The descriptor that came with the oldest message that carries one."""
        if not self._fds:
            raise ProtocolError("a message came without its descriptor")
        return self._fds.popleft()

    def close(self) -> None:
        """Close the socket and every descriptor that was not taken. Twice is harmless."""
        if self.closed:
            return
        self.closed = True
        for _, fds in self._backlog:
            self._fds.extend(fds)
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        self._backlog.clear()
        self._outbox.clear()
        self._sock.close()

    def _send(self, data: bytes | bytearray, fds: Sequence[int]) -> bool:
        try:
            if fds:
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
                self._sock.sendmsg([data], [rights])
            else:
                self._sock.send(data)
        except BlockingIOError:
            return False
        except ConnectionError:
            pass
        return True

    def _encode(self, messages: list[AnyMessage]) -> bytes:
        try:
            return self._encoder.encode(messages)
        except UnicodeEncodeError:
            # The name of a file need not be text. It must not end the process that tells of it.
            return self._encoder.encode(
                _as_text(msgspec.to_builtins(messages, builtin_types=(bytes,)))
            )

    def _pack(self) -> None:
        """Move the outbox into datagrams."""
        pending, self._outbox = self._outbox, []
        groups = [pending] if pending else []
        while groups:
            group = groups.pop()
            data = self._encode(group)
            if len(data) < MAX_DATAGRAM:
                self._backlog.append((b"\0" + data, []))
            elif len(group) == 1:
                self._backlog.append((b"\1", [_write_file(data)]))
            else:
                middle = len(group) // 2
                groups += (group[middle:], group[:middle])


def _as_text(value: Any) -> Any:
    """With every string as UTF-8 can hold it; what is no text is written as an escape."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, list | tuple):
        return [_as_text(each) for each in value]
    if isinstance(value, dict):
        return {_as_text(key): _as_text(each) for key, each in value.items()}
    return value


def _write_file(data: bytes) -> int:
    fd = os.memfd_create("trtserve message", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(data)
    return fd


def _read_file(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read()
