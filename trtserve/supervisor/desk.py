"""Where other threads put questions to the supervisor's loop."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from trtserve.clock import now_ns
from trtserve.supervisor.snapshot import Snapshot

ANSWER_SECONDS = 5.0
"""How long a thread waits: five times what two rounds of polls may take."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is the daemon like? `fresh`: after all children have reported. `watching`: with what
    the status page shows beside."""

    fresh: bool
    watching: bool = False
    answer: Future[Snapshot] = field(default_factory=Future)


class Desk:
    """Questions go in from any thread, the loop takes them out and answers.

    `wake` makes the loop turn. `turned_ns` is when it last did: the loop sets it.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._questions: deque[Question] = deque()
        self.turned_ns = now_ns()

    def snapshot(self, fresh: bool, watching: bool = False) -> Snapshot:
        """The daemon as it is now. Raises TimeoutError when the loop does not answer."""
        question = Question(fresh, watching)
        self._questions.append(question)
        self._wake()
        return question.answer.result(ANSWER_SECONDS)

    def take(self) -> list[Question]:
        """The questions that came since the last call, in order."""
        taken = []
        while self._questions:
            taken.append(self._questions.popleft())
        return taken

    def close(self) -> None:
        """Nobody will answer any more."""
        for question in self.take():
            question.answer.set_exception(TimeoutError("the daemon has stopped"))
