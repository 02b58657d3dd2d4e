"""HTTP/2 by hand: calls that no library of gRPC makes."""

import socket

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _GOAWAY = 0, 1, 4, 7
_END_STREAM, _END_HEADERS = 1, 4


def call(address: str, path: bytes, *metadata: tuple[bytes, bytes], message: bytes = b"") -> bytes:
    """All that a server answers to one call until it ends the call or the connection."""
    host, _, port = address.rpartition(":")
    fields = [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x"),
        (b"te", b"trailers"), (b"content-type", b"application/grpc"), *metadata,
    ]
    headers = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)
    body = b"\0" + len(message).to_bytes(4, "big") + message
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(
            _PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, _END_HEADERS, 1, headers)
            + _frame(_DATA, _END_STREAM, 1, body)
        )
        said = b""
        with connection.makefile("rb") as file:
            while len(head := file.read(9)) == 9:
                content = file.read(int.from_bytes(head[:3], "big"))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                said += content
                if kind == _GOAWAY or (stream == 1 and flags & _END_STREAM):
                    break
        return said


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + (
        content
    )


def _text(text: bytes) -> bytes:
    assert len(text) < 127, "longer lengths take more than one byte"
    return bytes((len(text),)) + text
