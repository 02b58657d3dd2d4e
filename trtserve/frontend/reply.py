"""Where answers go: to a waiting call, into a batch of answers, or onto a stream in order.

Every request has a reply and a slot in it, and is answered exactly once. Replies are told on
the event loop's thread.
"""

import asyncio
from collections import deque
from typing import Protocol

from trtserve.errors import RequestError
from trtserve.frontend import wire
from trtserve.frontend.call import NO_CALL, Call
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.proto import trtserve_pb2 as v1

Parts = list[bytes | memoryview]
"""Pieces of a serialized ModelInferResponse. Views are of shared memory: read them at once."""


MAX_STREAM_BYTES = 64 << 20
"""Of answers that one stream's client has not taken yet, before no more requests are read."""


class Reply(Protocol):
    """Takes the answer of one slot. `call` is the gRPC call that it belongs to."""

    call: Call

    def answer(self, slot: int, parts: Parts, size: int) -> None:
        """It succeeded; the parts are `size` bytes together."""

    def fail(self, slot: int, error: RequestError, request_id: bytes) -> None:
        """It failed."""


class UnaryReply:
    """The answer of one call."""

    __slots__ = ("call", "future")

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Call = NO_CALL) -> None:
        self.call = call
        self.future: asyncio.Future[bytes] = loop.create_future()

    def answer(self, slot: int, parts: Parts, size: int) -> None:
        """Join the parts and wake the call."""
        if not self.future.done():
            self.future.set_result(b"".join(parts))

    def fail(self, slot: int, error: RequestError, request_id: bytes) -> None:
        """Raise the error in the call."""
        if not self.future.done():
            self.future.set_exception(error)


class BatchReply:
    """The answers of one InferBatch call; `future` gets the serialized response."""

    __slots__ = ("_items", "_missing", "call", "future")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, items: int, call: Call = NO_CALL
    ) -> None:
        self.call = call
        self.future: asyncio.Future[bytes] = loop.create_future()
        self._items: list[bytes] = [b""] * items
        self._missing = items
        if not items:
            self.future.set_result(b"")

    def answer(self, slot: int, parts: Parts, size: int) -> None:
        """Keep the answer of one item."""
        parts.insert(0, wire.item_frame(size))
        self._set(slot, b"".join(parts))

    def fail(self, slot: int, error: RequestError, request_id: bytes) -> None:
        """Keep the error of one item."""
        item = v1.InferBatchItem(error=v1.InferError(
            code=STATUS_NUMBERS[error.code],
            message=error.text,
            retry_after_ms=error.retry_after_ms or 0,
        ))
        self._set(slot, wire.batch_item(item.SerializeToString()))

    def _set(self, slot: int, item: bytes) -> None:
        self._items[slot] = item
        self._missing -= 1
        if not self._missing and not self.future.done():
            self.future.set_result(b"".join(self._items))


class StreamReply:
    """The answers of one stream, given out in the order of the slots."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Call = NO_CALL) -> None:
        self.call = call
        self._loop = loop
        self._slots: deque[bytes | None] = deque()
        self._first = 0
        self._wake: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._limit = 0
        self._bytes = 0
        self._ended = False

    @property
    def waiting(self) -> int:
        """Answers not given out yet."""
        return len(self._slots)

    def has_room(self, limit: int) -> bool:
        """Whether fewer than `limit` answers are waiting, and not too many bytes of them."""
        return len(self._slots) < limit and self._bytes < MAX_STREAM_BYTES

    def open_slot(self) -> int:
        """A slot for the next request."""
        self._slots.append(None)
        return self._first + len(self._slots) - 1

    def answer(self, slot: int, parts: Parts, size: int) -> None:
        """Keep one answer."""
        parts.insert(0, wire.stream_frame(size))
        self._set(slot, b"".join(parts))

    def fail(self, slot: int, error: RequestError, request_id: bytes) -> None:
        """Keep one error, in band, with the request's id so that the client knows which."""
        message = pb.ModelStreamInferResponse(
            error_message=error.text,
            infer_response=pb.ModelInferResponse(id=request_id.decode(errors="replace")),
        )
        self._set(slot, message.SerializeToString())

    def end(self) -> None:
        """No more requests will come."""
        self._ended = True
        self._notify()

    async def next(self) -> bytes | None:
        """The next answer in order, or None when all were given out and no more will come."""
        while True:
            if self._slots and self._slots[0] is not None:
                self._first += 1
                answer = self._slots.popleft()
                self._bytes -= len(answer or b"")
                if self._room is not None and self.has_room(self._limit):
                    if not self._room.done():  # cancelled with the call
                        self._room.set_result(None)
                    self._room = None
                return answer
            if self._ended and not self._slots:
                return None
            self._wake = self._loop.create_future()
            await self._wake

    async def below(self, limit: int) -> None:
        """Wait until there is room for another one of `limit` answers."""
        if not self.has_room(limit):
            self._limit = limit
            self._room = self._loop.create_future()
            await self._room

    def _set(self, slot: int, message: bytes) -> None:
        index = slot - self._first
        self._slots[index] = message
        self._bytes += len(message)
        if index == 0:
            self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


STATUS_NUMBERS = {
    "CANCELLED": 1, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5,
    "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9,
    "UNIMPLEMENTED": 12, "INTERNAL": 13, "UNAVAILABLE": 14, "UNAUTHENTICATED": 16,
}
"""gRPC's status codes by name: https://grpc.github.io/grpc/core/md_doc_statuscodes.html"""
