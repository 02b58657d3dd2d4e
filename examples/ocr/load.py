"""A short load of mixed sizes, and what it measured."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trtserve.clock import NS_PER_MS, NS_PER_S, now_ns

Infer = Callable[[str, Mapping[str, np.ndarray]], Awaitable[object]]
"""AsyncClient.infer, or what stands in for it."""


@dataclass(frozen=True)
class Measured:
    """One model at one size. Latencies in milliseconds, throughput in requests a second."""

    model: str
    size: str
    requests: int
    p50: float
    p99: float
    throughput: float


async def measure(
    infer: Infer, model: str, inputs: Sequence[np.ndarray], *, requests: int,
    seconds: float, in_flight: int = 16,
) -> list[Measured]:
    """Send inputs [1, 3, H, W] in turn, `in_flight` at a time, up to a number of requests or of
    seconds, whichever is first; one entry for each size, the smallest first.

    Raises InferenceError if a request fails.
    """
    start = now_ns()
    end = start + int(seconds * NS_PER_S)
    latencies: dict[tuple[int, ...], list[int]] = {}

    async def send(turns: Iterator[int]) -> None:
        for turn in turns:
            if now_ns() > end:
                return
            array = inputs[turn % len(inputs)]
            sent = now_ns()
            await infer(model, {"x": array})
            latencies.setdefault(array.shape, []).append(now_ns() - sent)

    turns = iter(range(requests))  # shared: each turn is taken once
    await asyncio.gather(*(send(turns) for _ in range(in_flight)))
    elapsed = (now_ns() - start) / NS_PER_S
    return [
        _measured(model, shape, samples, elapsed)
        for shape, samples in sorted(latencies.items(), key=lambda entry: np.prod(entry[0]))
    ]


def _measured(
    model: str, shape: tuple[int, ...], samples: list[int], elapsed: float
) -> Measured:
    p50, p99 = (float(np.percentile(samples, rank)) / NS_PER_MS for rank in (50, 99))
    return Measured(
        model, f"{shape[3]}x{shape[2]}", len(samples), p50, p99, len(samples) / elapsed
    )
