"""Daemons are restarted one after the other under load: no call may fail.

    python -m benchmarks.rolling_restart [--rounds 2] [--daemons 3] [--callers 16] [--json FILE]

One client has all daemons in its target (ipv4:HOST:PORT,HOST:PORT,...), takes them in turn
(round_robin) and retries by the service config that docs/protocol.md gives. Each daemon in turn
gets SIGTERM, says not-ready for its drain delay, finishes what it has, ends, and is started again
on the same port; the next one's turn comes when the client has found it again, and some seconds
have passed. Every answer is looked at.
"""

import argparse
import asyncio
import json
import signal
import socket
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import uvloop

from benchmarks import daemon as daemons
from benchmarks.open_loop import INFER
from tests.e2e.calls import floats, plus_request
from tests.e2e.repositories import add_plus
from trtserve.cli.output import print_line, print_table
from trtserve.client.operation import SERVICE_CONFIG, channel_options
from trtserve.clock import NS_PER_MS, NS_PER_S, now_ns
from trtserve.proto import grpc_service_pb2 as pb

CALM_S = 3.0
"""Between one daemon's return and the next one's end. A client that could not connect tries again
after two seconds at the latest (client/operation.py)."""

FOUND_S = 60
"""How long the client may take to find a daemon that is back: far more than it ever does."""

_LOOK_S = 0.1


@dataclass(slots=True)
class Outcome:
    """What came of all calls."""

    restarts: int = 0
    seconds: float = 0.0
    took_ns: list[int] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def options() -> list[tuple[str, Any]]:
    """The typed client's options, and all daemons in turn."""
    config = {**SERVICE_CONFIG, "loadBalancingConfig": [{"round_robin": {}}]}
    found = dict(channel_options(retry=True))
    found["grpc.service_config"] = json.dumps(config)
    return list(found.items())


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    taken = [socket.socket() for _ in range(count)]
    try:
        for each in taken:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in taken]
    finally:
        for each in taken:
            each.close()


class Fleet:
    """Daemons that serve the same repository, each on a port of its own."""

    def __init__(self, repository: Path, folder: Path, count: int, delay: float) -> None:
        self._repository = repository
        self._folder = folder
        self._delay = delay
        self.ports = free_ports(count)
        self.daemons = [self._start(index) for index in range(count)]

    @property
    def target(self) -> str:
        """What a client connects to."""
        return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def restart(self, index: int) -> None:
        """End one daemon in good order, and start it again."""
        old = self.daemons[index]
        old.process.send_signal(signal.SIGTERM)
        status = old.process.wait(60)
        if status:
            raise RuntimeError(f"a daemon ended with {status}")
        self.daemons[index] = self._start(index)

    def asked(self) -> bool:
        """Whether every daemon has answered something since it was started last."""
        return all(_answers(daemon) for daemon in self.daemons)

    def close(self) -> None:
        """End all."""
        for daemon in self.daemons:
            daemon.process.send_signal(signal.SIGINT)
        for daemon in self.daemons:
            daemon.process.wait(60)

    def _start(self, index: int) -> daemons.Daemon:
        return daemons.start(
            self._repository, self._folder / str(index), "--devices", "cpu", "--front-ends", "1",
            "--drain-delay-seconds", str(self._delay), grpc_port=self.ports[index],
        )


def _answers(daemon: daemons.Daemon) -> float:
    """How many requests a daemon has answered."""
    with urllib.request.urlopen(f"http://{daemon.ready['http']}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(
        float(line.rpartition(" ")[2]) for line in lines
        if line.startswith("trtserve_requests_total{")
    )


async def settle(fleet: Fleet, calm: float) -> None:
    """Wait until the client uses every daemon: else it may know of none once the next one ends.
    Then so many seconds more. Raises RuntimeError if it does not find one."""
    for _ in range(int(FOUND_S / _LOOK_S)):
        if await asyncio.to_thread(fleet.asked):
            await asyncio.sleep(calm)
            return
        await asyncio.sleep(_LOOK_S)
    raise RuntimeError("the client does not find a daemon that is back")


async def call_on(
    call: grpc.aio.UnaryUnaryMultiCallable, number: int, over: asyncio.Event, outcome: Outcome
) -> None:
    """Ask again and again until it is over."""
    x = np.full((1, 16), number, np.float32)
    message = plus_request(x)
    while not over.is_set():
        began = now_ns()
        try:
            answer = await call(message, timeout=30)
        except grpc.aio.AioRpcError as error:
            outcome.failed.append(f"{error.code().name}: {error.details()}")
        else:
            outcome.took_ns.append(now_ns() - began)
            if not np.array_equal(floats(answer), x + 1):
                outcome.failed.append("a wrong answer")


async def roll(fleet: Fleet, rounds: int, callers: int, calm: float) -> Outcome:
    """Restart every daemon that many times, while callers ask."""
    outcome = Outcome()
    over = asyncio.Event()
    async with grpc.aio.insecure_channel(fleet.target, options=options()) as channel:
        call = channel.unary_unary(INFER, response_deserializer=pb.ModelInferResponse.FromString)
        await call(plus_request(np.zeros((1, 16), np.float32)), wait_for_ready=True)
        asking = [
            asyncio.create_task(call_on(call, number, over, outcome)) for number in range(callers)
        ]
        began = now_ns()
        await settle(fleet, calm)
        for _ in range(rounds):
            for index in range(len(fleet.daemons)):
                await asyncio.to_thread(fleet.restart, index)
                outcome.restarts += 1
                await settle(fleet, calm)
        over.set()
        await asyncio.gather(*asking)
        outcome.seconds = (now_ns() - began) / NS_PER_S
    return outcome


def run(
    folder: Path, *, count: int, rounds: int, callers: int, delay: float, calm: float = CALM_S
) -> Outcome:
    """Everything, with daemons of its own."""
    add_plus(folder / "models")
    fleet = Fleet(folder / "models", folder, count, delay)
    try:
        outcome: Outcome = uvloop.run(roll(fleet, rounds, callers, calm))
        return outcome
    finally:
        fleet.close()


def show(outcome: Outcome) -> None:
    """The figures."""
    took: Sequence[int] = outcome.took_ns
    p50, p99 = (float(np.percentile(took, percent)) / NS_PER_MS for percent in (50, 99))
    print_table(
        ("restarts", "seconds", "calls", "failed", "p50 ms", "p99 ms", "longest ms"),
        [(outcome.restarts, f"{outcome.seconds:.1f}", len(took) + len(outcome.failed),
          len(outcome.failed), f"{p50:.1f}", f"{p99:.1f}", f"{max(took) / NS_PER_MS:.0f}")],
    )
    for text in sorted(set(outcome.failed)):
        print_line(f"{outcome.failed.count(text)} times {text}")


def main() -> None:
    """Run and print; exit code 1 if a call failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--daemons", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2, help="restarts of each daemon")
    parser.add_argument("--callers", type=int, default=16, help="calls in flight at once")
    parser.add_argument("--drain-delay", type=float, default=0.5)
    parser.add_argument("--calm", type=float, default=CALM_S,
                        help="seconds between restarts, at least")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(
            Path(folder), count=chosen.daemons, rounds=chosen.rounds, callers=chosen.callers,
            delay=chosen.drain_delay, calm=chosen.calm,
        )
    show(outcome)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({
            "restarts": outcome.restarts, "seconds": outcome.seconds,
            "answered": len(outcome.took_ns), "failed": outcome.failed,
            "longest_ms": max(outcome.took_ns) / NS_PER_MS,
        }, indent=2) + "\n")
    sys.exit(bool(outcome.failed))


if __name__ == "__main__":
    main()
