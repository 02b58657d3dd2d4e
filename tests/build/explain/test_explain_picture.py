import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from tests.build.explain.plans import FULL, but, engine
from tests.build.explain.reports import conv_10
from trtserve.build.explain.compare import compare
from trtserve.build.explain.explanation import Explanation, LayerInfo, Node, Port, count
from trtserve.build.explain.page import page
from trtserve.build.explain.picture import lanes, picture, place
from trtserve.build.explain.plan import explain_manifest

PLAN = Path("m.plan")


def explained(before, after, gone=()):
    return Explanation(
        name="n", file="f", kind="onnx", facts={"opset": "17"}, before=tuple(before),
        after=None if after is None else tuple(after), gone=gone,
        totals=count(before, after),
    )


def layer(name, *fused, takes=(), gives=(), **more):
    return LayerInfo(name=name, kind="K", fused=fused, inputs=tuple(map(Port, takes)),
                     outputs=tuple(map(Port, gives)), **more)


def parsed(document: str) -> Any:
    return ElementTree.fromstring(document)


BEFORE = (
    Node("conv", "Conv", ("x",), ("c",)), Node("unused", "Shape", ("x",), ("s",)),
    Node("relu", "Relu", ("c",), ("r",)), Node("add", "Add", ("r", "x"), ("y",)),
)
AFTER = (
    layer("fused", "conv", "relu", takes=["x"], gives=["r"]),
    layer("reorder", takes=["r"], gives=["q"], reformat=True),
    layer("add", "add", takes=["q", "r"], gives=["y"]),
)


def test_a_layer_is_as_tall_as_the_nodes_that_it_took_in():
    placed = place(explained(BEFORE, AFTER))
    assert [(box.text, box.top, box.bottom) for box in placed.right] == [
        ("K fused", 0, 2), ("K reorder", 2, 3), ("K add", 3, 4)
    ]
    assert [(box.text, box.top, box.style) for box in placed.left] == [
        ("Conv conv", 0, "node"), ("Relu relu", 1, "node"), ("Add add", 3, "node"),
        ("Shape unused", 4, "gone"),
    ]
    assert placed.joined == ((0, 0), (1, 0), (2, 2))
    assert placed.lines == 5
    assert [box.style for box in placed.right] == ["fused", "moved", "node"]


def test_edges_lead_from_whoever_gives_a_tensor_to_whoever_takes_it():
    placed = place(explained(BEFORE, AFTER))
    assert placed.left_arcs == ((0, 1), (1, 2))
    assert placed.right_arcs == ((0, 1), (1, 2), (0, 2))


def test_a_name_that_is_given_twice_means_the_last():
    placed = place(explained((), (
        layer("a", gives=["t"]), layer("b", takes=["t"], gives=["t"]), layer("c", takes=["t"]),
    )))
    assert placed.right_arcs == ((0, 1), (1, 2))


def test_a_node_of_two_layers_is_drawn_once():
    placed = place(explained(BEFORE, (layer("a", "conv"), layer("b", "conv", "relu"))))
    assert [box.text for box in placed.left][:2] == ["Conv conv", "Relu relu"]
    assert placed.joined == ((0, 0), (1, 1))


def test_without_layers_there_is_the_network_alone():
    placed = place(explained(BEFORE, None))
    assert placed.right == ()
    assert {box.style for box in placed.left} == {"node"}
    assert picture(explained((), None)) == ""


def test_arcs_in_one_lane_do_not_overlap():
    found = lanes([(0, 100), (10, 20), (20, 30), (15, 40), (120, 130), (0, 100)])
    assert found[0, 100] == 0
    assert found[10, 20] == found[20, 30] == 1
    assert found[15, 40] == 2
    assert found[120, 130] == 0


def test_the_picture_is_well_formed_and_holds_every_name():
    drawn = picture(explained(
        [Node("<script>\x1f", "A&B", (), ("t",)), *BEFORE],
        [layer("l\x1em", "<script>\x1f", time_share=0.5, tactic="t<1>"), *AFTER],
    ))
    root = parsed(drawn)
    texts = [element.text for element in root.iter("text")]
    assert "A&B <script> " in texts
    assert "50.0 % K l m" in texts
    assert len(root.findall(".//path[@class='joint']")) == 4
    assert root.find(".//rect[@class='share']").get("width") == "215", "half of the box"
    titles = "".join(element.text for element in root.iter("title"))
    assert "tactic: t<1>" in titles
    assert "made of: conv, relu" in titles


def test_an_arc_passes_what_lies_between():
    root = parsed(picture(explained(BEFORE, AFTER)))
    arcs = [path.get("d") for path in root.findall(".//path[@class='arc']")]
    # On the right from the first layer to the last; on the left a straight line through the gap.
    assert sum("h" in arc for arc in arcs) == 1
    assert sum("h" not in arc for arc in arcs) == 1


def test_long_names_are_cut_and_whole_in_the_details():
    name = "n" * 100
    root = parsed(picture(explained([Node(name, "K")], None)))
    (text,) = root.iter("text")
    assert len(text.text) == 62
    assert text.text.endswith("…")
    assert name in root.find(".//title").text


@pytest.fixture
def document():
    explanation = explain_manifest(but(engine=engine(conv_10("a + <b>"))), PLAN)
    other = msgspec.structs.replace(explanation, name="other<1>", file="other")
    return page([explanation, other], [compare(explain_manifest(FULL, PLAN), explanation)])


def test_the_page_needs_nothing_from_elsewhere(document):
    assert "<script" not in document
    assert not re.search(r"(?:src|href|@import|url)\s*[=(]", document)
    assert "prefers-color-scheme: dark" in document
    assert "color-scheme: light dark" in document


def test_the_page_escapes_what_comes_from_outside(document):
    assert "<b>" not in document
    assert "a + &lt;b&gt;" in document
    assert "other&lt;1&gt;" in document


def test_the_page_has_everything_and_its_tags_are_closed(document):
    whole = re.sub(r"<!doctype html>|<meta [^>]*>", "", document).replace("<br>", "<br/>")
    root = parsed(whole)
    headings = [element.text for element in root.iter("h1")]
    assert headings == ["Comparison", "m.plan", "other<1>"]
    assert len(list(root.iter("svg"))) == 2
    titles = {element.text for element in root.iter("h2")}
    assert {"Differences", "Layers that differ", "Before and after", "Layers that run"} <= titles


def test_long_tables_are_folded_up():
    nodes = [Node(str(at), "K") for at in range(50)]
    assert "<details><summary>50 rows</summary>" in page([explained(nodes, None)])
