"""The models of this worker: what the loader tells of them, and which buckets are pinned."""

from collections.abc import Collection

from trtserve.errors import ProtocolError
from trtserve.ipc import message as m
from trtserve.metrics import Recorder
from trtserve.model.spec import ModelState
from trtserve.worker.batcher import Batcher
from trtserve.worker.counts import forget_gauges
from trtserve.worker.equip import Equipment
from trtserve.worker.loader import Loader
from trtserve.worker.loading import Finished, Loaded, PinsMade, Progress
from trtserve.worker.pins import Pins
from trtserve.worker.request import Batch
from trtserve.worker.resident import Residents

MAX_PINNED = 64
"""Buckets pinned at once. With eight sizes and three lanes that is 1,536 contexts of some
100 MiB for a model like ResNet50: what a device of 141 GB holds. On smaller ones memory runs out
before, and the bucket that then can not be pinned runs unpinned."""


class Models:
    """Residents and pins of one worker, and the loader behind them."""

    def __init__(self, batcher: Batcher, recorder: Recorder) -> None:
        self.residents = Residents()
        self.settled: int | None = None
        self._batcher = batcher
        self._recorder = recorder
        self._pins = Pins(MAX_PINNED)
        self._loader: Loader | None = None

    def open(self, loader: Loader) -> None:
        """Take the loader, to ask it for contexts."""
        self._loader = loader

    def heard(
        self, event: Loaded | Progress | Finished | PinsMade, now: int
    ) -> m.ModelUpdate | m.Settled | None:
        """Note what the loader tells. Returns what to tell everybody, if anything."""
        match event:
            case Progress(update):
                self.residents.note(update)
                return update
            case Loaded():
                update = self.residents.add(event, self._batcher, self._recorder)
                for number, variant in zip(update.variant_ids, event.variants, strict=True):
                    for bucket in variant.lanes[0].pinned:
                        lasting = bucket in variant.lasting
                        self._pins.pin(number, bucket, now, lasting=lasting)
                return update
            case Finished(models):
                self.settled = models
                return m.Settled(models)
            case PinsMade(variant, bucket):
                if self.residents.pinned(event, self._batcher):
                    self._pins.pin(variant, bucket, now)
                else:
                    self._pins.refuse(variant, bucket)
        return None

    def pinning(self, variants: Collection[int]) -> bool:
        """Whether the loader makes contexts for one of these variants."""
        return self._pins.asked_of(variants)

    def remove(self, variants: Collection[int]) -> list[Equipment]:
        """Forget variants that no batch runs or waits for. Returns what is to be freed."""
        self._pins.forget(variants)
        return self.residents.remove(variants, self._batcher)

    def gone(self, model: str, version: int) -> m.ModelUpdate:
        """This worker has the version no more. Returns what to tell everybody."""
        self.residents.versions.pop((model, version), None)
        forget_gauges(self._recorder, model, version)
        return m.ModelUpdate(model, version, ModelState.UNAVAILABLE, "unloaded", gone=True)

    def ran(self, batch: Batch, now: int) -> None:
        """A batch has run: pin its bucket if it has come often enough, and unpin another for it
        if there must be room."""
        variant = self.residents.variants.get(batch.variant)
        if variant is None or not variant.equipment.source.engine.pins:
            return
        if batch.variant in self.residents.retired:
            return  # contexts would be made to be closed
        if not self._pins.ran(batch.variant, batch.bucket, now):
            return
        if self._loader is None:
            raise ProtocolError("a batch ran before there was a loader")
        evicted = self._pins.to_evict(now)
        if evicted is not None:
            self._pins.unpin(*evicted)
            taken = self.residents.unpinned(*evicted, self._batcher)
            if taken is not None:
                equipment, pinned = taken
                self._loader.unpin(equipment, pinned)
        self._loader.pin(batch.variant, variant.equipment, batch.bucket)
