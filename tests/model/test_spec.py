"""Shape ranges, and versions made of several variants."""

import msgspec
import pytest

from trtserve.model.spec import ANY, QueuePolicy, ShapeRange, TensorSpec, VariantSpec, VersionSpec


@pytest.mark.parametrize(("shape", "taken"), [
    ((1, 3, 64), True), ((8, 3, 64), True), ((4, 3, 10**9), True),
    ((0, 3, 64), False), ((9, 3, 64), False), ((1, 4, 64), False), ((1, 3, 63), False),
    ((1, 3), False), ((1, 3, 64, 1), False), ((), False),
])
def test_a_range_takes_what_lies_inside(shape, taken):
    assert ShapeRange((1, 3, 64), (8, 3, ANY)).takes(shape) is taken


def test_a_range_of_a_single_value():
    assert ShapeRange((), ()).takes(())
    assert not ShapeRange((), ()).takes((1,))


def test_a_range_reads_well():
    assert str(ShapeRange((1, 3, 64, 1), (8, 3, ANY, ANY))) == "[1..8, 3, 64.., 1..]"
    assert str(ShapeRange((), ())) == "[]"


def variant(name, *shapes):
    inputs = tuple(TensorSpec(f"x{at}", "FP32", shape) for at, shape in enumerate(shapes))
    ranges = tuple(ShapeRange(shape, shape) for shape in shapes)
    return VariantSpec(name, inputs, inputs[:1], ranges, 1)


def test_shapes_widen_over_variants():
    version = VersionSpec("m", 1, "p", (
        variant("a", (1, 3, 320), (5,)),
        variant("b", (1, 3, 640), (5,)),
        variant("c", (1, 3, 9), (5,)),
    ))
    assert version.inputs == (TensorSpec("x0", "FP32", (1, 3, -1)), TensorSpec("x1", "FP32", (5,)))
    assert version.outputs == (TensorSpec("x0", "FP32", (1, 3, -1)),)


def test_one_variant_is_not_widened():
    assert VersionSpec("m", 1, "p", (variant("a", (2, 3), ()),)).inputs == (
        TensorSpec("x0", "FP32", (2, 3)), TensorSpec("x1", "FP32", ()),
    )


def test_a_version_crosses_processes():
    version = VersionSpec(
        "m", 3, "p", (variant("a", (-1, 3), ()),), QueuePolicy(5, (2, 4)), b"\x00config"
    )
    data = msgspec.msgpack.encode(version)
    assert msgspec.msgpack.decode(data, type=VersionSpec) == version
