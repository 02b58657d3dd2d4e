"""Equipping the lanes with contexts for a version's variants, and taking them away again.

Where host and device share memory a context is made in no time and warming up takes a lane of
its own, so that the lanes that serve are not held up. Elsewhere a context is made, warmed and
closed in the thread of its lane, which the loop lends for that.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

from trtserve.device.interface import Device
from trtserve.ipc.message import Bucket
from trtserve.model.configuration import WarmupShapes
from trtserve.model.tensor import Shape
from trtserve.worker.contexts import LaneContexts, Pinned
from trtserve.worker.lane import Lane
from trtserve.worker.lending import Borrow, GiveBack
from trtserve.worker.output import OutputArena
from trtserve.worker.prepare import Measured, Preparation, Source
from trtserve.worker.runner import BatchRunner
from trtserve.worker.warmup import doubling_sizes, known_buckets, only_bucket, pinned_sizes

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Equipment:
    """A variant ready to run: its contexts on each lane, and what warming them up measured.

    `lasting` are the buckets whose contexts nothing else can stand in for.
    """

    source: Source
    lanes: tuple[LaneContexts, ...]
    measured: tuple[Measured, ...]
    lasting: frozenset[Bucket] = frozenset()


class Equipper:
    """Makes and closes contexts. For the loader's thread.

    `lanes` is how many there are, inline ones included.
    """

    def __init__(self, device: Device, outputs: OutputArena, lanes: int) -> None:
        self._device = device
        self._outputs = outputs
        self._count = lanes
        self._own: Lane | None = None
        self._ask: Callable[[Borrow | GiveBack], None] = lambda _: None

    def lend_from(self, ask: Callable[[Borrow | GiveBack], None]) -> None:
        """Ask there, which is the worker's loop, for lanes."""
        self._ask = ask

    def equip(
        self, sources: Sequence[Source], warmups: Sequence[WarmupShapes]
    ) -> list[Equipment]:
        """Contexts for all variants of a version, warmed up. Leaves none when it raises: what
        the first failing run raised, ModelLoadError, or DeviceError."""
        done: list[Equipment] = []
        try:
            done.extend(self._equip(source, warmups) for source in sources)
        except BaseException:
            for equipment in done:
                self.strip(equipment)
            raise
        return done

    def strip(self, equipment: Equipment) -> None:
        """Close all contexts of a variant that runs no batch any more."""
        self._on_lanes(equipment.source, len(equipment.lanes), lambda preparation, index:
                       preparation.strip(equipment.lanes[index]))

    def pin(
        self, equipment: Equipment, bucket: Bucket
    ) -> tuple[list[Pinned], list[Measured]]:
        """Contexts for one more bucket, on every lane."""
        sizes = pinned_sizes(equipment.source.variant.max_batch)
        return self._pin(equipment.source, bucket, sizes)

    def unpin(self, equipment: Equipment, pinned: Sequence[Pinned | None]) -> None:
        """Close the contexts of a bucket, one entry for each lane."""
        def close(preparation: Preparation, index: int) -> None:
            mine = pinned[index]
            if mine is not None:
                preparation.unpin(mine)

        self._on_lanes(equipment.source, len(pinned), close)

    def answer(
        self, equipment: Equipment, bucket: Bucket, rows: int, inputs: Sequence[bytes]
    ) -> list[tuple[Shape, bytes]]:
        """Run one request of a variant that does not serve yet, on its first lane. Returns the
        whole shape and the bytes of every output; raises what the run raises."""
        (found,) = self._on_lanes(equipment.source, 1, lambda preparation, index:
                                  preparation.answer(equipment.lanes[index], bucket, rows, inputs))
        return found

    def finished(self) -> None:
        """Give back what only loading needs, until something is loaded or freed again."""
        if self._own is not None:
            self._own.close()
            self._own = None

    # --- inside --------------------------------------------------------------------------

    def _equip(self, source: Source, warmups: Sequence[WarmupShapes]) -> Equipment:
        variant = source.variant
        buckets = [
            (bucket, only or doubling_sizes(variant.max_batch))
            for bucket, only in known_buckets(variant, warmups)
        ]
        if self._device.unified:
            return self._own_lane().perform(
                lambda runner: self._equip_shared(source, runner, buckets)
            )
        if not source.engine.pins:
            return self._equip_any_shape(source, buckets)
        return self._equip_pinned(source, warmups)

    def _equip_shared(
        self, source: Source, runner: BatchRunner,
        buckets: Sequence[tuple[Bucket, Sequence[int]]],
    ) -> Equipment:
        preparation = Preparation(source, runner, self._device, self._outputs)
        lanes: list[LaneContexts] = []
        try:
            lanes.extend(LaneContexts(preparation.any_shape()) for _ in range(self._count))
            warm = LaneContexts(preparation.any_shape())
            try:
                measured = preparation.warm(warm, buckets)
            finally:
                preparation.strip(warm)
        except BaseException:
            for contexts in lanes:
                preparation.strip(contexts)
            raise
        finally:
            preparation.close()
        return Equipment(source, tuple(lanes), tuple(measured))

    def _equip_any_shape(
        self, source: Source, buckets: Sequence[tuple[Bucket, Sequence[int]]]
    ) -> Equipment:
        """A context for any shape on each lane; measured on the first."""
        lanes: list[LaneContexts] = []

        def prepare(preparation: Preparation, index: int) -> list[Measured]:
            lanes.append(LaneContexts(preparation.any_shape()))
            return preparation.warm(lanes[-1], buckets)

        try:
            measured = self._on_lanes(source, self._count, prepare)
        except BaseException:
            self.strip(Equipment(source, tuple(lanes), ()))
            raise
        return Equipment(source, tuple(lanes), tuple(measured[0]))

    def _equip_pinned(self, source: Source, warmups: Sequence[WarmupShapes]) -> Equipment:
        """Contexts for each known bucket and size on each lane, and one for all else where
        there is anything else.

        A bucket that the configuration names with one size is a bucket like the others: with
        that size alone its batches could never grow.
        """
        variant = source.variant
        wanted: dict[Bucket, set[int]] = {}
        for bucket, given in known_buckets(variant, warmups):
            wanted.setdefault(bucket, set()).update(given)
        lanes = [LaneContexts(None) for _ in range(self._count)]
        only = only_bucket(variant)
        measured: list[Measured] = []
        covered = False
        try:
            for bucket, asked in wanted.items():
                sizes = sorted(asked.union(pinned_sizes(variant.max_batch)))
                pinned, times = self._pin(source, bucket, sizes, asked)
                measured += times
                for contexts, mine in zip(lanes, pinned, strict=True):
                    contexts.pinned[bucket] = mine
                # What may not be padded needs a context for the sizes in between.
                covered |= (
                    source.vouched and bucket == only
                    and pinned[0].sizes[-1] >= max(1, variant.max_batch)
                )
            if not covered:
                self._on_lanes(source, self._count, lambda preparation, index:
                               _add_any_shape(preparation, lanes[index]))
        except BaseException:
            self.strip(Equipment(source, tuple(lanes), ()))
            raise
        lasting = frozenset([only] if covered and only is not None else ())
        return Equipment(source, tuple(lanes), tuple(measured), lasting)

    def _pin(
        self, source: Source, bucket: Bucket, sizes: Sequence[int],
        asked: Collection[int] = (),
    ) -> tuple[list[Pinned], list[Measured]]:
        """Contexts for a bucket on every lane. The first lane finds out which sizes pay."""
        done: list[Pinned] = []
        measured: list[Measured] = []

        def prepare(preparation: Preparation, index: int) -> None:
            wanted = done[0].sizes if done else sizes
            pinned, times = preparation.pin(bucket, wanted, measure=not done, asked=asked)
            done.append(pinned)
            measured.extend(times)

        try:
            self._on_lanes(source, self._count, prepare)
        except BaseException:
            self._on_lanes(source, len(done), lambda preparation, index:
                           preparation.unpin(done[index]))
            raise
        return done, measured

    def _on_lanes(
        self, source: Source, count: int, work: Callable[[Preparation, int], T]
    ) -> list[T]:
        """Do something on each of the first lanes, in their threads, one after the other."""
        results = []
        for index in range(count):
            with self._lane(index) as lane:
                results.append(lane.perform(partial(self._with, source, index, work)))
        return results

    def _with(
        self, source: Source, index: int, work: Callable[[Preparation, int], T],
        runner: BatchRunner,
    ) -> T:
        preparation = Preparation(source, runner, self._device, self._outputs)
        try:
            return work(preparation, index)
        finally:
            preparation.close()

    @contextmanager
    def _lane(self, index: int) -> Iterator[Lane]:
        if self._device.unified:
            yield self._own_lane()
            return
        lent: SimpleQueue[Lane] = SimpleQueue()
        self._ask(Borrow(index, lent.put))
        lane = lent.get()
        try:
            yield lane
        finally:
            self._ask(GiveBack(lane))

    def _own_lane(self) -> Lane:
        if self._own is None:
            self._own = Lane(-1, self._device, self._outputs, lambda _: None)
            self._own.start()
        return self._own


def _add_any_shape(preparation: Preparation, contexts: LaneContexts) -> None:
    contexts.any_shape = preparation.any_shape()
