"""What security costs: one client's unary requests, without anything, with a token, with TLS.

    python -m benchmarks.security [--rounds 5] [--seconds 1] [--json]

All daemons run at once and take turns, so that a machine that changes changes for all. Each
figure is the median of the rounds' ratios to the plain daemon in the same round.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import uvloop

from benchmarks.daemon import Daemon, running
from benchmarks.load import LIMIT, request
from tests.security.authority import Authority
from trtserve.cli.output import print_table
from trtserve.clock import now_ns
from trtserve.security.tokens import hash_of, make_token
from trtserve.testing.models import make_identity

METHOD = "/inference.GRPCInferenceService/ModelInfer"

SIZES = {"64 B": (1, 16), "600 KB": (1, 150_528)}

IN_FLIGHT = 4


@dataclass(frozen=True)
class Mode:
    """One way to be secure: the daemon's flags, and what its client sends."""

    flags: tuple[str, ...] = ()
    ca: Path | None = None
    token: str | None = None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        version = folder / "models" / "same" / "1"
        version.mkdir(parents=True)
        make_identity(str(version / "model.onnx"), ("N", "M"))
        chosen = modes(folder)
        daemons = {
            mode: stack.enter_context(running(
                folder / "models", folder / mode.replace(" ", "-"), "--devices", "cpu",
                "--front-ends", "1", *setup.flags,
            ))
            for mode, setup in chosen.items()
        }
        found = measure(chosen, daemons, options.rounds, options.seconds)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print_table(
        ("security", *(f"{size}: {what}" for size in SIZES for what in ("requests/s", "ratio"))),
        [
            (mode, *(
                text for figures in found[mode].values()
                for text in (f"{figures['rate']:,.0f}", f"{figures['ratio']:.3f}")
            ))
            for mode in found
        ],
    )


def modes(folder: Path) -> dict[str, Mode]:
    """The ways, the plain one first."""
    authority = Authority(folder)
    certificate, key = authority.server()
    token = make_token()
    access = folder / "access.yaml"
    access.write_text(json.dumps({"callers": [
        {"name": "bench", "tokens": [hash_of(token)],
         "rate": {"requests_per_second": 1e8, "burst": 1e8}},
    ]}))
    tls = ("--tls-certificate", certificate, "--tls-key", key)
    access_flags = ("--access-file", str(access))
    return {
        "none": Mode(),
        "token": Mode(access_flags, token=token),
        "TLS": Mode(tls, ca=authority.ca),
        "TLS and token": Mode((*tls, *access_flags), ca=authority.ca, token=token),
    }


def measure(
    chosen: dict[str, Mode], daemons: dict[str, Daemon], rounds: int, seconds: float
) -> dict[str, dict[str, dict[str, float]]]:
    """By mode and size: the median rate, and the median of its ratios to the first mode's."""
    rates: dict[str, dict[str, list[float]]] = {
        mode: {size: [] for size in SIZES} for mode in chosen
    }
    for turn in range(rounds + 1):
        for size, shape in SIZES.items():
            for mode, setup in chosen.items():
                data = request("same", np.ones(shape, np.float32)).SerializeToString()
                rate = uvloop.run(_rate(daemons[mode].grpc, setup, data, seconds))
                if turn:  # the first one warms up
                    rates[mode][size].append(rate)
    first = next(iter(chosen))
    return {
        mode: {
            size: {
                "rate": statistics.median(rates[mode][size]),
                "ratio": statistics.median(
                    rate / plain for rate, plain in
                    zip(rates[mode][size], rates[first][size], strict=True)
                ),
            }
            for size in SIZES
        }
        for mode in chosen
    }


async def _rate(address: str, mode: Mode, data: bytes, seconds: float) -> float:
    channel: Any
    if mode.ca is None:
        channel = grpc.aio.insecure_channel(address, options=LIMIT)
    else:
        credentials = grpc.ssl_channel_credentials(mode.ca.read_bytes())
        channel = grpc.aio.secure_channel(address, credentials, options=LIMIT)
    metadata = None if mode.token is None else (("authorization", f"Bearer {mode.token}"),)
    async with channel:
        call = channel.unary_unary(METHOD)
        await call(data, metadata=metadata)
        start = now_ns()
        end = start + int(seconds * 1e9)
        answered = 0

        async def ask() -> None:
            nonlocal answered
            while now_ns() < end:
                await call(data, metadata=metadata)
                answered += 1

        await asyncio.gather(*(ask() for _ in range(IN_FLIGHT)))
        return answered / ((now_ns() - start) / 1e9)


if __name__ == "__main__":
    main()
