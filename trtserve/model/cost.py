"""What running a variant costs, by the size of the batch. Pure."""

from bisect import bisect_left
from collections.abc import Sequence

import msgspec


class Cost(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The measured cost of one variant and bucket on one worker.

    `row_ns`: nanoseconds a row at the best batch size. `usual_rows`: the rows of a batch lately,
    0 where none ran. `points` are (rows, nanoseconds of the whole batch), by ascending rows; none:
    a batch takes `row_ns` for each row.
    """

    row_ns: int
    usual_rows: int = 0
    points: tuple[tuple[int, int], ...] = ()

    def batch_ns(self, rows: int) -> int:
        """How long a batch of so many rows (1 or more) takes.

        Between the points it is interpolated; below them the time of the smallest, above them in
        proportion to the rows: a batch that is too large runs as several.
        """
        points = self.points
        if not points:
            return rows * self.row_ns
        at = bisect_left(points, (rows, 0))
        if at == len(points):
            last_rows, last_ns = points[-1]
            return last_ns * rows // last_rows
        above_rows, above_ns = points[at]
        if not at:
            return above_ns
        below_rows, below_ns = points[at - 1]
        return below_ns + (above_ns - below_ns) * (rows - below_rows) // (above_rows - below_rows)

    def differs(self, other: "Cost", part: float) -> bool:
        """Whether any of it differs by more than that part of the other's."""
        if self.usual_rows != other.usual_rows or len(self.points) != len(other.points):
            return True
        if abs(self.row_ns - other.row_ns) > other.row_ns * part:
            return True
        return any(
            rows != old_rows or abs(ns - old_ns) > old_ns * part
            for (rows, ns), (old_rows, old_ns) in zip(self.points, other.points, strict=True)
        )


def request_ns(cost: Cost, rows: int, usual_rows: int) -> int:
    """What a request of so many rows takes of the batch that it will likely be in: its own rows
    alone, or as many as batches usually have where those are more."""
    batch = max(1, rows, usual_rows)
    return cost.batch_ns(batch) * rows // batch


def usual_size(rows: float) -> int:
    """A size of batch to tell of: the nearest power of two, so that it seldom changes; 0 for
    none."""
    if rows <= 0:
        return 0
    size = 1
    while size * size * 2 < rows * rows:  # the border to the double is at the square root of two
        size *= 2
    return size


def usual_rows(costs: Sequence[Cost]) -> int:
    """The rows of the batches that run now, by what is known of several variants of one bucket:
    all requests go to one of them, so the others have none."""
    return max((cost.usual_rows for cost in costs), default=0)
