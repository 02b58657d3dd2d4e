"""One change of one model, step by step: pure, it hears what workers say and gives orders.

A load goes beside what serves: every living worker is asked to load the model, and only when all
of them have it ready are they told to switch. One that can not, or dies, ends the order for all:
what the others have loaded is freed, and what served before goes on serving. An unload needs
nobody's consent.

A worker that dies before the switch may have died of the model, so the order fails: its successor
starts with what served before. Where it was busy with another one the order fails *by chance*: it
may be tried again. One that joins late, because it was down when the order began, is
asked too, but its death counts for nothing: it may have died of what it kept dying of.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from trtserve.ipc.message import (
    AbandonModel,
    CommitModel,
    LoadModel,
    Staged,
    UnloadModel,
)


class Step(IntEnum):
    """Where a change is between asked for and over."""

    WAITING = 0
    LOADING = 1
    FREEING = 2
    DONE = 3


@dataclass(frozen=True, slots=True)
class Tell:
    """A message for the worker of that name."""

    worker: str
    message: LoadModel | CommitModel | AbandonModel | UnloadModel


class Change:
    """The load of `model` from `folder`, or with no folder its unload.

    `order` is its number in messages. `error` says why it failed, "" for success; `where` is for
    the operator only; `by_chance`: that it had nothing to do with the model.
    """

    def __init__(self, order: int, model: str, folder: str | None) -> None:
        self.order = order
        self.model = model
        self.folder = folder
        self.step = Step.WAITING
        self.error = ""
        self.where = ""
        self.by_chance = False
        self._loading: set[str] = set()
        self._staged: set[str] = set()
        self._late: set[str] = set()
        self._freeing: set[str] = set()
        self._versions: set[int] = set()

    @property
    def answered(self) -> bool:
        """Whether every worker that was asked to load has answered or is gone."""
        return self.step is Step.LOADING and not self._loading

    def begin(self, workers: Iterable[str]) -> list[Tell]:
        """Ask these workers."""
        names = sorted(workers)
        if self.folder is None:
            self._free(names)
            return [Tell(name, UnloadModel(self.order, self.model)) for name in names]
        self.step = Step.LOADING
        self._loading.update(names)
        return [self._load(name, self.folder) for name in names]

    def joined(self, worker: str) -> list[Tell]:
        """A worker has started, with what served before: while others load, it is asked too.
        Not for an order that has failed: it would load for nothing, or die as another did."""
        if self.step is not Step.LOADING or self.folder is None or self.error:
            return []
        self._loading.add(worker)
        self._late.add(worker)
        return [self._load(worker, self.folder)]

    def loads_on(self, worker: str) -> bool:
        """Whether that worker was asked to load it and has not answered."""
        return self.step is Step.LOADING and worker in self._loading

    def left(self, worker: str, *, blamed: bool = True) -> None:
        """A worker is dead, and all that it had loaded with it. `blamed`: it may have died of
        this model."""
        if self.step is Step.LOADING and worker in self._loading | self._staged:
            if worker not in self._late:
                doing = "the model was being loaded" if blamed else "it was busy with another model"
                self.fail(f"the worker process ended while {doing}", by_chance=not blamed)
            self._late.discard(worker)
            self._loading.discard(worker)
            self._staged.discard(worker)
        self._freed(worker)

    def staged(self, worker: str, message: Staged) -> None:
        """A worker's answer to LoadModel."""
        if worker not in self._loading:
            return
        self._loading.discard(worker)
        if message.error:
            self.fail(message.error, message.where)
        else:
            self._staged.add(worker)
            self._versions.update(message.versions)

    def freed(self, worker: str) -> None:
        """A worker's answer to what ended the order there."""
        self._freed(worker)

    def fail(self, error: str, where: str = "", *, by_chance: bool = False) -> None:
        """It can not succeed any more. The first reason counts."""
        if not self.error:
            self.error, self.where, self.by_chance = error, where, by_chance

    def decide(self) -> list[Tell]:
        """Once all have answered: the switch, or with an error its opposite, for all that have
        it loaded."""
        if not self._versions:
            self.fail("no device of this server serves it: see its instance_group")
        ends = AbandonModel if self.error else CommitModel
        names = sorted(self._staged)
        self._free(names)
        return [Tell(name, ends(self.order)) for name in names]

    def give_up(self) -> None:
        """Wait for nobody any more."""
        self.step = Step.DONE

    def _load(self, worker: str, folder: str) -> Tell:
        return Tell(worker, LoadModel(self.order, self.model, folder))

    def _free(self, workers: Iterable[str]) -> None:
        self._freeing.update(workers)
        self.step = Step.FREEING if self._freeing else Step.DONE

    def _freed(self, worker: str) -> None:
        self._freeing.discard(worker)
        if self.step is Step.FREEING and not self._freeing:
            self.step = Step.DONE
