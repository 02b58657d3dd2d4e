"""A change of models with what belongs to it: who asked, what is answered, what is removed."""

from dataclasses import dataclass
from typing import Protocol

from trtserve.supervisor.change import Change
from trtserve.supervisor.post import Post
from trtserve.supervisor.settling import Wish

_ROUNDS = 2
"""Rounds of polls between a switch and its answer: after the first all workers have told front
ends, after the second all front ends have heard."""


class Watcher(Protocol):
    """Where wishes come from (watch.py)."""

    def take(self) -> list[Wish]:
        """Those since the last call."""

    def same(self, wish: Wish) -> bool:
        """Whether the folder has not changed since."""

    def again(self, model: str) -> None:
        """It has: wish once more when it has settled."""


@dataclass(frozen=True, slots=True)
class Asker:
    """A front end's ControlRequest, from the process `pid` in a post."""

    post: Post
    pid: int
    token: int


@dataclass(slots=True)
class Confirmation:
    """An answer that waits until everybody knows of what it tells."""

    change: Change
    asker: Asker | None
    word: str
    message: str
    rounds: int = _ROUNDS


@dataclass(slots=True)
class Job:
    """A change on its way. `wish` made it, or `asker`. `replaced` is the folder that served
    before. `concluded`: what becomes of it is decided; freeing may take until `until_ns`."""

    change: Change
    asker: Asker | None = None
    wish: Wish | None = None
    replaced: str | None = None
    until_ns: int = 0
    concluded: bool = False
