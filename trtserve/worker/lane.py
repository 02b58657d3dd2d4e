"""A lane: one slot of the device's fixed pool, driven by one thread of its own."""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from setproctitle import setthreadtitle

from trtserve.device.interface import Device
from trtserve.errors import ProtocolError
from trtserve.worker.compute_order import ComputeOrder
from trtserve.worker.job import LaneJob, LaneResult
from trtserve.worker.output import OutputArena
from trtserve.worker.runner import BatchRunner

__all__ = ["Lane", "LaneJob", "LaneResult"]

log = logging.getLogger(__name__)

T = TypeVar("T")


class _Task:
    """Something else than a batch to do in the lane's thread."""

    __slots__ = ("_done", "_error", "_result", "_work")

    def __init__(self, work: Callable[[BatchRunner], Any]) -> None:
        self._work = work
        self._done = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self, runner: BatchRunner) -> None:
        try:
            self._result = self._work(runner)
        except BaseException as error:
            self._error = error
        self._done.set()

    def outcome(self) -> Any:
        """Wait for what the work returns, or raise what it raises.

        An error holds the frames that it went through. Were it held by one of them in turn (a
        Future does that), all that these frames name would stay, on the device too, until the
        garbage collector comes by.
        """
        self._done.wait()
        error, self._error = self._error, None
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error


class Lane:
    """Runs one batch at a time in its thread and hands each result to `on_done` from there.

    By the time `on_done` is called the lane takes the next batch, so `on_done` may submit it.
    Nothing that a batch does ends the thread. Whatever else touches the lane's streams and
    contexts goes through `perform`.
    """

    def __init__(
        self,
        index: int,
        device: Device,
        outputs: OutputArena,
        on_done: Callable[[LaneResult], None],
        order: ComputeOrder | None = None,
    ) -> None:
        self.index = index
        self.runner = BatchRunner(index, device, outputs, order)
        self._on_done = on_done
        self._jobs: queue.SimpleQueue[LaneJob | _Task | None] = queue.SimpleQueue()
        self._busy = threading.Lock()
        self._open = False
        # A daemon: an engine that never comes back must not keep the process from its end.
        self._thread = threading.Thread(target=self._work, name=f"lane {index}", daemon=True)

    def start(self) -> None:
        """Start the thread, which makes streams and events. Raises DeviceError."""
        self._thread.start()
        self._open = True
        try:
            self.perform(BatchRunner.open)
        except BaseException:
            self.close()
            raise

    @property
    def busy(self) -> bool:
        """Whether a batch is on the lane."""
        return self._busy.locked()

    def submit(self, job: LaneJob) -> None:
        """Run a batch. Its result comes through `on_done`, always.

        Raises ProtocolError if the lane has a batch already or is closed: then there is no
        result.
        """
        if not self._open:
            raise ProtocolError(f"lane {self.index} is not open; it got batch {job.batch_id}")
        if not self._busy.acquire(blocking=False):
            raise ProtocolError(
                f"lane {self.index} got batch {job.batch_id} while it ran another one"
            )
        self._jobs.put(job)

    def perform(self, work: Callable[[BatchRunner], T]) -> T:
        """Do something in the lane's thread, after the batch that runs, and wait for it.

        Returns what it returns and raises what it raises; ProtocolError if the lane is closed.
        """
        if not self._open:
            raise ProtocolError(f"lane {self.index} is not open")
        task = _Task(work)
        self._jobs.put(task)
        result: T = task.outcome()
        return result

    def close(self) -> None:
        """Finish the batch that runs, end the thread, give everything back. Twice is harmless."""
        if not self._open:
            return
        self._open = False
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        setthreadtitle(f"lane {self.index}")  # for top -H and profilers
        while True:
            job = self._jobs.get()
            if job is None:
                self.runner.close()
                return
            if isinstance(job, _Task):
                job.run(self.runner)
                # No reference stays here while the thread waits: a context may be closed meanwhile.
                del job
                continue
            result = self.runner.run(job)
            del job
            self._busy.release()
            try:
                self._on_done(result)
            except Exception:
                log.exception("lane %d could not hand over a result", self.index)
            del result
