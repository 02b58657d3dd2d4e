"""Routing: which variant takes a request, and what is said when none does."""

import msgspec
import pytest

from trtserve.errors import InvalidRequest
from trtserve.model.catalog import Placement, Version
from trtserve.model.cost import Cost
from trtserve.model.route import Route, describe_variant, route, tensors_text
from trtserve.model.spec import ANY, ModelState, ShapeRange, TensorSpec, VariantSpec, VersionSpec

Shape = tuple[int, ...]


def image(low: Shape, high: Shape, max_batch: int = 8, name: str = "v") -> VariantSpec:
    """A variant with one input x; the shapes are whole."""
    shape = tuple(a if a == b else ANY for a, b in zip(low, high, strict=True))
    return VariantSpec(
        name, (TensorSpec("x", "FP32", shape),), (TensorSpec("y", "FP32", (ANY,)),),
        (ShapeRange(low, high),), max_batch,
    )


def two_inputs(max_batch: int) -> VariantSpec:
    specs = (TensorSpec("a", "FP32", (ANY, 3)), TensorSpec("b", "INT32", (ANY,)))
    return VariantSpec(
        "v", specs, (), (ShapeRange((1, 3), (ANY, 3)), ShapeRange((1,), (ANY,))), max_batch
    )


Costs = dict[tuple[int, tuple[Shape, ...]], Cost]


def version_of(*variants: VariantSpec, costs: Costs | None = None) -> Version:
    spec = VersionSpec("m", 1, "fake", variants)
    ids = tuple(range(100, 100 + len(variants)))
    renamed = {(100 + index, bucket): cost for (index, bucket), cost in (costs or {}).items()}
    placement = Placement("w", ModelState.READY, "", ids, renamed, spec=spec)
    return Version("m", 1, spec, {"w": placement})


def refusal(version: Version, *shapes: Shape) -> str:
    with pytest.raises(InvalidRequest) as caught:
        route(version, shapes)
    return str(caught.value)


def test_a_batched_request_goes_to_the_bucket_of_its_rows_shape():
    version = version_of(image((1, 3, 4, 4), (8, 3, 9, 9)))
    assert route(version, [(2, 3, 5, 6)]) == Route(0, ((3, 5, 6),), 2)


def test_an_unbatched_request_is_its_own_bucket():
    version = version_of(image((3, 4), (3, 9), max_batch=0))
    assert route(version, [(3, 5)]) == Route(0, ((3, 5),), 1)


def test_a_scalar_input_needs_no_batch():
    version = version_of(image((), (), max_batch=0))
    assert route(version, [()]) == Route(0, ((),), 1)


def test_all_inputs_share_their_rows():
    version = version_of(two_inputs(8))
    assert route(version, [(2, 3), (2,)]) == Route(0, ((3,), ()), 2)
    text = refusal(version, (2, 3), (1,))
    assert "got a FP32[2, 3], b INT32[1]: all inputs must have the same number of rows" in text
    assert "; it takes a FP32[1..8, 3], b INT32[1..8]" in text


@pytest.mark.parametrize("rows", [0, 9])
def test_rows_are_those_that_the_variant_takes(rows):
    version = version_of(two_inputs(8))
    assert "[1..8, 3]" in refusal(version, (rows, 3), (rows,))


def test_more_rows_than_the_largest_batch_are_named():
    assert ": 9 rows are more than the largest batch" in refusal(
        version_of(two_inputs(8)), (9, 3), (9,)
    )


@pytest.mark.parametrize(("shape", "why"), [
    ((1, 3, 5), ": x must have 4 dimensions"),
    ((9, 3, 5, 5), ": dimension 0 of x is out of range"),
    ((1, 4, 5, 5), ": dimension 1 of x is out of range"),
    ((1, 3, 5, 10), ": dimension 3 of x is out of range"),
    ((1, 3, 3, 5), ": dimension 2 of x is out of range"),
])
def test_a_refusal_says_what_came_what_is_wrong_and_what_fits(shape, why):
    text = refusal(version_of(image((1, 3, 4, 4), (8, 3, 9, 9))), shape)
    assert text == (
        f"model 'm' version 1 got x FP32{list(shape)}{why}; it takes x FP32[1..8, 3, 4..9, 4..9]"
    )


def test_a_refusal_lists_all_variants():
    version = version_of(image((1, 4), (8, 4)), image((1, 6), (1, 6), max_batch=1))
    assert refusal(version, (1, 5)) == (
        "model 'm' version 1 got x FP32[1, 5]; it takes x FP32[1..8, 4]; or x FP32[1, 6]"
    )


# --- several variants --------------------------------------------------------------------

TIGHT = image((1, 16), (8, 16))
WIDE = image((1, 8), (8, 64))
OPEN = image((1, 8), (ANY, ANY))


def test_the_only_one_that_fits_is_taken():
    version = version_of(TIGHT, WIDE)
    assert route(version, [(1, 17)]).variant == 1
    assert route(version_of(image((1, 4), (1, 4), 1), image((1, 4), (8, 4))), [(5, 4)]).variant == 1


@pytest.mark.parametrize(("variants", "chosen"), [
    ((WIDE, TIGHT), 1), ((TIGHT, WIDE), 0), ((OPEN, WIDE), 1), ((OPEN, TIGHT, WIDE), 1),
    ((WIDE, WIDE), 0),
])
def test_without_measurements_the_tightest_is_taken(variants, chosen):
    assert route(version_of(*variants), [(2, 16)]).variant == chosen


def test_with_measurements_the_cheapest_is_taken():
    bucket = ((16,),)
    version = version_of(TIGHT, WIDE, costs={(0, bucket): Cost(90), (1, bucket): Cost(80)})
    assert route(version, [(2, 16)]).variant == 1
    assert route(version, [(2, 17)]).variant == 1


def test_a_measurement_of_some_only_is_no_comparison():
    version = version_of(WIDE, TIGHT, costs={(0, ((16,),)): Cost(80)})
    assert route(version, [(2, 16)]).variant == 1


# A variant tuned for single rows and one tuned for 32: the first is quicker up to some 8 rows.
FEW = Cost(100, 0, ((1, 1000), (8, 3000), (32, 12000)))
MANY = Cost(50, 0, ((1, 1500), (8, 3100), (32, 4000)))


@pytest.mark.parametrize(("rows", "chosen"), [(1, 0), (8, 0), (16, 1), (32, 1)])
def test_the_cost_that_counts_is_that_of_the_requests_own_rows(rows, chosen):
    bucket: tuple[Shape, ...] = ((16,),)
    wide = image((1, 16), (32, 16), max_batch=32)
    version = version_of(wide, wide, costs={(0, bucket): FEW, (1, bucket): MANY})
    assert route(version, [(rows, 16)]).variant == chosen


@pytest.mark.parametrize("busy", [0, 1])
@pytest.mark.parametrize(("usual", "chosen"), [(0, 0), (1, 0), (8, 0), (32, 1)])
def test_under_load_it_is_that_of_the_batches_that_run_whichever_variant_they_run_in(
    busy, usual, chosen
):
    bucket: tuple[Shape, ...] = ((16,),)
    costs: Costs = {(0, bucket): FEW, (1, bucket): MANY}
    costs[busy, bucket] = msgspec.structs.replace(costs[busy, bucket], usual_rows=usual)
    wide = image((1, 16), (32, 16), max_batch=32)
    assert route(version_of(wide, wide, costs=costs), [(1, 16)]).variant == chosen


def test_a_variant_for_single_rows_pays_for_each_of_a_large_batch():
    bucket: tuple[Shape, ...] = ((16,),)
    single, wide = image((1, 16), (1, 16), max_batch=1), image((1, 16), (32, 16), max_batch=32)
    costs: Costs = {(0, bucket): Cost(700, 0, ((1, 700),)), (1, bucket): MANY}
    assert route(version_of(single, wide, costs=costs), [(1, 16)]).variant == 0
    costs[0, bucket] = msgspec.structs.replace(costs[0, bucket], usual_rows=8)
    assert route(version_of(single, wide, costs=costs), [(1, 16)]).variant == 1


# --- for people --------------------------------------------------------------------------


def test_variants_and_tensors_as_text():
    assert describe_variant(OPEN) == "x FP32[1..8, 8..]"
    assert describe_variant(two_inputs(1)) == "a FP32[1, 3], b INT32[1]"
    assert describe_variant(two_inputs(0)) == "a FP32[1.., 3], b INT32[1..]"
    assert tensors_text(two_inputs(8).inputs) == "a FP32[-1, 3], b INT32[-1]"
