import pytest

from tests.engine.tensorrt_stand import Stand
from trtserve.errors import ModelLoadError
from trtserve.model.spec import ShapeRange, TensorSpec
from trtserve.testing.tensorrt_plan import (
    StandInProfile,
    StandInTensor,
    make_plan,
    write_plan,
)

PLAIN = StandInTensor(name="y", shape=(-1, 4))


@pytest.fixture(params=["tensorrt", "tensorrt_lean", "tensorrt_rtx"])
def stand(request, tmp_path) -> Stand:
    return Stand(tmp_path, request.param)


def write(stand: Stand, x: StandInTensor, y: StandInTensor = PLAIN) -> None:
    shapes = ((1, 4), (4, 4), (8, 4))
    profiles = (StandInProfile({"x": shapes} if -1 in x.shape else {}),)
    write_plan(stand.path, inputs=(x,), outputs=(y,), profiles=profiles,
               module=stand.module.__name__)


def test_tensors_and_ranges(stand):
    make_plan(stand.path, module=stand.module.__name__,
              shapes=[((1, 3, 32), (2, 3, 64), (8, 3, 128))])
    engine = stand.load()
    (variant,) = engine.variants
    assert variant.name == "model.plan"
    assert variant.inputs == (TensorSpec("x", "FP32", (-1, 3, -1)),)
    assert variant.outputs == (TensorSpec("y", "FP32", (-1, 3, -1)),)
    assert variant.ranges == (ShapeRange((1, 3, 32), (8, 3, 128), (2, 3, 64)),)
    assert variant.max_batch == 8
    assert engine.platform == "tensorrt_plan"
    assert engine.scratch_bytes == (8 * 3 * 128 * 4,)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("FLOAT", "FP32"), ("HALF", "FP16"), ("BF16", "BF16"), ("INT8", "INT8"), ("UINT8", "UINT8"),
     ("INT32", "INT32"), ("INT64", "INT64"), ("BOOL", "BOOL")],
)
def test_datatypes(tmp_path, theirs, ours):
    stand = Stand(tmp_path)
    make_plan(stand.path, datatype=theirs)
    assert stand.load().variants[0].inputs[0].datatype == ours


@pytest.mark.parametrize("theirs", ["FP8", "INT4", "FP4", "E8M0"])
def test_datatypes_that_requests_can_not_carry(tmp_path, theirs):
    stand = Stand(tmp_path)
    make_plan(stand.path, datatype=theirs)
    with pytest.raises(ModelLoadError, match=f"tensor 'x' is {theirs}") as caught:
        stand.load()
    assert caught.value.where == stand.path
    assert "FP16 or FP32" in caught.value.cure


def test_a_vector_layout(stand):
    write(stand, StandInTensor(name="x", shape=(-1, 4), vector=1, format="CHW4"))
    with pytest.raises(ModelLoadError, match="tensor 'x' is laid out as 'CHW4 FLOAT format'"):
        stand.load()


def test_another_order_is_told_by_its_name(stand):
    write(stand, StandInTensor(name="x", shape=(-1, 4)),
          StandInTensor(name="y", shape=(-1, 4), format="HWC"))
    if stand.module.__name__ == "tensorrt_lean":
        stand.load()  # it has no names for formats
    else:
        with pytest.raises(ModelLoadError, match="tensor 'y' is laid out as 'HWC"):
            stand.load()


def test_an_output_that_is_an_input(stand):
    write(stand, StandInTensor(name="x", shape=(-1, 4)),
          StandInTensor(name="y", shape=(-1, 4), alias="x"))
    with pytest.raises(ModelLoadError, match="output 'y' shares its memory with input 'x'"):
        stand.load()


def test_one_image_is_said_and_logged(stand, caplog):
    x = StandInTensor(name="x", shape=(1, 3, 8, 8))
    write(stand, x, StandInTensor(name="y", shape=(1, 3, 8, 8)))
    engine = stand.load()
    assert engine.variants[0].max_batch == 0
    assert engine.variants[0].ranges[0].max == (1, 3, 8, 8)
    (warning,) = engine.warnings
    assert "model.plan: takes one image in a run" in warning
    assert warning in caplog.text
