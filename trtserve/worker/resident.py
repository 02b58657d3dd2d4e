"""What is loaded on this worker: the variants that run here, and what was told of each version."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from trtserve.engine.interface import Context
from trtserve.ipc.message import Bucket, ModelUpdate
from trtserve.metrics import Recorder
from trtserve.model.spec import ModelState, VariantSpec
from trtserve.worker.batcher import Batcher
from trtserve.worker.counts import VersionCounts
from trtserve.worker.loader import Loaded

log = logging.getLogger(__name__)

_TOLD_CHANGE = 0.1
"""Costs are told again when they have changed by a tenth: less would not turn the router."""


@dataclass(frozen=True, slots=True)
class ResidentVariant:
    """One loaded variant. `contexts` has one for each lane."""

    model: str
    version: int
    spec: VariantSpec
    contexts: tuple[Context, ...]
    counts: VersionCounts


class Residents:
    """All versions of all models on this worker.

    `unproven` are the variants whose batch dimension nobody vouched for yet (see trial.py).
    """

    def __init__(self) -> None:
        self.unproven: set[int] = set()
        self.variants: dict[int, ResidentVariant] = {}
        self.versions: dict[tuple[str, int], ModelUpdate] = {}
        self._next_id = 1
        self._told: dict[tuple[int, Bucket], int] = {}

    def note(self, update: ModelUpdate) -> None:
        """Remember what is told of a version."""
        self.versions[update.model, update.version] = update

    def updates(self) -> list[ModelUpdate]:
        """What a new front end must be told."""
        return list(self.versions.values())

    def add(self, loaded: Loaded, batcher: Batcher, recorder: Recorder) -> ModelUpdate:
        """Take a loaded and warmed version in. Returns what to tell of it."""
        spec = loaded.spec
        counts = VersionCounts(recorder, spec.model, spec.version)
        ids = []
        for variant in loaded.variants:
            number, self._next_id = self._next_id, self._next_id + 1
            ids.append(number)
            self.variants[number] = ResidentVariant(
                spec.model, spec.version, variant.spec, variant.contexts, counts
            )
            batcher.add_variant(
                number, spec.model, spec.version, variant.spec.max_batch, spec.queue
            )
            if loaded.batch_derived and variant.spec.max_batch:
                self.unproven.add(number)
            for bucket, rows, service_ns in variant.measured:
                batcher.learn(number, bucket, rows, service_ns)
                cost = batcher.cost(number, bucket)
                if cost is not None:
                    self._told[number, bucket] = cost
        update = ModelUpdate(
            model=spec.model,
            version=spec.version,
            state=ModelState.READY,
            spec=spec,
            variant_ids=tuple(ids),
            costs=tuple(
                (number, bucket, cost)
                for (number, bucket), cost in self._told.items() if number in ids
            ),
            load_seconds=loaded.seconds,
            warnings=loaded.warnings,
        )
        self.note(update)
        return update

    def judge(self, number: int, passed: bool, batcher: Batcher) -> None:
        """Take the outcome of a trial of a variant's batch dimension."""
        if number not in self.unproven:
            return
        self.unproven.discard(number)
        variant = self.variants[number]
        if not passed:
            batcher.run_alone(number)
            log.warning(
                "model %s version %d, %s: requests that run together get other answers than "
                "alone, so its dimension 0 is no batch: its requests run one by one from now "
                "on. Say max_batch_size: 0 in its configuration, or the largest batch if the "
                "difference is meant", variant.model, variant.version, variant.spec.name,
            )

    def changed_costs(
        self, cost: Callable[[int, Bucket], int | None]
    ) -> tuple[tuple[int, Bucket, int], ...]:
        """The costs that the router should hear of again: those it was told and that changed."""
        changed = []
        for (number, bucket), told in self._told.items():
            now = cost(number, bucket)
            if now is not None and abs(now - told) > told * _TOLD_CHANGE:
                changed.append((number, bucket, now))
        for number, bucket, now in changed:
            self._told[number, bucket] = now
        return tuple(changed)
