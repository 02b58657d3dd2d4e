"""What is loaded on this worker: the variants that run here, and what was told of each version."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from trtserve.ipc.message import Bucket, ModelUpdate
from trtserve.metrics import Recorder
from trtserve.model.cost import Cost
from trtserve.model.spec import ModelState, VariantSpec
from trtserve.worker.batcher import Batcher
from trtserve.worker.contexts import Pinned
from trtserve.worker.counts import VersionCounts
from trtserve.worker.equip import Equipment
from trtserve.worker.job import LaneJob
from trtserve.worker.loading import Loaded, PinsMade
from trtserve.worker.prepare import Measured
from trtserve.worker.request import Batch

log = logging.getLogger(__name__)

_TOLD_CHANGE = 0.1
"""Costs are told again when they have changed by a tenth: less would not turn the router."""


@dataclass(frozen=True, slots=True)
class ResidentVariant:
    """One loaded variant, equipped for each lane."""

    model: str
    version: int
    spec: VariantSpec
    equipment: Equipment
    counts: VersionCounts

    def job(self, part: Batch, lane: int, *, exact: bool = False) -> LaneJob:
        """What a lane needs to run these requests, with `exact` without padding."""
        wanted: set[int] = set()
        for request in part.requests:
            wanted.update(request.submit.outputs)
        context, padded = self.equipment.lanes[lane].find(
            part.bucket, part.rows, exact=exact
        )
        return LaneJob(
            batch_id=part.id,
            context=context,
            variant=self.spec,
            batched=self.spec.max_batch > 0,
            bucket=part.bucket,
            rows=tuple([request.submit.rows for request in part.requests]),
            inputs=tuple([
                request.owner.addresses(request.submit) for request in part.requests
            ]),
            wanted=frozenset(wanted),
            padded=padded,
        )


class Residents:
    """All versions of all models on this worker.

    `unproven` are the variants whose batch dimension nobody vouched for yet (see trial.py).
    `unpadded` are those and the ones that failed: rows that see one another would see padding.
    `retired` are those that front ends are told to use no more; they run what is on its way.
    """

    def __init__(self) -> None:
        self.unproven: set[int] = set()
        self.unpadded: set[int] = set()
        self.retired: set[int] = set()
        self.variants: dict[int, ResidentVariant] = {}
        self.versions: dict[tuple[str, int], ModelUpdate] = {}
        self._next_id = 1
        self._counts: dict[tuple[str, int], VersionCounts] = {}
        self._told: dict[tuple[int, Bucket], Cost] = {}

    def note(self, update: ModelUpdate) -> None:
        """Remember what is told of a version."""
        self.versions[update.model, update.version] = update

    def updates(self) -> list[ModelUpdate]:
        """What a new front end must be told."""
        return list(self.versions.values())

    def add(self, loaded: Loaded, batcher: Batcher, recorder: Recorder) -> ModelUpdate:
        """Take a loaded and warmed version in. Returns what to tell of it."""
        spec = loaded.spec
        # One for all that ever serve the version: what it counts never starts again.
        counts = self._counts.get((spec.model, spec.version))
        if counts is None:
            counts = VersionCounts(recorder, spec.model, spec.version)
            self._counts[spec.model, spec.version] = counts
        ids = []
        for variant in loaded.variants:
            number, self._next_id = self._next_id, self._next_id + 1
            ids.append(number)
            self.variants[number] = ResidentVariant(
                spec.model, spec.version, variant.source.variant, variant, counts
            )
            max_batch = variant.source.variant.max_batch
            batcher.add_variant(
                number, spec.model, spec.version, max_batch, spec.queue, loaded.lanes
            )
            if loaded.batch_derived and max_batch:
                self.unproven.add(number)
                self.unpadded.add(number)
            for bucket, pinned in variant.lanes[0].pinned.items():
                batcher.pin(number, bucket, pinned.sizes)
            self._learn(number, variant.measured, batcher)
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
            memory=loaded.memory,
            warnings=loaded.warnings,
            lanes=min(loaded.lanes or batcher.lanes_in_all, batcher.lanes_in_all),
        )
        self.note(update)
        return update

    def serving(self, model: str) -> frozenset[int]:
        """The variants of a model that new requests go to."""
        return frozenset(
            number for number, variant in self.variants.items()
            if variant.model == model and number not in self.retired
        )

    def retire(self, variants: Collection[int]) -> None:
        """Front ends are told to use these no more; nobody needs to hear what they cost."""
        self.retired.update(variants)
        self._forget_costs(variants)

    def remove(self, variants: Collection[int], batcher: Batcher) -> list[Equipment]:
        """Forget variants that no batch runs or waits for. Returns what is to be freed."""
        self._forget_costs(variants)
        found = []
        for number in sorted(variants):
            found.append(self.variants.pop(number).equipment)
            batcher.remove_variant(number)
        for kept in (self.unproven, self.unpadded, self.retired):
            kept.difference_update(variants)
        return found

    def _forget_costs(self, variants: Collection[int]) -> None:
        for key in [key for key in self._told if key[0] in variants]:
            del self._told[key]

    def pinned(self, made: PinsMade, batcher: Batcher) -> bool:
        """Give the lanes the contexts that were made for a bucket; False if there are none."""
        variant = self.variants.get(made.variant)
        if variant is None or not made.pinned:
            return False
        for contexts, mine in zip(variant.equipment.lanes, made.pinned, strict=True):
            contexts.pinned[made.bucket] = mine
        batcher.pin(made.variant, made.bucket, made.pinned[0].sizes)
        for bucket, rows, service_ns in made.measured:
            batcher.learn(made.variant, bucket, rows, service_ns)
        if made.variant not in self.retired:
            # Nobody was told a cost of this bucket yet, or one from before: the next Costs has it.
            self._told.setdefault((made.variant, made.bucket), Cost(0))
        return True

    def unpinned(
        self, number: int, bucket: Bucket, batcher: Batcher
    ) -> tuple[Equipment, tuple[Pinned | None, ...]] | None:
        """Take a bucket's contexts from the lanes, for the loader to close."""
        variant = self.variants.get(number)
        if variant is None:
            return None
        taken = tuple(contexts.pinned.pop(bucket, None) for contexts in variant.equipment.lanes)
        batcher.pin(number, bucket, ())
        return variant.equipment, taken

    def _learn(self, number: int, measured: Sequence[Measured], batcher: Batcher) -> None:
        for bucket, rows, service_ns in measured:
            batcher.learn(number, bucket, rows, service_ns)
            cost = batcher.cost(number, bucket)
            if cost is not None:
                self._told[number, bucket] = cost

    def job(self, part: Batch, lane: int) -> LaneJob:
        """What a lane needs to run requests of one variant."""
        return self.variants[part.variant].job(part, lane, exact=part.variant in self.unpadded)

    def judge(self, number: int, passed: bool, batcher: Batcher) -> None:
        """Take the outcome of a trial of a variant's batch dimension."""
        if number not in self.unproven:
            return
        self.unproven.discard(number)
        variant = self.variants[number]
        if passed:
            self.unpadded.discard(number)
        else:
            batcher.run_alone(number)
            log.warning(
                "model %s version %d, %s: requests that run together get other answers than "
                "alone, so its dimension 0 is no batch: its requests run one by one from now "
                "on. Say max_batch_size: 0 in its configuration, or the largest batch if the "
                "difference is meant", variant.model, variant.version, variant.spec.name,
            )

    def changed_costs(
        self, cost: Callable[[int, Bucket, int], Cost | None], now: int
    ) -> tuple[tuple[int, Bucket, Cost], ...]:
        """The costs that the router should hear of again: those it was told and that changed."""
        changed = []
        for (number, bucket), told in self._told.items():
            found = cost(number, bucket, now)
            if found is not None and found.differs(told, _TOLD_CHANGE):
                changed.append((number, bucket, found))
        for number, bucket, found in changed:
            self._told[number, bucket] = found
        return tuple(changed)
