"""Which buckets get contexts of their own, and which lose them again. Pure.

An engine that plans anew at every change of shape (see Engine.pins) runs a bucket that comes
often some twenty times as fast in contexts made for it. They cost memory, so their number is
bounded: the bucket that was used longest ago goes first.
"""

from collections import OrderedDict
from collections.abc import Collection

from trtserve.clock import NS_PER_S
from trtserve.ipc.message import Bucket

Key = tuple[int, Bucket]
"""A variant's number and a bucket."""

OFTEN = 4
"""Batches after which a bucket counts as one that repeats. Making its contexts takes a lane some
seconds, as long as a dozen batches that are planned anew."""

IN_USE_NS = 30 * NS_PER_S
"""A bucket that ran so recently is not given up for another: two buckets would otherwise take
turns in losing their contexts."""

REFUSED = 1000
"""Batches after which contexts are tried again for a bucket that could get none, for want of
memory as a rule: each try takes the lanes from everybody for some seconds."""

MAX_COUNTED = 4096
"""Buckets counted; beyond it the one that came longest ago is forgotten."""


class Pins:
    """Counts batches and keeps the order of use. `limit`: buckets that may be pinned at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: OrderedDict[Key, int] = OrderedDict()
        self._used: OrderedDict[Key, int] = OrderedDict()
        self._lasting: set[Key] = set()
        self._asked: Key | None = None

    @property
    def pinned(self) -> int:
        """How many buckets are pinned."""
        return len(self._used) + len(self._lasting)

    def pin(self, variant: int, bucket: Bucket, now: int, *, lasting: bool = False) -> None:
        """The bucket has contexts now. `lasting`: nothing else could run it, so it stays."""
        key = (variant, bucket)
        self._counts.pop(key, None)
        if lasting:
            self._lasting.add(key)
        else:
            self._used[key] = now
            self._used.move_to_end(key)
        self._settle(key)

    def unpin(self, variant: int, bucket: Bucket) -> None:
        """Its contexts are gone."""
        key = (variant, bucket)
        self._used.pop(key, None)
        self._lasting.discard(key)

    def asked_of(self, variants: Collection[int]) -> bool:
        """Whether contexts of one of these variants are being made."""
        return self._asked is not None and self._asked[0] in variants

    def forget(self, variants: Collection[int]) -> None:
        """These variants are gone, with all their contexts."""
        for keys in (self._counts, self._used):
            for key in [key for key in keys if key[0] in variants]:
                del keys[key]
        self._lasting = {key for key in self._lasting if key[0] not in variants}

    def refuse(self, variant: int, bucket: Bucket) -> None:
        """Its contexts could not be made: do not ask for them again soon."""
        key = (variant, bucket)
        self._counts[key] = OFTEN - REFUSED
        self._settle(key)

    def ran(self, variant: int, bucket: Bucket, now: int) -> bool:
        """A batch ran. True: make contexts for its bucket, then say `pin` or `refuse`.

        One at a time: until then no other is asked for.
        """
        key = (variant, bucket)
        if key in self._used:
            self._used[key] = now
            self._used.move_to_end(key)
            return False
        if key in self._lasting:
            return False
        count = self._counts.get(key, 0) + 1
        self._counts[key] = count
        self._counts.move_to_end(key)
        if len(self._counts) > MAX_COUNTED:
            self._counts.popitem(last=False)
        if count < OFTEN or self._asked is not None or not self._room(now):
            return False
        self._asked = key
        return True

    def to_evict(self, now: int) -> Key | None:
        """The bucket that must go before another is pinned, if one must."""
        if self.pinned < self._limit:
            return None
        return self.oldest(now)

    def oldest(self, now: int) -> Key | None:
        """The bucket that was used longest ago, if it is not in use."""
        if not self._used:
            return None
        key, used = next(iter(self._used.items()))
        return key if now - used >= IN_USE_NS else None

    def _room(self, now: int) -> bool:
        return self.pinned < self._limit or self.oldest(now) is not None

    def _settle(self, key: Key) -> None:
        if self._asked == key:
            self._asked = None
