"""What a front end knows of models: who serves what, by what workers and the supervisor say."""

from collections.abc import Callable

import msgspec

from trtserve.ipc.message import Costs, ModelUpdate, Wanted
from trtserve.model.catalog import Catalog, Placement
from trtserve.model.spec import ModelState


class Roster:
    """The catalog, kept true. `use` is told each new one. `workers` is how many there are."""

    def __init__(self, workers: int, use: Callable[[Catalog], None]) -> None:
        self.catalog = Catalog(complete=False)
        self._complete = False
        self._workers = workers
        self._use = use
        self._settled: set[str] = set()
        self._told: dict[str, set[tuple[str, int]]] = {}
        self._wanted: frozenset[str] | None = None
        self._left_out: tuple[tuple[str, ModelUpdate], ...] = ()

    @property
    def ready(self) -> bool:
        """Whether every worker has tried its models, and every model that should serve does, on
        all the workers that have it: as the supervisor counts."""
        wanted = self._wanted
        return (
            len(self._settled) == self._workers
            and (wanted is None or wanted <= self.catalog.models.keys())
            and all(
                placement.state is ModelState.READY and not placement.away
                for version in self.catalog.versions()
                if wanted is None or version.model in wanted
                for placement in version.placements.values()
            )
        )

    def update(self, worker: str, update: ModelUpdate) -> None:
        """What a worker says of a version."""
        self._told.setdefault(worker, set()).add((update.model, update.version))
        if update.gone:
            self._change(self.catalog.without_placement(update.model, update.version, worker))
            return
        costs = {(variant, bucket): cost for variant, bucket, cost in update.costs}
        placement = Placement(
            worker, update.state, update.reason, update.variant_ids, costs, lanes=update.lanes
        )
        self._change(
            self.catalog.with_placement(update.model, update.version, update.spec, placement)
        )

    def costs(self, worker: str, costs: Costs) -> None:
        """What a worker has measured."""
        self._change(self.catalog.with_costs(worker, costs.entries))

    def settled(self, worker: str) -> None:
        """A worker has told of all that it has: what its predecessor had and it has not, because
        it was unloaded in between, will not come back."""
        self._settled.add(worker)
        # Once they have all told, a name that nobody knows is a mistake, whoever dies meanwhile.
        self._complete |= len(self._settled) == self._workers
        told = self._told.get(worker, set()) | {
            (update.model, update.version) for name, update in self._left_out if name == worker
        }
        catalog = self.catalog
        for version in catalog.versions():
            if worker in version.placements and (version.model, version.version) not in told:
                catalog = catalog.without_placement(version.model, version.version, worker)
        self._change(catalog)

    def away(self, worker: str) -> None:
        """A worker is being restarted."""
        self._forget(worker)
        self._change(self.catalog.with_worker_away(worker))

    def lost(self, worker: str) -> None:
        """A worker keeps dying: nobody should wait for it."""
        self._forget(worker)
        self._change(self.catalog.with_worker_lost(worker))

    def wanted(self, wanted: Wanted) -> None:
        """Which models count from now on, and which versions are left out."""
        self._wanted = None if wanted.models is None else frozenset(wanted.models)
        before, self._left_out = self._left_out, wanted.left_out
        for worker, update in before:
            if (worker, update) not in wanted.left_out and self._stands(worker, update):
                self.update(worker, msgspec.structs.replace(update, gone=True))
        for worker, update in wanted.left_out:
            if (worker, update) not in before:
                self.update(worker, update)
        self._change(self.catalog)

    def _forget(self, worker: str) -> None:
        """That process is gone; the next one tells anew."""
        self._settled.discard(worker)
        self._told.pop(worker, None)

    def _stands(self, worker: str, update: ModelUpdate) -> bool:
        """Whether nothing else was said of a version since it was left out."""
        version = self.catalog.models.get(update.model, {}).get(update.version)
        placement = version.placements.get(worker) if version is not None else None
        return placement is not None and placement.reason == update.reason

    def _change(self, catalog: Catalog) -> None:
        self.catalog = Catalog(catalog.models, complete=self._complete)
        self._use(self.catalog)
