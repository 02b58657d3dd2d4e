"""Clients that ask without a pause while something happens to the daemon."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from trtserve.client import Client

PATIENCE_S = 120


class Traffic:
    """One client for each of `asks`, on a connection of its own; the first failure of any is
    raised at the end. `answers` are what the asks made of each one's answers, in order."""

    def __init__(self, address: str, asks: Sequence[Callable[[Client], float]]) -> None:
        self._address = address
        self._asks = asks
        self._over = threading.Event()
        self._answered = threading.Condition()
        self._pool = ThreadPoolExecutor(len(asks))
        self._done: list[Future[None]] = []
        self.answers: list[list[float]] = [[] for _ in asks]

    def __enter__(self) -> "Traffic":
        self._done = [
            self._pool.submit(self._call, ask, mine)
            for ask, mine in zip(self._asks, self.answers, strict=True)
        ]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()
        errors = [error for future in self._done if (error := future.exception())]
        if errors:
            raise AssertionError(self.told()) from errors[0]

    @property
    def total(self) -> int:
        """How many answers there were."""
        return sum(map(len, self.answers))

    def each_gets(self, more: int) -> None:
        """Wait until each has had so many answers more."""
        with self._answered:
            wanted = [len(mine) + more for mine in self.answers]
            assert self._answered.wait_for(
                lambda: self._failed() or all(
                    len(mine) >= count
                    for mine, count in zip(self.answers, wanted, strict=True)
                ), PATIENCE_S,
            ), f"wanted {wanted} answers:\n{self.told()}"
            assert not self._failed(), self.told()

    def told(self) -> str:
        """What became of each client: its answers, the last of them, and its error."""
        return "\n".join(
            f"client {number}: {len(mine)} answers, the last {mine[-3:]}, "
            + (f"ended: {future.exception()!r}" if future.done() else "goes on")
            for number, (mine, future) in enumerate(zip(self.answers, self._done, strict=True))
        )

    def _failed(self) -> bool:
        return any(future.done() for future in self._done)

    def _call(self, ask: Callable[[Client], float], mine: list[float]) -> None:
        try:
            with Client(self._address, retry=False) as client:
                while not self._over.is_set():
                    answer = ask(client)
                    with self._answered:
                        mine.append(answer)
                        self._answered.notify_all()
        finally:
            with self._answered:
                self._answered.notify_all()
