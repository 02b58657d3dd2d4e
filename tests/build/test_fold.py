import numpy as np
import onnx
import pytest

from tests.build.graphs import CLASSIFIER, DETECTOR, make, weights
from trtserve.build.cpu_run import Inputs, Session
from trtserve.build.fold import beyond_fp16, fold_batch_norms
from trtserve.build.graph import copied, read_graph


def norm_weights(channels, variance=4.0):
    return {
        "gamma": weights(channels) + 1, "beta": weights(channels), "mean": weights(channels),
        "variance": np.full(channels, variance, np.float32),
    }


def network(path, nodes, constants, channels=6):
    return make(
        path, [*nodes, ("BatchNormalization", "z gamma beta mean variance", "y")],
        {"x": ("FP32", ("N", 4, 8, 8))}, {"y": ("FP32", ("N", channels, "H", "W"))},
        constants | norm_weights(channels),
    )


def folded(graph):
    """A folded copy, and how many normalizations it lost."""
    model = copied(graph.model)
    count = fold_batch_norms(model)
    onnx.checker.check_model(model)
    return model, count


def agree(one, other, **shapes):
    tensors = read_graph_inputs(one)
    inputs = Inputs().make(tensors, shapes)
    with Session(one) as before, Session(other) as after:
        wanted, found = before.run(inputs), after.run(inputs)
    for name, expected in wanted.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=1e-5)


def read_graph_inputs(model):
    from trtserve.build.graph import border

    return border(model)[0]


CHAINS: dict[str, tuple[list, dict]] = {
    "plain": ([("Conv", "x w", "z")], {"w": (6, 4, 3, 3)}),
    "with a bias": ([("Conv", "x w b", "z")], {"w": (6, 4, 3, 3), "b": (6,)}),
    "with an addition": (
        [("Conv", "x w", "a"), ("Add", "a b", "z")], {"w": (6, 4, 3, 3), "b": (1, 6, 1, 1)},
    ),
    "addition turned round": (
        [("Conv", "x w", "a"), ("Add", "b a", "z")], {"w": (6, 4, 3, 3), "b": (6, 1, 1)},
    ),
    "one number added": (
        [("Conv", "x w", "a"), ("Add", "a b", "z")], {"w": (6, 4, 3, 3), "b": ()},
    ),
    "grouped": ([("Conv", "x w", "z", {"group": 2})], {"w": (6, 2, 3, 3)}),
    "transposed": ([("ConvTranspose", "x w", "z")], {"w": (4, 6, 3, 3)}),
    "transposed in groups": (
        [("ConvTranspose", "x w b", "z", {"group": 2})], {"w": (4, 3, 3, 3), "b": (6,)},
    ),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_folding_changes_no_result(tmp_path, chain):
    nodes, shapes = CHAINS[chain]
    graph = network(
        tmp_path / "m.onnx", nodes,
        {name: np.asarray(weights(*shape)) for name, shape in shapes.items()},
    )
    model, count = folded(graph)
    assert count == 1
    assert [node.op_type for node in model.graph.node] == [nodes[0][0]]
    assert len(model.graph.initializer) == 2
    agree(graph.model, model, x=(2, 4, 8, 8))


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([("Relu", "x", "z")], {}),
        ([("Conv", "x w", "a"), ("Relu", "a", "z")], {"w": (6, 4, 3, 3)}),
        ([("Conv", "x w", "z"), ("Relu", "z", "other")], {"w": (6, 4, 3, 3)}),
        ([("Conv", "x w", "a"), ("Add", "a b", "z")], {"w": (6, 4, 3, 3), "b": (1, 1, 1, 6)}),
        ([("Conv", "x w", "a"), ("Add", "a a", "z")], {"w": (6, 4, 3, 3)}),
    ],
    ids=["no convolution", "something between", "seen by others", "another addition", "doubled"],
)
def test_what_can_not_be_folded_stays(tmp_path, nodes, constants):
    channels = 6 if constants else 4
    graph = network(
        tmp_path / "m.onnx", nodes,
        {name: np.asarray(weights(*shape)) for name, shape in constants.items()}, channels,
    )
    model, count = folded(graph)
    assert count == 0
    assert model.graph == graph.model.graph


def test_what_is_an_output_before_it_stays(tmp_path):
    graph = make(
        tmp_path / "m.onnx",
        [("Conv", "x w", "z"), ("BatchNormalization", "z gamma beta mean variance", "y")],
        {"x": ("FP32", ("N", 4, 8, 8))},
        {"y": ("FP32", ("N", 6, "H", "W")), "z": ("FP32", ("N", 6, "H", "W"))},
        {"w": weights(6, 4, 3, 3)} | norm_weights(6),
    )
    assert folded(graph)[1] == 0


def test_numbers_beyond_fp16_are_named(tmp_path):
    for variance, expected in ((4.0, []), (1e7, ["y_norm"])):
        path = tmp_path / "m.onnx"
        make(
            path, [("Relu", "x", "z"), ("BatchNormalization", "z gamma beta mean variance", "y")],
            {"x": ("FP32", ("N", 4, 8, 8))}, {"y": ("FP32", ("N", 4, 8, 8))},
            norm_weights(4, variance),
        )
        model = onnx.load(path)
        assert beyond_fp16(model) == expected
        assert [node.name for node in model.graph.node[1:]] == (expected or [""])


@pytest.mark.parametrize(("path", "size"), [(DETECTOR, (64, 96)), (CLASSIFIER, (48, 192))])
def test_real_models_give_the_same(path, size):
    graph = read_graph(path)
    model, count = folded(graph)
    assert count == graph.ops["BatchNormalization"]
    agree(graph.model, model, x=(1, 3, *size))


def test_weights_that_old_files_have_among_their_inputs_go_too(tmp_path):
    graph = network(tmp_path / "m.onnx", [("Conv", "x w", "z")], {"w": weights(6, 4, 3, 3)})
    model = copied(graph.model)
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(
            tensor.name, tensor.data_type, list(tensor.dims)
        ))
    assert fold_batch_norms(model) == 1
    assert [value.name for value in model.graph.input] == ["x"]
