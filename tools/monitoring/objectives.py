"""The objectives that dashboards and alerts measure by. Each can be given as a variable of the
environment, so `make dashboards OBJECTIVE_LATENCY_SECONDS=0.05` makes files for others."""

import os
from dataclasses import dataclass

from trtserve.metrics import LATENCY_EDGES, SERVER_FAULTS

CLIENT_FAULTS = (
    "cancelled", "control", "denied", "invalid", "not_found", "rate", "unauthenticated",
    "unimplemented",
)
"""Outcomes that the caller brought about; they count neither as good nor as bad."""

COUNTED = "|".join(("ok", *SERVER_FAULTS))
FAILED = "|".join(SERVER_FAULTS)


@dataclass(frozen=True, slots=True)
class Objectives:
    """What users are promised, for each model, over thirty days.

    `availability`: the share of requests that do not fail. `latency`: the share of the answers
    that come within `latency_seconds`, which is an edge of the histogram's buckets.
    """

    availability: float = 0.999
    latency: float = 0.99
    latency_seconds: float = 0.5

    def __post_init__(self) -> None:
        """Raises ValueError for what can not be measured."""
        for name in ("availability", "latency"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is no share between 0 and 1")
        if self.latency_seconds not in LATENCY_EDGES:
            raise ValueError(
                f"latency_seconds: {self.latency_seconds} is no edge of the histogram; these "
                f"are: {', '.join(map(str, LATENCY_EDGES))}"
            )

    @property
    def edge(self) -> str:
        """The label `le` of the bucket that ends at `latency_seconds`."""
        return str(float(self.latency_seconds))


def given() -> Objectives:
    """The objectives of the environment (OBJECTIVE_AVAILABILITY and so on), else the defaults."""
    values = {
        name: float(os.environ[f"OBJECTIVE_{name.upper()}"])
        for name in Objectives.__dataclass_fields__
        if os.environ.get(f"OBJECTIVE_{name.upper()}")
    }
    return Objectives(**values)
