"""A batch on its lane, whole or taken apart."""

from trtserve.errors import DeviceError, Overloaded, TrtserveError
from trtserve.worker.lane import Lane, LaneResult
from trtserve.worker.request import Batch
from trtserve.worker.trial import Trial


class Run:
    """A batch that a lane runs: whole at first, and request by request where that is needed.

    An engine fails a batch as a whole, also where only one request's values are to blame (an
    index out of range, text that is no UTF-8). Run alone, the innocent succeed. `part` is what
    the lane runs now, `position` the place of a lone request in the batch. With a `trial` the
    whole was run only to be compared. `service_ns` is the whole's, None where it failed.
    """

    __slots__ = ("_rest", "batch", "lane", "part", "position", "service_ns", "trial")

    def __init__(self, batch: Batch, lane: Lane) -> None:
        self.batch = batch
        self.lane = lane
        self.part = batch
        self.position = 0
        self.trial: Trial | None = None
        self.service_ns: int | None = None
        self._rest: list[tuple[int, Batch]] = []

    @property
    def whole(self) -> bool:
        """Whether the lane runs several requests now."""
        return len(self.part.requests) > 1

    def split(self, trial: Trial | None) -> None:
        """Run the requests one by one next, to compare them or to find the one to blame."""
        self.trial = trial
        batch = self.batch
        self._rest = [
            (position, Batch(
                batch.id, batch.variant, batch.bucket, [request], request.rows, batch.started_ns
            ))
            for position, request in reversed(list(enumerate(batch.requests)))
        ]

    def compare(self, result: LaneResult, view: memoryview) -> None:
        """If there is a trial: compare what a lone request got, while its blocks are held.

        `view` is the output arena.
        """
        if self.trial is None:
            return
        if result.error is None:
            self.trial.compare(self.position, result.outputs, view)
        else:
            self.trial.passed = False

    def next_part(self) -> Batch | None:
        """The next request to run alone whose caller is still there, if any; it becomes `part`."""
        while self._rest:
            self.position, self.part = self._rest.pop()
            if self.part.requests[0].owner.alive:
                return self.part
        return None


def blames_a_request(error: TrtserveError) -> bool:
    """Whether an error may be one request's doing: not a device's, nor want of memory."""
    return not isinstance(error, (DeviceError, Overloaded))
