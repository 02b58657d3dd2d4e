"""Answers to the front ends: Done for what a lane finished, Failed for what it could not."""

import logging

from trtserve.errors import DeviceError, ExecutionFailed, RequestError, TrtserveError
from trtserve.ipc.message import Done, Failed, OutputBlock, Timing
from trtserve.worker.lane import LaneResult
from trtserve.worker.leases import Leases
from trtserve.worker.link import FrontEndLink
from trtserve.worker.no_room import NoRoom
from trtserve.worker.request import Batch, Request

log = logging.getLogger(__name__)


def answer(
    batch: Batch, result: LaneResult, leases: Leases, backlog_ns: int = 0
) -> list[FrontEndLink]:
    """Answer every request of a batch whose front end lives.

    The requests of one front end lie side by side in the batch. `backlog_ns` is told along with
    the times (see Timing). Returns all its front ends.
    """
    groups = _by_owner(batch.requests)
    for link, (first, last) in groups.items():
        for request in batch.requests[first:last]:
            link.requests.pop(request.submit.id, None)
    if result.error is not None:
        error = _for_callers(result.error)
        for link, (first, last) in groups.items():
            if link.alive:
                ids = tuple([request.submit.id for request in batch.requests[first:last]])
                link.channel.send(failed(ids, error))
        return list(groups)
    timing = Timing(
        result.lane, len(batch.requests), batch.rows, batch.started_ns,
        result.stage_ns, result.h2d_ns, result.compute_ns, result.d2h_ns, backlog_ns,
        result.began_ns,
    )
    lease = leases.lend(result.blocks, [link for link in groups if link.alive])
    for link, (first, last) in groups.items():
        if link.alive:
            requests = batch.requests[first:last]
            link.channel.send(Done(
                lease,
                tuple([request.submit.id for request in requests]),
                tuple([request.submit.rows for request in requests]),
                tuple([_part(block, first, last) for block in result.outputs]),
                timing,
            ))
    return list(groups)


def failed(ids: tuple[int, ...], error: RequestError) -> Failed:
    """The message that carries an error to a front end."""
    closed = error.closed if isinstance(error, NoRoom) else None
    return Failed(ids, error.word, str(error), error.retry_after_ms, closed)


def _by_owner(requests: list[Request]) -> dict[FrontEndLink, tuple[int, int]]:
    """Each front end with the first of its requests and the one after its last."""
    groups: dict[FrontEndLink, tuple[int, int]] = {}
    for position, request in enumerate(requests):
        link: FrontEndLink = request.owner
        first, _ = groups.get(link, (position, position))
        groups[link] = (first, position + 1)
    return groups


def _part(block: OutputBlock, first: int, last: int) -> OutputBlock:
    """The piece of an output that belongs to the requests first..last."""
    if first == 0 and last == len(block.sizes):
        return block
    offset = block.offset + sum(block.sizes[:first])
    return OutputBlock(block.index, block.shape, offset, block.sizes[first:last])


def _for_callers(error: TrtserveError) -> RequestError:
    """What callers are told: never a device's or our own internals."""
    if isinstance(error, RequestError):
        return error
    log.error("a batch failed: %s", error)
    if isinstance(error, DeviceError):
        return ExecutionFailed("the device failed on this batch")
    return ExecutionFailed("the batch failed")
