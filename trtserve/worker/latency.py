"""What is learned of one bucket: how long its batches take, and how closely its requests come."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from msgspec.structs import replace

from trtserve.model.cost import Cost, usual_size

TRIALS = 3
"""Runs of a size before it is judged. The first run of a shape plans and allocates, so until
then the quickest run counts, not the mean."""

WEIGHT = 1 / 8
"""What one measurement adds to the mean: follows a change within some ten batches."""

STRAY = 2
"""A measurement counts at most this many times the mean. One run that was descheduled does not
upset the table; a real slowdown still arrives, at WEIGHT a batch."""

PAYS = 0.05
"""Doubling a batch pays when it raises the rows per second by 5 %: less is within the noise of
measurements, and costs every request of the batch twice the time."""

LONG_NS = 250_000_000
LONG_PAYS = 0.5
"""A batch cannot be interrupted and holds its lane to the end. Beyond a quarter of a second a
doubling must therefore raise the rows per second by half."""

REFRESH = 256
"""After as many batches the size beyond the best is judged afresh, because the device, its clock
or its neighbours may have changed: about one batch in a hundred is such a trial."""

SETTLED = 16
AGAIN = 8
"""After so many batches of a size the mean moves slowly: the best size is then worked out anew
for every eighth batch only, which is a tenth of the loop's own time for a lone request."""

PATIENCE = 3
"""A request waits for company for a third of a lone one's service time. Simulated with three
lanes that share one device (they meet at its compute), Poisson arrivals and 5 to 60 % load: a
third shortens the median latency by up to 16 % and never lengthens it, since lanes stop queueing
behind each other; with wholly independent lanes it lengthens it by at most 6 % and batches are up
to 30 % larger. A half gains twice that where lanes share, and costs 45 % where they do not."""

MAX_PATIENCE_NS = 2_000_000
"""Two milliseconds: what people notice least beside a slow model's own time."""

USUAL_NS = 2_000_000_000
"""How batches usually are is told while requests come, and two seconds beyond."""

MAX_GAP_NS = 4 * MAX_PATIENCE_NS
"""A longer pause counts as this much, so that a bucket which was idle soon counts as busy."""


class _Cell:
    """What is known of the sizes from one grid point to the next: one point of the curve.

    Rows and time are averaged together, so the point stays on the curve where that is straight,
    whatever the mix of sizes.
    """

    __slots__ = ("least_row_ns", "ns", "rows", "samples")

    def __init__(self) -> None:
        self.samples = 0
        self.least_row_ns = float("inf")
        self.rows = 0.0
        self.ns = 0.0

    def record(self, rows: int, ns: int) -> None:
        self.least_row_ns = min(self.least_row_ns, ns / rows)
        if self.samples < TRIALS:
            if not self.samples or ns * self.rows < self.ns * rows:
                self.rows = rows
                self.ns = ns
        else:
            ceiling = STRAY * self.ns * rows / self.rows
            self.rows += (rows - self.rows) * WEIGHT
            self.ns += (min(ns, ceiling) - self.ns) * WEIGHT
        self.samples += 1


class LatencyTable:
    """The measured service time l(rows) of one variant and bucket, in nanoseconds.

    The grid is 1, 2, 4, ... and `max_rows`, the largest batch; or the given `sizes`, to which
    batches are padded, so that each takes as long as the next larger size. Two plain attributes
    are read for every request:

    - `best_rows`: beyond this size growing no longer pays. While the sizes measured so far paid,
      it is the next size of the grid, so that an unknown bucket tries 1, 2, 4, ... in turn, and
      a model that gains nothing from batches stays at small ones.
    - `patience_ns`: how long a request should wait for company while a lane is free. 0 before
      the first measurement, and while requests come too far apart for another to come in time.
    """

    __slots__ = (
        "_arrived_ns", "_cache", "_cells", "_cost", "_gap_ns", "_grid", "_padded", "_records",
        "_rows", "_worth_ns", "best_rows", "patience_ns",
    )

    def __init__(self, max_rows: int, sizes: Sequence[int] = ()) -> None:
        grid = list(sizes) or [1]
        while not sizes and grid[-1] < max_rows:
            grid.append(min(2 * grid[-1], max_rows))
        self._grid = grid
        self._padded = bool(sizes)
        self._cells = [_Cell() for _ in grid]
        self._cache: dict[int, int] = {}
        self._records = 0
        self.best_rows = 1
        self.patience_ns = 0
        self._worth_ns = 0
        self._arrived_ns = 0
        self._gap_ns = MAX_GAP_NS
        self._rows = 0.0
        self._cost: tuple[int, Cost] | None = None

    def arrival(self, now: int) -> None:
        """A request of this bucket came."""
        gap = now - self._arrived_ns
        if gap > MAX_GAP_NS:
            gap = MAX_GAP_NS
        elif gap < 0:  # front ends are not quite in step
            gap = 0
        self._arrived_ns = now
        self._gap_ns += (gap - self._gap_ns) >> 3  # by an eighth, as WEIGHT
        self.patience_ns = self._worth_ns if self._gap_ns < self._worth_ns else 0

    def record(self, rows: int, service_ns: int) -> None:
        """Learn that a batch of so many rows (1 or more) took so long."""
        rows = self._run_rows(rows)
        index = max(0, bisect_right(self._grid, rows) - 1)
        cell = self._cells[index]
        cell.record(rows, service_ns)
        self._cache.clear()
        self._records += 1
        if cell.samples <= SETTLED or not self._records % AGAIN:
            self.best_rows = self._find_best()
        lone = self.estimate(1) or 0
        self._worth_ns = min(lone // PATIENCE, MAX_PATIENCE_NS)

    def estimate(self, rows: int) -> int | None:
        """The service time of a batch of so many rows; None before the first measurement.

        Between measured sizes it is interpolated. Beyond them it errs on the long side: above
        the largest in proportion to the rows, below the smallest the time of the smallest.
        """
        found = self._cache.get(rows)
        if found is None and self._records:
            found = self._cache[rows] = self._interpolate(self._run_rows(rows))
        return found

    def alone(self, rows: int) -> int | None:
        """What a batch of so many rows takes with the device to itself: the quickest that was
        seen. None before the first of its size."""
        rows = self._run_rows(rows)
        cell = self._cells[max(0, bisect_right(self._grid, rows) - 1)]
        return int(cell.least_row_ns * rows) if cell.samples else None

    def left(self, rows: int) -> None:
        """A batch of so many rows has left the queue."""
        self._rows += (rows - self._rows) * (WEIGHT if self._rows else 1)

    def cost(self, now: int = 0) -> Cost | None:
        """What batches of each size that was measured take, and the rows of those that run now;
        None before the first measurement."""
        if not self._records:
            return None
        usual = usual_size(self._rows if now - self._arrived_ns < USUAL_NS else 0)
        if self._cost is None or self._cost[0] != self._records:
            self._cost = self._records, Cost(
                int(min(cell.ns / cell.rows for cell in self._cells if cell.samples)), usual,
                tuple(
                    (size, self.estimate(size) or 0)
                    for size, cell in zip(self._grid, self._cells, strict=True) if cell.samples
                ),
            )
        elif self._cost[1].usual_rows != usual:
            self._cost = self._records, replace(self._cost[1], usual_rows=usual)
        return self._cost[1]

    def _run_rows(self, rows: int) -> int:
        """The rows that the engine runs for a batch of so many."""
        if not self._padded or rows >= self._grid[-1]:
            return rows
        return self._grid[bisect_left(self._grid, rows)]

    def _interpolate(self, rows: int) -> int:
        below = above = None
        for cell in self._cells:
            if cell.samples and cell.rows <= rows:
                below = cell
            elif cell.samples:
                above = cell
                break
        if above is None:
            return int(below.ns * rows / below.rows) if below else 0
        if below is None:
            return int(above.ns)
        part = (rows - below.rows) / (above.rows - below.rows)
        return int(below.ns + (above.ns - below.ns) * part)

    def _find_best(self) -> int:
        best = self._grid[0]
        tried = [cell.samples >= TRIALS for cell in self._cells]
        for index, size in enumerate(self._grid):
            if not tried[index]:
                if any(tried[index:]):
                    continue  # requests of many rows have shown what lies beyond
                return size
            if size > best and not self._pays(best, size):
                if self._records % REFRESH:
                    break
                self._forget(index)
                return size
            best = size
        return best

    def _forget(self, index: int) -> None:
        """Have the sizes from this one on tried again."""
        for cell in self._cells[index:]:
            cell.samples = 0
        self._cache.clear()

    def _pays(self, size: int, larger: int) -> bool:
        """Whether growing raises the rows per second enough. The last step of the grid may be
        less than a doubling, and then needs proportionally less."""
        before, after = self.estimate(size) or 1, self.estimate(larger) or 1
        wanted = PAYS if after < LONG_NS else LONG_PAYS
        return larger * before >= size * after * (1 + wanted * (larger - size) / size)
