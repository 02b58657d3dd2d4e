"""The latency tables of all buckets, as many as memory should be spent on."""

from collections import OrderedDict

from trtserve.ipc.message import Bucket
from trtserve.worker.latency import LatencyTable

MAX_TABLES = 1024
"""Latency tables kept; beyond it the one used longest ago is forgotten. A table is about 2 KB,
and a model that takes any size can meet any number of buckets."""


class LatencyTables:
    """A table for each variant and bucket that was seen lately."""

    def __init__(self) -> None:
        self._tables: OrderedDict[tuple[int, Bucket], LatencyTable] = OrderedDict()
        self._sizes: dict[tuple[int, Bucket], tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self._tables)

    def get(self, variant: int, bucket: Bucket) -> LatencyTable | None:
        """The table if there is one. Looking at it does not keep it."""
        return self._tables.get((variant, bucket))

    def use(self, key: tuple[int, Bucket], max_rows: int) -> LatencyTable:
        """The table of a variant and bucket, made if there is none, and kept from now on."""
        table = self._tables.get(key)
        if table is None:
            table = self._tables[key] = LatencyTable(max_rows, self._sizes.get(key, ()))
            if len(self._tables) > MAX_TABLES:
                self._tables.popitem(last=False)
        else:
            self._tables.move_to_end(key)
        return table

    def pin(self, key: tuple[int, Bucket], sizes: tuple[int, ...]) -> None:
        """From now on batches of the bucket are padded to these sizes; () to none. What was
        learned of it is forgotten."""
        self._tables.pop(key, None)
        self._sizes.pop(key, None)
        if sizes:
            self._sizes[key] = sizes

    def forget(self, variant: int) -> None:
        """Drop all tables of a variant."""
        for key in [key for key in self._tables if key[0] == variant]:
            del self._tables[key]
        for key in [key for key in self._sizes if key[0] == variant]:
            del self._sizes[key]
