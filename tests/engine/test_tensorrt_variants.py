import pytest

from trtserve.engine.tensorrt_variants import Profile, Variant, make_variants
from trtserve.model.finding import Finding
from trtserve.model.spec import ShapeRange, TensorSpec

X, Y = TensorSpec("x", "FP32", (-1, 3, -1, -1)), TensorSpec("y", "FP32", (-1, 10))


def profile(index: int, least: int, most: int, *, side: int = 224, scratch: int = 0) -> Profile:
    low, high = (least, 3, side, side), (most, 3, side, side)
    return Profile(index, (ShapeRange(low, high, high),), (None,), scratch)


def variants(
    *profiles: Profile, x: TensorSpec = X, y: TensorSpec = Y
) -> tuple[tuple[Variant, ...], tuple[Finding, ...]]:
    return make_variants("a.plan", (x,), (y,), profiles)


def test_a_profile_is_a_variant():
    made, warnings = variants(profile(0, 1, 8), profile(1, 1, 32, side=160))
    assert not warnings
    assert [variant.spec.name for variant in made] == ["a.plan#0", "a.plan#1"]
    assert [variant.spec.max_batch for variant in made] == [8, 32]
    assert made[1].spec.ranges == (ShapeRange((1, 3, 160, 160), (32, 3, 160, 160),
                                              (32, 3, 160, 160)),)
    assert made[0].spec.inputs == (X,)


def test_the_only_profile_needs_no_name():
    (made,), _ = variants(profile(0, 1, 8))
    assert made.spec.name == "a.plan"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_profiles_that_divide_the_batch_are_one_variant(order):
    sizes = [(1, 1), (2, 8), (9, 32)]
    profiles = [profile(index, *sizes[which], scratch=which) for index, which in enumerate(order)]
    (made,), warnings = variants(*profiles)
    assert not warnings
    assert made.spec.max_batch == 32
    assert made.spec.ranges[0].min == (1, 3, 224, 224)
    assert made.spec.ranges[0].max == (32, 3, 224, 224)
    assert [each.batches for each in made.profiles] == sizes
    assert made.scratch == 2

    def find(rows: int) -> int | None:
        return made.find([(rows, 3, 224, 224)])

    assert [find(rows) for rows in (1, 2, 8, 9, 32)] == [0, 1, 1, 2, 2]
    assert find(33) is None
    assert made.find([(1, 3, 225, 224)]) is None


def test_overlapping_profiles_run_the_smaller_one():
    (made,), _ = variants(profile(0, 1, 8), profile(1, 4, 16))
    assert made.find([(8, 3, 224, 224)]) == 0
    assert made.find([(9, 3, 224, 224)]) == 1


def test_profiles_for_the_same_batches_stay_apart():
    made, warnings = variants(profile(0, 1, 8), profile(1, 1, 8))
    assert len(made) == 2
    assert not warnings


@pytest.mark.parametrize("other", [
    profile(1, 10, 32),  # 9 rows would fit neither
    profile(1, 9, 32, side=160),
])
def test_a_profile_that_no_single_request_reaches_is_left_out(other):
    made, (warning,) = variants(profile(0, 1, 8), other)
    assert [variant.spec.max_batch for variant in made] == [8]
    assert (warning.where, warning.problem[:15]) == ("a.plan", "profile 1 takes")
    assert "not served" in warning.problem
    assert "--batch" in warning.cure


def test_no_profile_takes_one_row():
    made, (warning,) = variants(profile(0, 4, 8), profile(1, 16, 32))
    assert [variant.spec.max_batch for variant in made] == [0, 0]
    assert made[0].spec.ranges[0].min[0] == 4
    assert "no fewer than 4 rows" in warning.problem


def test_a_batch_that_is_fixed_to_one():
    x, y = TensorSpec("x", "FP32", (1, 3, 224, 224)), TensorSpec("y", "FP32", (1, 10))
    (made,), (warning,) = variants(profile(0, 1, 1), x=x, y=y)
    assert made.spec.max_batch == 0
    for part in ("takes one image in a run", "fixed to 1 in the model", "max_batch_size is gone"):
        assert part in warning.problem
    for part in ("--fix", "--batch 1,8,32"):
        assert part in warning.cure


def test_profiles_that_end_at_one():
    (made,), (warning,) = variants(profile(0, 1, 1))
    assert made.spec.max_batch == 1
    assert "its profiles end at a batch of 1" in warning.problem
    assert "--fix" not in warning.cure


def test_a_single_vector_is_no_image():
    x, y = TensorSpec("x", "INT64", (1, 128)), TensorSpec("y", "FP32", (1, 10))
    only = Profile(0, (ShapeRange((1, 128), (1, 128)),), (None,))
    (made,), warnings = variants(only, x=x, y=y)
    assert made.spec.max_batch == 0
    assert not warnings


def test_outputs_without_a_batch():
    (made,), _ = variants(profile(0, 1, 8), y=TensorSpec("y", "FP32", (10,)))
    assert made.spec.max_batch == 0


def test_inputs_that_end_at_different_batches():
    inputs = (TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "FP32", (-1, 2)))
    ranges = (ShapeRange((1, 2), (8, 2)), ShapeRange((1, 2), (4, 2)))
    (made,), _ = make_variants("a.plan", inputs, (Y,), [Profile(0, ranges, (None, None))])
    assert made.spec.max_batch == 4
