"""Models that come and go while the worker serves, as the supervisor orders it.

A model is *staged* beside what serves: loaded and warmed up, in the loader's thread. Then the
supervisor *commits* it on all workers, or abandons it where one of them could not load it. To
commit is to *switch*, in one turn of the loop: the new variants serve, everybody is told, and the
old ones are *retired*: front ends are asked to use them no more, and say when they do so. What is
on its way to the old ones runs there (they *drain*), and then they are *freed*.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trtserve.device.interface import Device
from trtserve.errors import ProtocolError
from trtserve.ipc import message as m
from trtserve.model.spec import ModelState
from trtserve.worker.batcher import Batcher
from trtserve.worker.equip import Equipment
from trtserve.worker.front_ends import FrontEnds
from trtserve.worker.loader import Loader
from trtserve.worker.loading import Begun, ChangeEvent, FreedModel, Loaded, StagedModel, Unloading
from trtserve.worker.memory import used_bytes
from trtserve.worker.models import Models

log = logging.getLogger(__name__)

_MIB = 1 << 20

Order = m.LoadModel | m.CommitModel | m.AbandonModel | m.UnloadModel


@dataclass(slots=True)
class _Change:
    """One order on its way.

    `staged` is None while the loader has it. `then` is what to do as soon as it is staged, where
    that was said before. `told` are the versions that were told as loading, with what was known
    of each before. `came` and `went` are versions, for the log.
    """

    order: int
    model: str
    before_bytes: int = 0
    staged: tuple[Loaded, ...] | None = None
    then: "Callable[[_Change, int], None] | None" = None
    told: dict[int, m.ModelUpdate | None] = field(default_factory=dict)
    came: Collection[int] = ()
    went: Collection[int] = ()


class Changes:
    """All orders that are not done. Every one is answered, whatever it is about."""

    def __init__(
        self, models: Models, batcher: Batcher, device: Device, front_ends: FrontEnds,
        tell: Callable[[m.AnyMessage], None], answer: Callable[[m.AnyMessage], None],
    ) -> None:
        """`tell` goes to the supervisor and all front ends, `answer` to the supervisor."""
        self._models = models
        self._residents = models.residents
        self._batcher = batcher
        self._device = device
        self._front_ends = front_ends
        self._tell = tell
        self._answer = answer
        self._loader: Loader | None = None
        self._staging: dict[int, _Change] = {}
        self._draining: list[tuple[_Change, frozenset[int]]] = []
        self._freeing: dict[int, _Change] = {}

    def open(self, loader: Loader) -> None:
        """Take the loader, which does what takes time."""
        self._loader = loader

    def order(self, message: Order, now: int) -> None:
        """Carry out an order of the supervisor, or begin to."""
        match message:
            case m.LoadModel(order, model, folder):
                self._staging[order] = _Change(order, model)
                self._to_loader.stage(order, model, Path(folder))
            case m.UnloadModel(order, model):
                self._staging[order] = _Change(order, model)
                self._to_loader.unload(order)
            case m.CommitModel(order):
                self._follow_up(order, self._commit, now)
            case m.AbandonModel(order):
                self._follow_up(order, self._abandon, now)

    def heard(self, event: ChangeEvent, now: int) -> None:
        """Go on with an order of which the loader has something to tell."""
        match event:
            case Begun(order, updates, before_bytes):
                change = self._staging[order]
                change.before_bytes = before_bytes
                if change.then is None and not self._residents.serving(change.model):
                    self._tell_loading(change, updates)
            case StagedModel():
                self._staged(event, now)
            case Unloading(order, before_bytes):
                change = self._staging.pop(order)
                change.before_bytes = before_bytes
                self._switch(change, (), now)
            case FreedModel(order, after_bytes):
                self._freed(self._freeing.pop(order), after_bytes)

    def drain(self) -> None:
        """Have freed what nobody uses any more."""
        for entry in list(self._draining):
            change, variants = entry
            if any(not variants.isdisjoint(link.retiring) for link in self._front_ends):
                continue
            if self._batcher.holds(variants) or self._models.pinning(variants):
                continue
            self._draining.remove(entry)
            self._free(change, self._models.remove(variants))

    # --- staging -------------------------------------------------------------------------

    def _tell_loading(self, change: _Change, updates: Iterable[m.ModelUpdate]) -> None:
        """Nothing of the model serves, so everybody may know that it is being loaded."""
        for update in updates:
            key = (update.model, update.version)
            change.told[update.version] = self._residents.versions.get(key)
            self._note(update)

    def _staged(self, event: StagedModel, now: int) -> None:
        change = self._staging[event.order]
        if event.error:
            del self._staging[event.order]
            if change.told or not self._residents.serving(change.model):
                self._tell_failed(change, event.failures)
            self._answer(m.Staged(event.order, error=event.error, where=event.where))
            if change.then is not None:
                self._free(change, ())
            return
        change.staged = event.loaded
        versions = tuple(loaded.spec.version for loaded in event.loaded)
        self._answer(m.Staged(event.order, versions))
        if change.then is not None:
            del self._staging[event.order]
            change.then(change, now)

    def _tell_failed(self, change: _Change, failures: Sequence[m.ModelUpdate]) -> None:
        """The model does not load. What serves since, by another order, is left alone."""
        if self._residents.serving(change.model):
            return
        for update in failures:
            self._note(update)
        self._forget_all_but(change.model, {update.version for update in failures})

    def _follow_up(
        self, order: int, then: Callable[[_Change, int], None], now: int
    ) -> None:
        """Commit or abandon what an order has staged, now or as soon as it is."""
        change = self._staging.get(order)
        if change is None:
            if not self._ends(order):
                if then == self._commit:
                    log.error("order %d is to be switched to, and is not known", order)
                used = used_bytes(self._device)
                self._answer(m.Freed(order, used, used))
        elif change.staged is None:
            change.then = then
            if then == self._abandon:
                self._to_loader.abandon(order)
        else:
            del self._staging[order]
            then(change, now)

    def _abandon(self, change: _Change, now: int) -> None:
        """Free what was staged, and tell of the model what was so before."""
        for version, before in change.told.items():
            known = self._residents.versions.get((change.model, version))
            if known is None or known.state != ModelState.LOADING:
                continue
            if before is None:
                self._tell(self._models.gone(change.model, version))
            else:
                self._note(before)
        staged = change.staged or ()
        self._free(change, [each for loaded in staged for each in loaded.variants])

    # --- switching -----------------------------------------------------------------------

    def _commit(self, change: _Change, now: int) -> None:
        staged, change.staged = change.staged or (), None
        self._switch(change, staged, now)

    def _switch(self, change: _Change, loaded: Sequence[Loaded], now: int) -> None:
        """Let these versions serve, in the place of all that the model had until now."""
        old = self._residents.serving(change.model)
        change.went = sorted({self._residents.variants[number].version for number in old})
        change.came = sorted(each.spec.version for each in loaded)
        for each in loaded:
            # First the new, then the end of the old: the model serves all the time.
            update = self._models.heard(each, now)
            if update is not None:
                self._tell(update)
        self._forget_all_but(change.model, set(change.came))
        self._residents.retire(old)
        if old:
            for link in self._front_ends:
                link.retiring.update(old)
            self._front_ends.tell(m.Retire(tuple(sorted(old))))
        self._draining.append((change, old))

    def _forget_all_but(self, model: str, versions: Collection[int]) -> None:
        """Tell that the model's other versions are gone, whatever they were."""
        for name, version in list(self._residents.versions):
            if name == model and version not in versions:
                self._tell(self._models.gone(model, version))

    # --- the end -------------------------------------------------------------------------

    def _free(self, change: _Change, equipments: Sequence[Equipment]) -> None:
        self._freeing[change.order] = change
        self._to_loader.free(change.order, equipments)

    def _freed(self, change: _Change, after_bytes: int) -> None:
        self._answer(m.Freed(change.order, change.before_bytes, after_bytes))
        log.info(
            "model %s: %s in, %s out; memory %.1f -> %.1f MiB", change.model,
            _versions(change.came), _versions(change.went),
            change.before_bytes / _MIB, after_bytes / _MIB,
        )

    def _ends(self, order: int) -> bool:
        """Whether the answer to the order is on its way."""
        return order in self._freeing or any(
            change.order == order for change, _ in self._draining
        )

    def _note(self, update: m.ModelUpdate) -> None:
        self._residents.note(update)
        self._tell(update)

    @property
    def _to_loader(self) -> Loader:
        if self._loader is None:
            raise ProtocolError("an order came before there was a loader")
        return self._loader


def _versions(numbers: Collection[int]) -> str:
    if not numbers:
        return "nothing"
    return f"version{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
