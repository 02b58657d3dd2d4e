"""A request and a batch, as the worker sees them."""

from dataclasses import dataclass
from typing import Any

from trtserve.ipc.message import Bucket, Submit


class Request:
    """One inference call that waits or runs. Equal only to itself.

    `owner` is whoever must be answered: the worker compares it with `is` and looks no further.
    `cancelled` is set by Batcher.cancel. The other attributes are the batcher's own: `rows` counts
    1 where the variant is not batched, `rank` is its place among priorities (0: the model's
    default level, less is more urgent), `queued` says whether it waits now.
    """

    __slots__ = ("cancelled", "owner", "queued", "rank", "rows", "submit")

    def __init__(self, submit: Submit, owner: Any) -> None:
        self.submit = submit
        self.owner = owner
        self.cancelled = False
        self.queued = False
        self.rank = 0
        self.rows = submit.rows


@dataclass(slots=True, eq=False)
class Batch:
    """Requests of one variant and bucket that run together on one lane.

    `rows` is their sum, and 1 where the variant is not batched. `charged_ns` is the lane time
    that the model's fair share was charged in advance, `lanes_mark` the lane budget's.
    """

    id: int
    variant: int
    bucket: Bucket
    requests: list[Request]
    rows: int
    started_ns: int
    charged_ns: int = 0
    lanes_mark: int = 0
