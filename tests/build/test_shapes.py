import pytest

from tests.build.graphs import CLASSIFIER, DETECTOR, RECOGNIZER, make, relu
from trtserve.build.graph import read_graph
from trtserve.build.shapes import derive, from_sizes, parse_profile
from trtserve.errors import ConfigurationError
from trtserve.model.spec import ShapeRange


@pytest.fixture
def images(tmp_path):
    return relu(tmp_path / "images.onnx", ("N", 3, "H", "W"))


@pytest.fixture
def square(tmp_path):
    return relu(tmp_path / "square.onnx", ("N", 3, 224, 224))


def product(folder):
    return make(
        folder / "product.onnx", [("MatMul", "a b", "y")],
        {"a": ("FP32", ("N", "K")), "b": ("FP32", ("M", "L"))}, {"y": ("FP32", ("N", "L"))},
    )


def test_a_profile_is_read_and_written(images):
    text = "x=1x3x224x224,8x3x224x224,32x3x224x224"
    profile = parse_profile(text, images, "usual")
    assert profile.shapes["x"] == ShapeRange((1, 3, 224, 224), (32, 3, 224, 224), (8, 3, 224, 224))
    assert profile.name == "usual"
    assert profile.text == text
    assert profile.opts() == {"x": (8, 3, 224, 224)}


def test_several_inputs_and_one_shape_for_all_three(tmp_path):
    graph = product(tmp_path)
    profile = parse_profile(" a=1x4, 2x4 ,3x4 ; b=4x5;", graph)
    assert profile.shapes["a"] == ShapeRange((1, 4), (3, 4), (2, 4))
    assert profile.shapes["b"] == ShapeRange((4, 5), (4, 5), (4, 5))
    assert parse_profile(profile.text, graph) == profile


def test_a_name_may_have_colons_and_equals():
    assert parse_profile("in=put:0=1x2").shapes.keys() == {"in=put:0"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is empty"),
        ("x", "'x' in 'x' is not a shape"),
        ("=1x2", "is not an input with"),
        ("x=1x3,2x3", "is not an input with its min, opt and max shape"),
        ("x=1x3x-1", "'1x3x-1' in .* is not a shape"),
        ("x=1x3;x=1x3", "input 'x' is there twice"),
    ],
)
def test_what_is_no_profile_is_refused(text, problem):
    with pytest.raises(ConfigurationError, match=problem) as caught:
        parse_profile(text)
    assert "1x3x224x224" in caught.value.cure


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("y=1x3x8x8", "the model has no input 'y'; it has 'x'"),
        ("x=1x3x8", "1x3x8 has 3 dimensions and not 4"),
        ("x=1x4x8x8", "dimension 1 of 1x4x8x8 is fixed to 3"),
        ("x=8x3x8x8,4x3x8x8,32x3x8x8", "dimension 0 is 8, 4, 32, which is not min <= opt <= max"),
        ("x=0x3x8x8,1x3x8x8,1x3x8x8", "dimension 0 is 0, 1, 1"),
    ],
)
def test_a_profile_has_to_fit_the_graph(images, text, problem):
    with pytest.raises(ConfigurationError, match=problem):
        parse_profile(text, images)


def test_every_input_needs_shapes(tmp_path):
    with pytest.raises(ConfigurationError, match="input 'b' has no shapes"):
        parse_profile("a=1x4", product(tmp_path))


def test_sizes_make_one_profile_each(images):
    found = from_sizes(images, ["160", "224x320", "160"])
    assert [one.name for one in found] == ["160", "224x320"]
    assert found[0].shapes["x"] == ShapeRange((1, 3, 160, 160), (32, 3, 160, 160), (8, 3, 160, 160))
    assert found[1].opts() == {"x": (8, 3, 224, 320)}


@pytest.mark.parametrize(
    ("batches", "expected"), [((4,), (4, 4, 4)), ((1, 16), (1, 16, 16)), ((1, 2, 3), (1, 3, 2))]
)
def test_batches(images, batches, expected):
    (found,) = from_sizes(images, ["8"], batches)
    assert found.shapes["x"] == ShapeRange(*((rows, 3, 8, 8) for rows in expected))


@pytest.mark.parametrize("batches", [(), (8, 1), (0, 1), (1, 2, 3, 4)])
def test_what_is_no_range_of_batches_is_refused(images, batches):
    with pytest.raises(ConfigurationError, match="is not a range of batches"):
        from_sizes(images, ["8"], batches)


@pytest.mark.parametrize("size", ["", "0", "224x", "axb", "-1"])
def test_what_is_no_size_is_refused(images, size):
    with pytest.raises(ConfigurationError, match=f"'{size}' is not a size"):
        from_sizes(images, [size])


def test_a_size_needs_as_many_numbers_as_there_are_open_dimensions(images):
    with pytest.raises(ConfigurationError, match=r"has 2 open dimensions .* size 1x2x3 gives 3"):
        from_sizes(images, ["1x2x3"])


def test_fixed_sizes_take_only_themselves(square):
    for size in ("224", "224x224"):
        (found,) = from_sizes(square, [size])
        assert found.opts() == {"x": (8, 3, 224, 224)}
    with pytest.raises(ConfigurationError, match="no input has an open dimension for size 320"):
        from_sizes(square, ["320"])


def test_a_fixed_batch_stays(tmp_path):
    graph = relu(tmp_path / "m.onnx", (1, 3, "H", "W"))
    (found,) = from_sizes(graph, ["8"], (1, 8, 32))
    assert found.shapes["x"].max == (1, 3, 8, 8)


def test_sizes_go_to_every_input_with_open_dimensions(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("Add", "a b", "c"), ("Add", "c d", "y")],
        {"a": ("FP32", ("N", "S")), "b": ("FP32", ("N", "S")), "d": ("FP32", ("N", 1))},
        {"y": ("FP32", ("N", "S"))},
    )
    (found,) = from_sizes(graph, ["128"])
    assert found.opts() == {"a": (8, 128), "b": (8, 128), "d": (8, 1)}


def test_sizes_are_derived_and_explained():
    graph = read_graph(DETECTOR)
    (found,), lines = derive(graph)
    assert found.text == "x=1x3x128x128,8x3x224x224,32x3x448x448"
    assert lines[0] == "x: batches of 1 to 32, tuned for 8"
    assert lines[1] == "x: dimension 2 is 128 to 448, tuned for 224"
    assert "guesses" in lines[-1]
    assert "--sizes" in lines[-1]


def test_derived_sizes_are_sizes_that_the_model_runs_with():
    # Its file says that the height is open; its operators take 48 at most.
    (found,), _ = derive(read_graph(RECOGNIZER), (1, 2, 4))
    assert found.shapes["x"].max == (4, 3, 48, 640)


def test_a_symbol_that_stands_for_nothing_is_two_sizes():
    (found,), _ = derive(read_graph(CLASSIFIER))
    assert found.opts() == {"x": (8, 3, 224, 224)}


def test_one_symbol_is_one_size(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("Add", "a b", "y")],
        {"a": ("FP32", ("N", "S")), "b": ("FP32", ("N", "S"))}, {"y": ("FP32", ("N", "S"))},
    )
    (found,), _ = derive(graph)
    assert found.shapes["a"] == found.shapes["b"] == ShapeRange((1, 32), (32, 512), (8, 128))


def test_a_fixed_model_needs_no_guess(square, tmp_path):
    (found,), lines = derive(square)
    assert found.shapes["x"] == ShapeRange((1, 3, 224, 224), (32, 3, 224, 224), (8, 3, 224, 224))
    assert len(lines) == 1
    (found,), lines = derive(relu(tmp_path / "one.onnx", (1, 4)))
    assert found.shapes["x"].max == (1, 4)
    assert lines == ["x: exactly 1 at a time, as the model has it"]


def test_a_model_that_runs_with_no_guess_asks_for_sizes(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no sizes were found .*--sizes"):
        derive(product(tmp_path))
