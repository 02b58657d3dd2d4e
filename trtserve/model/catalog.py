"""The catalog: an immutable snapshot of models, versions and variants that routing reads.

Each front end keeps one, made anew whenever a worker tells of a change. A worker that dies
leaves what its models look like behind, marked as away, so that requests can still be routed
and wait for the next worker.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from trtserve.errors import InvalidRequest, ModelNotFound, Unavailable
from trtserve.model.cost import Cost
from trtserve.model.spec import ModelState, VersionSpec
from trtserve.model.tensor import Shape

Bucket = tuple[Shape, ...]

Shares = tuple[tuple[int, int], ...]
"""How the requests that name no version are split: (version, weight), ascending."""

_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}")
"""What a client may mean as a label; version_labels.py lets no others through."""

_MAX_DIGITS = 18
"""Of a version's number, as in the repository. Python refuses to read numbers of thousands."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One version on one worker.

    `variant_ids` are the worker's names for the spec's variants, in their order. `costs` maps
    (variant id, bucket) to what was measured. `lanes` is how many of its batches may
    run there at once. `away`: the worker is being restarted. `spec` is what this worker has
    loaded: while a model is being swapped, workers may differ in it (see Version.serving).
    """

    worker: str
    state: ModelState
    reason: str = ""
    variant_ids: tuple[int, ...] = ()
    costs: Mapping[tuple[int, Bucket], Cost] = field(default_factory=dict)
    away: bool = False
    lanes: int = 1
    spec: VersionSpec | None = None

    @property
    def serves(self) -> bool:
        """Whether requests can be sent there now."""
        return self.state == ModelState.READY and bool(self.variant_ids)

    def row_ns(self, key: tuple[int, Bucket], otherwise: int) -> int:
        """Measured nanoseconds a row at the best batch size, or what is given otherwise."""
        cost = self.costs.get(key)
        return otherwise if cost is None else cost.row_ns


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

    @property
    def labels(self) -> tuple[str, ...]:
        """The names that clients may use for it."""
        return self.spec.labels if self.spec is not None else ()

    @property
    def weight(self) -> int | None:
        """Its share of the requests that name no version; None without a split."""
        return self.spec.weight if self.spec is not None else None

    def serving(self) -> list[Placement]:
        """Where a request that was routed by `spec` can be sent now. The catalog keeps equal
        specifications as one object, so that comparing them costs nothing."""
        spec = self.spec
        return [each for each in self.placements.values() if each.spec is spec and each.serves]

    def cost(self, variant: int, bucket: Bucket) -> int | None:
        """Measured nanoseconds a row of the spec's variant of that index, at the best batch size
        on the best worker."""
        return min((cost.row_ns for cost in self.costs(variant, bucket)), default=None)

    def costs(self, variant: int, bucket: Bucket) -> list[Cost]:
        """What the spec's variant of that index was measured to cost, on each worker."""
        return [
            cost
            for placement in self.placements.values()
            if placement.spec is self.spec and variant < len(placement.variant_ids)
            and (cost := placement.costs.get((placement.variant_ids[variant], bucket))) is not None
        ]


class Catalog:
    """All versions of all models. Every change is a new catalog.

    Not `complete` while workers have still to tell what they have: a model that is not here may
    come then.
    """

    def __init__(
        self, models: Mapping[str, Mapping[int, Version]] | None = None, *, complete: bool = True
    ) -> None:
        self.models: Mapping[str, Mapping[int, Version]] = models or {}
        self._complete = complete

    def versions(self) -> list[Version]:
        """All, by model name and version number."""
        return [
            versions[number]
            for _, versions in sorted(self.models.items())
            for number in sorted(versions)
        ]

    def resolve(self, model: str, version: str) -> Version:
        """The version that a request names by its number or a label of it; with "" the one of
        the greatest weight that can serve, without weights the highest.

        Raises ModelNotFound, listing what there is; Unavailable when it exists but can not
        serve; InvalidRequest for a version that is neither a number nor a label.
        """
        found = self.find(model, version)
        if not found.will_serve:
            raise Unavailable(
                f"model '{model}' version {found.version} is not ready: {found.reason}"
            )
        return found

    def find(self, model: str, version: str) -> Version:
        """As resolve(), and the version whether it can serve or not."""
        versions = self.models.get(model)
        if not versions and not self._complete:
            raise Unavailable(
                f"no model '{model}' yet: the server has just started and is still reading its "
                f"models; try again"
            )
        if not versions:
            there = ", ".join(f"'{name}'" for name in sorted(self.models)) or "none"
            raise ModelNotFound(f"no model '{model}'; models here: {there}")
        if not version:
            return _of_no_name(versions, self.shares(model))
        if _LABEL.fullmatch(version):
            return _labelled(model, versions, version)
        if not version.isascii() or not version.isdigit() or len(version) > _MAX_DIGITS:
            raise InvalidRequest(
                f"model version '{version[:_MAX_DIGITS]}' is not a number of at most "
                f"{_MAX_DIGITS} digits, nor a label"
            )
        found = versions.get(int(version))
        if found is None:
            there = ", ".join(map(str, sorted(versions)))
            raise ModelNotFound(f"model '{model}' has no version {version}; it has {there}")
        return found

    def shares(self, model: str) -> Shares:
        """How a model's requests without a version are split among those that serve now; where
        none does, among those that will. () without weights, and where nothing will serve."""
        weighted = [
            version for _, version in sorted(self.models.get(model, {}).items()) if version.weight
        ]
        able = [version for version in weighted if version.state == ModelState.READY] or [
            version for version in weighted if version.will_serve
        ]
        return tuple((version.version, version.weight or 0) for version in able)

    def with_placement(
        self, model: str, version: int, spec: VersionSpec | None, placement: Placement
    ) -> "Catalog":
        """With what a worker says of a version of a model."""
        versions = dict(self.models.get(model, {}))
        old = versions.get(version)
        known = spec or (old.spec if old else None)
        if old is not None and known == old.spec:
            known = old.spec
        here = replace(placement, spec=known if spec is not None else None)
        others = {
            name: replace(other, spec=known) if other.spec == known else other
            for name, other in (old.placements if old else {}).items()
        }
        versions[version] = Version(model, version, known, {**others, placement.worker: here})
        return Catalog({**self.models, model: versions})

    def without_placement(self, model: str, version: int, worker: str) -> "Catalog":
        """Without a version on a worker that has unloaded it on purpose; without the version
        once no worker has it, and without the model once it has no version."""
        versions = dict(self.models.get(model, {}))
        old = versions.pop(version, None)
        if old is None:
            return self
        left = {name: other for name, other in old.placements.items() if name != worker}
        if left:
            specs = [other.spec for other in left.values() if other.spec is not None]
            same = not specs or any(spec is old.spec for spec in specs)
            versions[version] = replace(
                old, spec=old.spec if same else specs[0], placements=left
            )
        models = {name: known for name, known in self.models.items() if name != model}
        return Catalog({**models, model: versions} if versions else models)

    def with_costs(
        self, worker: str, entries: Iterable[tuple[int, Bucket, Cost]]
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


def _of_no_name(versions: Mapping[int, Version], shares: Shares) -> Version:
    """The version for who names none. Versions without a share never get such requests."""
    if shares:
        return versions[max(shares, key=lambda share: (share[1], share[0]))[0]]
    weighted = [version for version in versions.values() if version.weight]
    return max(
        weighted or versions.values(), key=lambda entry: (entry.will_serve, entry.version)
    )


def _labelled(model: str, versions: Mapping[int, Version], label: str) -> Version:
    # Workers switch one after the other: for a moment a label may be on two versions.
    for _, version in sorted(versions.items(), reverse=True):
        if label in version.labels:
            return version
    unread = [version for _, version in sorted(versions.items()) if version.spec is None]
    if unread:
        raise Unavailable(
            f"model '{model}' has no version labelled '{label}' yet: version "
            f"{unread[0].version} is not ready: {unread[0].reason}"
        )
    labels = ", ".join(
        f"{label} ({number})"
        for number, version in sorted(versions.items()) for label in version.labels
    )
    there = ", ".join(map(str, sorted(versions)))
    raise ModelNotFound(
        f"model '{model}' has no version '{label}'; it has {there}, and "
        + (f"the labels {labels}" if labels else "no labels")
    )
