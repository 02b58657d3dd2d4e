"""Trying a batch: whether requests that run together get the answers they get alone.

An engine with an open dimension 0 looks like one that takes batches, and may be something else:
a sequence, say, whose elements see one another. Where the configuration does not vouch for it
(max_batch_size), the first batch of several requests runs both ways: together, and then one by
one, and only the latter is answered.
"""

from typing import Any

import numpy as np

from trtserve.ipc.message import OutputBlock
from trtserve.model.spec import VariantSpec
from trtserve.model.tensor import DATATYPES

TOLERANCE = {"FP16": 2e-2, "BF16": 1e-1}
"""Relative, and of the largest value: batched kernels add up in another order."""
DEFAULT_TOLERANCE = 5e-3


class Trial:
    """The outputs of a batch that ran together, to be compared with each request's own.

    `passed` turns false at the first difference. `view` is the output arena.
    """

    def __init__(
        self, variant: VariantSpec, outputs: tuple[OutputBlock, ...], view: memoryview
    ) -> None:
        self._variant = variant
        self._pieces = {
            block.index: _pieces(block, view, len(block.sizes)) for block in outputs
        }
        self.passed = True

    def compare(self, position: int, outputs: tuple[OutputBlock, ...], view: memoryview) -> None:
        """Compare what the request of that position in the batch got alone: the outputs that it
        wants, which may be fewer than those that the batch had to give."""
        for block in outputs:
            datatype = self._variant.outputs[block.index].datatype
            together = self._pieces[block.index][position]
            alone = _pieces(block, view, 1)[0]
            if not close(datatype, together, alone):
                self.passed = False


def close(datatype: str, one: bytes, other: bytes) -> bool:
    """Whether two outputs are the same but for rounding."""
    if one == other:
        return True
    kind: np.dtype[Any] = DATATYPES[datatype].numpy
    if len(one) != len(other) or datatype not in ("FP16", "BF16", "FP32", "FP64"):
        return False
    left, right = (np.frombuffer(data, kind).astype(np.float64) for data in (one, other))
    tolerance = TOLERANCE.get(datatype, DEFAULT_TOLERANCE)
    finite = np.abs(right[np.isfinite(right)])
    scale = float(finite.max()) if finite.size else 0.0
    return bool(np.allclose(left, right, rtol=tolerance, atol=tolerance * scale, equal_nan=True))


def _pieces(block: OutputBlock, view: memoryview, count: int) -> list[bytes]:
    """Copies of the requests' pieces of an output."""
    pieces = []
    start = block.offset
    for size in block.sizes[:count]:
        pieces.append(bytes(view[start : start + size]))
        start += size
    return pieces
