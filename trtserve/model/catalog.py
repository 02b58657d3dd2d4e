"""The catalog: an immutable snapshot of models, versions and variants that routing reads.

Each front end keeps one, made anew whenever a worker tells of a change. A worker that dies
leaves what its models look like behind, marked as away, so that requests can still be routed
and wait for the next worker.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from trtserve.errors import InvalidRequest, ModelNotFound, Unavailable
from trtserve.model.spec import ModelState, VersionSpec
from trtserve.model.tensor import Shape

Bucket = tuple[Shape, ...]

_MAX_DIGITS = 18
"""Of a version's number, as in the repository. Python refuses to read numbers of thousands."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One version on one worker.

    `variant_ids` are the worker's names for the spec's variants, in their order. `costs` maps
    (variant id, bucket) to measured nanoseconds a row. `lanes` is how many of its batches may
    run there at once. `away`: the worker is being restarted.
    """

    worker: str
    state: ModelState
    reason: str = ""
    variant_ids: tuple[int, ...] = ()
    costs: Mapping[tuple[int, Bucket], int] = field(default_factory=dict)
    away: bool = False
    lanes: int = 1

    @property
    def serves(self) -> bool:
        """Whether requests can be sent there now."""
        return self.state == ModelState.READY and bool(self.variant_ids)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model, wherever it lives. `spec` is None until its engines were read."""

    model: str
    version: int
    spec: VersionSpec | None
    placements: Mapping[str, Placement]

    @property
    def state(self) -> ModelState:
        """READY if any worker serves it now."""
        states = {placement.state for placement in self.placements.values() if not placement.away}
        if ModelState.READY in states:
            return ModelState.READY
        if ModelState.LOADING in states or not states:
            return ModelState.LOADING
        return ModelState.UNAVAILABLE

    @property
    def reason(self) -> str:
        """Why it is not READY."""
        if self.state == ModelState.READY:
            return ""
        reasons = [placement.reason for placement in self.placements.values() if placement.reason]
        if reasons:
            return reasons[0]
        return "its worker is being restarted" if self.spec is not None else "it is being loaded"

    @property
    def will_serve(self) -> bool:
        """READY, or known and on a worker that is on its way back: away, or loading it again."""
        return self.spec is not None and any(
            placement.state != ModelState.UNAVAILABLE or placement.away
            for placement in self.placements.values()
        )

    def cost(self, variant: int, bucket: Bucket) -> int | None:
        """Measured nanoseconds a row of the spec's variant of that index, on the best worker."""
        costs = [
            cost
            for placement in self.placements.values()
            if variant < len(placement.variant_ids)
            and (cost := placement.costs.get((placement.variant_ids[variant], bucket))) is not None
        ]
        return min(costs, default=None)


class Catalog:
    """All versions of all models. Every change is a new catalog."""

    def __init__(self, models: Mapping[str, Mapping[int, Version]] | None = None) -> None:
        self.models: Mapping[str, Mapping[int, Version]] = models or {}

    def versions(self) -> list[Version]:
        """All, by model name and version number."""
        return [
            versions[number]
            for _, versions in sorted(self.models.items())
            for number in sorted(versions)
        ]

    def resolve(self, model: str, version: str) -> Version:
        """The version that a request names; with "" the highest that can serve.

        Raises ModelNotFound, listing what there is; Unavailable when it exists but can not
        serve; InvalidRequest for a version that is no number.
        """
        versions = self.models.get(model)
        if not versions:
            there = ", ".join(f"'{name}'" for name in sorted(self.models)) or "none"
            raise ModelNotFound(f"no model '{model}'; models here: {there}")
        if version:
            if not version.isascii() or not version.isdigit() or len(version) > _MAX_DIGITS:
                raise InvalidRequest(
                    f"model version '{version[:_MAX_DIGITS]}' is not a number of at most "
                    f"{_MAX_DIGITS} digits"
                )
            found = versions.get(int(version))
            if found is None:
                there = ", ".join(map(str, sorted(versions)))
                raise ModelNotFound(f"model '{model}' has no version {version}; it has {there}")
        else:
            found = max(versions.values(), key=lambda entry: (entry.will_serve, entry.version))
        if not found.will_serve:
            raise Unavailable(
                f"model '{model}' version {found.version} is not ready: {found.reason}"
            )
        return found

    def with_placement(
        self, model: str, version: int, spec: VersionSpec | None, placement: Placement
    ) -> "Catalog":
        """With what a worker says of a version of a model."""
        versions = dict(self.models.get(model, {}))
        old = versions.get(version)
        placements = {**(old.placements if old else {}), placement.worker: placement}
        known = spec or (old.spec if old else None)
        versions[version] = Version(model, version, known, placements)
        return Catalog({**self.models, model: versions})

    def with_costs(
        self, worker: str, entries: Iterable[tuple[int, Bucket, int]]
    ) -> "Catalog":
        """With newly measured costs of a worker's variants."""
        new = {(variant, bucket): cost for variant, bucket, cost in entries}
        return self._with_worker(worker, lambda old: replace(
            old,
            costs={
                **old.costs,
                **{key: cost for key, cost in new.items() if key[0] in old.variant_ids},
            },
        ))

    def with_worker_away(self, worker: str) -> "Catalog":
        """With everything on that worker waiting for its successor."""
        return self._with_worker(
            worker,
            lambda old: replace(old, away=old.state != ModelState.UNAVAILABLE, variant_ids=()),
        )

    def with_worker_lost(self, worker: str) -> "Catalog":
        """With everything on that worker unavailable: its successors keep dying."""
        return self._with_worker(worker, lambda old: replace(
            old, away=False, variant_ids=(), state=ModelState.UNAVAILABLE,
            reason=old.reason or "its worker keeps failing",
        ))

    def _with_worker(self, worker: str, change: Callable[[Placement], Placement]) -> "Catalog":
        return Catalog({
            model: {
                number: replace(
                    entry,
                    placements={
                        name: change(placement) if name == worker else placement
                        for name, placement in entry.placements.items()
                    },
                )
                for number, entry in versions.items()
            }
            for model, versions in self.models.items()
        })

