"""Whether answers under full load are right: against the CPU's, and against one another."""

import numpy as np

from benchmarks.gpu import case
from benchmarks.gpu.front_end import Driver
from trtserve.ipc import message as m


class Checker:
    """Looks at answers, as a driver's `on_done`.

    `expected` has the logits of the first images of each size. `compared` answers were to these
    images; `worst` is their largest relative error, and `agree` of them have the same class on
    top. `repeated` answers were to images that had been answered before; `spread` is the largest
    relative difference between two answers to one image.
    """

    def __init__(self, driver: Driver, expected: dict[int, np.ndarray]) -> None:
        self._driver = driver
        self._expected = expected
        self._first: dict[tuple[int, int], np.ndarray] = {}
        self.compared = 0
        self.agree = 0
        self.worst = 0.0
        self.repeated = 0
        self.spread = 0.0

    def __call__(self, done: m.Done, view: memoryview) -> None:
        """Look at one answer."""
        (block,) = done.outputs
        size = sum(block.sizes)
        data = np.frombuffer(bytes(view[block.offset : block.offset + size]), np.float16)
        for ident, row in zip(done.ids, data.reshape(len(done.ids), -1), strict=True):
            picture = self._driver.picture(ident)
            wide = row.astype(np.float32)
            known = self._expected[picture.size]
            if picture.number < len(known):
                expected = known[picture.number]
                self.worst = max(self.worst, case.relative_error(wide, expected))
                self.agree += int(wide.argmax() == expected.argmax())
                self.compared += 1
            first = self._first.setdefault((picture.size, picture.number), wide)
            if first is not wide:
                self.repeated += 1
                self.spread = max(self.spread, case.relative_error(wide, first))

    def distinct(self) -> float:
        """How far apart the logits of different images are at least: an answer given to the
        wrong request shows only if this is well above the errors."""
        least = float("inf")
        for size, known in self._expected.items():
            rows = [row for (at, _), row in self._first.items() if at == size]
            for one in known:
                errors = sorted(case.relative_error(row, one) for row in rows)
                least = min(least, errors[1]) if len(errors) > 1 else least
        return least
