"""How full a batcher is."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatcherStatistics:
    """A snapshot: requests queued for each (model, version) and how many may be, lanes (reserved
    ones too), buckets with requests in them, latency tables."""

    queued: Mapping[tuple[str, int], int]
    limits: Mapping[tuple[str, int], int]
    lanes: int
    lanes_busy: int
    buckets: int
    tables: int
