"""What a variant is warmed up with: the buckets that can be known, and the batch sizes."""

from itertools import pairwise

import pytest

from trtserve.model.configuration import WarmupShapes
from trtserve.model.spec import ANY, ShapeRange, TensorSpec, VariantSpec
from trtserve.worker.warmup import doubling_sizes, known_buckets, only_bucket, pinned_sizes


def image(
    low: tuple[int, ...], high: tuple[int, ...], opt: tuple[int, ...] | None = None,
    max_batch: int = 8,
) -> VariantSpec:
    return VariantSpec(
        "v", (TensorSpec("x", "FP32", high),), (TensorSpec("y", "FP32", high),),
        (ShapeRange(low, high, opt),), max_batch,
    )


def warmup(rows: int, *shape: int, name: str = "x") -> WarmupShapes:
    return WarmupShapes("w", rows, (TensorSpec(name, "FP32", shape),))


# --- which buckets -----------------------------------------------------------------------


def test_a_profile_s_opt_then_its_ends():
    variant = image((1, 3, 8), (8, 3, 64), (4, 3, 32))
    assert list(known_buckets(variant, ())) == [
        (((3, 32),), ()), (((3, 64),), ()), (((3, 8),), ()),
    ]


def test_a_fixed_shape_is_run_once():
    assert list(known_buckets(image((1, 4), (8, 4), (1, 4)), ())) == [(((4,),), ())]
    assert list(known_buckets(image((2, 4), (2, 4), max_batch=0), ())) == [(((2, 4),), ())]


def test_nothing_is_known_of_open_shapes():
    assert list(known_buckets(image((1, 1), (8, ANY)), ())) == []


def test_the_configuration_s_shapes_come_first_with_their_rows():
    variant = image((1, 1), (8, ANY))
    warmups = (warmup(4, 50), warmup(2, 60))
    assert list(known_buckets(variant, warmups)) == [(((50,),), (4,)), (((60,),), (2,))]


def test_shapes_that_a_variant_does_not_take_are_another_s():
    variant = image((1, 4), (8, 64))
    warmups = (warmup(4, 65), warmup(9, 50), warmup(1, 5, 5), warmup(1, 9, name="z"))
    assert [bucket for bucket, rows in known_buckets(variant, warmups) if rows] == []


def test_unbatched_shapes_are_whole():
    variant = image((1, 4), (8, 64), max_batch=0)
    assert next(iter(known_buckets(variant, (warmup(1, 2, 5),)))) == (((2, 5),), (1,))


# --- which sizes -------------------------------------------------------------------------


@pytest.mark.parametrize(("max_batch", "sizes"), [
    (0, (1,)), (1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8)),
    (48, (1, 2, 4, 8, 16, 32, 48)),
])
def test_sizes_double_up_to_the_largest(max_batch, sizes):
    assert doubling_sizes(max_batch) == sizes


@pytest.mark.parametrize(("max_batch", "sizes"), [
    (0, (1,)), (1, (1,)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8)), (9, (1, 2, 4, 8, 9)),
    (10, (1, 2, 4, 8, 9, 10)), (16, (1, 2, 4, 8, 12, 16)),
    (64, (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)),
])
def test_larger_sizes_that_contexts_are_made_for_lie_closer(max_batch, sizes):
    assert pinned_sizes(max_batch) == sizes


@pytest.mark.parametrize("max_batch", [9, 32, 100, 1000])
def test_a_third_of_a_padded_batch_is_wasted_at_most(max_batch):
    sizes = pinned_sizes(max_batch)
    for smaller, larger in pairwise(sizes):
        if smaller >= 8:
            assert (larger - (smaller + 1)) / larger <= 1 / 3


@pytest.mark.parametrize(("variant", "bucket"), [
    (image((1, 3, 8), (64, 3, 8)), ((3, 8),)),
    (image((2, 4), (2, 4), max_batch=0), ((2, 4),)),
    (image((1, 3, 8), (64, 3, 16)), None),
    (image((1, 8), (2, 8), max_batch=0), None),
    (image((1, 1), (8, ANY)), None),
])
def test_the_only_bucket_there_is(variant, bucket):
    assert only_bucket(variant) == bucket
