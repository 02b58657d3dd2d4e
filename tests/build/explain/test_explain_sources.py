"""How optimised nodes are traced back, on graphs as small as the case."""

from trtserve.build.explain.explanation import Node
from trtserve.build.explain.onnx_sources import find_sources, find_twins, without_twins


def chain(*kinds):
    """Nodes one after the other: x -> t0 -> t1 ..."""
    names = ["x", *(f"t{at}" for at in range(len(kinds)))]
    return [
        Node(f"{kind}_{at}", kind, (names[at],), (names[at + 1],))
        for at, kind in enumerate(kinds)
    ]


def test_a_node_that_stayed_stands_for_itself():
    before = chain("Conv", "Relu")
    assert find_sources(before, before) == [("Conv_0",), ("Relu_1",)]


def test_a_fused_node_stands_for_all_on_the_way_back_to_what_it_takes():
    before = chain("Conv", "Bn", "Relu", "Pool")
    after = [Node("Conv_0", "FusedConv", ("x", "new weights"), ("t2",)), before[3]]
    assert find_sources(before, after, {"new weights"}) == [
        ("Conv_0", "Bn_1", "Relu_2"), ("Pool_3",)
    ]


def test_the_way_back_takes_all_branches():
    before = [
        Node("a", "Sub", ("x", "m"), ("d",)), Node("m", "Mean", ("x",), ("m",)),
        Node("p", "Pow", ("d",), ("p",)), Node("v", "Div", ("d", "p"), ("y",)),
    ]
    after = [Node("v/LayerNormFusion/", "LayerNormalization", ("x",), ("y",))]
    assert find_sources(before, after) == [("a", "m", "p", "v")], "in the file's order"


def test_what_is_still_there_is_not_taken_in():
    before = [*chain("Conv", "Relu"), Node("side", "Neg", ("t0",), ("z",))]
    # The convolution's result is needed beside the fused node, so it is computed twice.
    after = [
        Node("Conv_0", "Conv", ("x",), ("t0",)), Node("fused", "FusedConv", ("x",), ("t1",)),
        before[2],
    ]
    assert find_sources(before, after) == [("Conv_0",), ("Relu_1",), ("side",)]


def test_what_was_computed_ahead_belongs_to_nobody():
    before = [
        Node("shape", "Shape", ("x",), ("s",)), Node("gather", "Gather", ("s",), ("g",)),
        Node("reshape", "Reshape", ("x", "g"), ("y",)),
    ]
    after = [Node("reshape", "Reshape", ("x", "g"), ("y",))]
    assert find_sources(before, after, {"g"}) == [("reshape",)]


def test_nodes_in_the_processor_s_layout_are_named_after_what_they_gave():
    before = chain("Conv", "Relu", "Pool")
    after = [
        Node("ReorderInput", "NCHWc ReorderInput", ("x",), ("reorder",)),
        Node("t1_nchwc_token_3", "NCHWc Conv", ("reorder",), ("reorder_token_2",)),
        Node("ReorderOutput", "NCHWc ReorderOutput", ("reorder_token_2",), ("t1",)),
        before[2],
    ]
    assert find_sources(before, after) == [(), ("Conv_0", "Relu_1"), (), ("Pool_2",)]


def test_a_fused_node_with_a_new_tensor_is_found_by_its_name():
    before = chain("Sigmoid", "Mul")
    after = [Node("Mul_1/QuickGeluFusion/", "QuickGelu", ("x",), ("reorder_token_9",))]
    assert find_sources(before, after) == [("Sigmoid_0", "Mul_1")]


def test_what_nobody_knows_stands_for_nothing():
    before = chain("Relu")
    after = [*before, Node("InsertedCast", "Cast", ("t0",), ("cast",))]
    assert find_sources(before, after) == [("Relu_0",), ()]


def test_twins_compute_the_same_from_the_same():
    before = [
        Node("a", "Shape", ("x",), ("s1",)), Node("b", "Shape", ("x",), ("s2",)),
        Node("c", "Gather", ("s1",), ("g1",)), Node("d", "Gather", ("s2",), ("g2",)),
        Node("e", "Gather", ("s2",), ("g3",)),
    ]
    attributes = [b"-", b"-", b"axis 0", b"axis 0", b"axis 1"]
    twins = find_twins(before, attributes)
    assert twins == {"b": "a", "d": "c"}, "of the same attributes, and through other twins"
    assert without_twins(before, twins) == [
        before[0], before[2], Node("e", "Gather", ("s1",), ("g3",))
    ]


def test_random_nodes_have_no_twins():
    before = [Node("a", "RandomNormal", (), ("r",)), Node("b", "RandomNormal", (), ("q",))]
    assert find_twins(before, [b"", b""]) == {}
