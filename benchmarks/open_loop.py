"""One process of open-loop load: calls leave at times that were fixed before, whatever answers do.

Arrivals are a Poisson process. Each call is unary, with a deadline of its own; its latency counts
from when it was due, so that a late sender does not hide a wait.

    python -m benchmarks.open_loop ADDRESS MESSAGE --rate 100 --seconds 5 --deadline-ms 500

The process prints `ready`, begins when it reads a line with the start on the monotonic clock (in
nanoseconds), and prints what came of each call as JSON. MESSAGE is a file with a serialized
ModelInferRequest.
"""

import argparse
import asyncio
import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import process_time_ns

import grpc
import numpy as np
import uvloop

from trtserve.clock import NS_PER_MS, NS_PER_S, now_ns

INFER = "/inference.GRPCInferenceService/ModelInfer"
PUSHBACK = "grpc-retry-pushback-ms"

OPTIONS = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))
"""A retry would be load that the schedule does not know of."""


@dataclass(slots=True)
class Report:
    """What came of the calls. Times in nanoseconds; `cpu` is the share of one core that this
    process took."""

    offered: int
    accepted_ns: list[int] = field(default_factory=list)
    """From due to answered, for calls that succeeded."""
    late: int = 0
    """Accepted, and not answered by the deadline."""
    refused_ns: list[int] = field(default_factory=list)
    """From sent to refused, for calls that found no room."""
    without_pushback: int = 0
    """Refusals that do not say when to come again."""
    others: dict[str, int] = field(default_factory=dict)
    """Calls that failed otherwise, by their code."""
    lag_ns: list[int] = field(default_factory=list)
    """From due to sent."""
    cpu: float = 0.0


def schedule(rate: float, seconds: float, seed: int) -> list[int]:
    """When calls are due, in nanoseconds from the start: a Poisson process."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(NS_PER_S / rate, size=int(rate * seconds * 1.5) + 50)
    due = np.cumsum(gaps)
    return [int(at) for at in due[due < seconds * NS_PER_S]]


async def send(
    address: str, message: bytes, due: list[int], deadline_ns: int, report: Report
) -> None:
    """Send all, and wait for the last answer."""
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        call = channel.unary_unary(INFER)
        await channel.channel_ready()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        start = int(sys.stdin.readline())
        pending: set[asyncio.Task[None]] = set()
        began = process_time_ns()

        async def one(when: int) -> None:
            sent = now_ns()
            report.lag_ns.append(sent - when)
            # The deadline is the user's: what the sender lost counts.
            left = (when + deadline_ns - sent) / NS_PER_S
            try:
                await call(message, timeout=max(left, 0.001))
            except grpc.aio.AioRpcError as error:
                _note(report, error, now_ns() - sent)
            else:
                took = now_ns() - when
                report.accepted_ns.append(took)

        for at in due:
            when = start + at
            wait = when - now_ns()
            if wait > 0:
                await asyncio.sleep(wait / NS_PER_S)
            task = asyncio.create_task(one(when))
            pending.add(task)
            task.add_done_callback(pending.discard)
        while pending:
            await asyncio.wait(pending)
        report.cpu = (process_time_ns() - began) / max(1, now_ns() - start)


def _note(report: Report, error: grpc.aio.AioRpcError, took_ns: int) -> None:
    code = error.code()
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        report.refused_ns.append(took_ns)
        if PUSHBACK not in dict(error.trailing_metadata() or ()):
            report.without_pushback += 1
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
        report.late += 1
    else:
        report.others[code.name] = report.others.get(code.name, 0) + 1


def main() -> None:
    """Send the load and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("message", type=Path)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--deadline-ms", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    due = schedule(options.rate, options.seconds, options.seed)
    report = Report(len(due))
    uvloop.run(send(
        options.address, options.message.read_bytes(), due, options.deadline_ms * NS_PER_MS, report
    ))
    sys.stdout.write(json.dumps(asdict(report)) + "\n")


if __name__ == "__main__":
    main()
