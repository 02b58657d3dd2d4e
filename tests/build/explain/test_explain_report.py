from pathlib import Path

import pytest

from tests.build.explain.plans import FULL, but, engine, profile
from trtserve.build.explain.compare import compare
from trtserve.build.explain.explanation import (
    LayerInfo,
    Node,
    count,
    pattern,
    size_text,
    timed,
)
from trtserve.build.explain.plan import explain_manifest
from trtserve.build.explain.report import (
    comparison_line,
    comparison_tables,
    share_text,
    summary,
    tables,
)

PLAN = Path("m.plan")


def table(explanation, title):
    (found,) = (one for one in tables(explanation) if one.title == title)
    return found


def test_the_tables_of_a_plan_with_a_report():
    explanation = explain_manifest(FULL, PLAN)
    assert [one.title for one in tables(explanation)] == [
        "Made with and for", "Profiles", "Layers that run", "Fusions", "Good to know"
    ]
    assert table(explanation, "Profiles").rows == (
        ("0", "x", "1x3x224x224", "8x3x224x224", "32x3x224x224", "3.0 MiB"),
    )
    layers = table(explanation, "Layers that run")
    assert layers.columns == (
        "", "layer", "kind", "made of", "tactic", "precision", "reads", "writes"
    ), "without provider and time, which are not known"
    assert [row[3] for row in layers.rows] == ["added", "/conv1/Conv, /relu1/Relu", ""]
    assert layers.rows[0][6:] == (
        "Row major linear FP32 [8, 64, 56, 56]",
        "Channel major FP16 format where channel % 8 == 0 [8, 64, 56, 56]",
    )
    assert table(explanation, "Fusions").rows == (
        ("1", "Convolution + Activation → CaskConvolution"),
    )


def test_the_totals_in_sentences():
    assert summary(explain_manifest(FULL, PLAN)) == [
        "4 nodes (and 1 constant) became 3 layers.",
        "Fusions: 2 nodes went into 1 layer.",
        "Gone: 1 node; computed ahead, done once for several, or not needed.",
        "Added: 1 Reformat.",
        "Changes of layout, datatype or place: 1.",
        "Precision of layers: 3 FP16.",
        "Scratch memory: 3.0 MiB on each lane, the largest of all profiles; apart they would need "
        "3.0 MiB.",
    ]


def test_scratch_memory_is_the_largest_and_not_the_sum():
    manifest = but(profiles=(profile(), profile()), engine=engine(scratch=(1 << 20, 3 << 20)))
    assert summary(explain_manifest(manifest, PLAN))[-1].startswith(
        "Scratch memory: 3.0 MiB on each lane, the largest of all profiles; apart they would need "
        "4.0 MiB"
    )


def test_without_a_report_it_is_the_network_that_is_shown():
    explanation = explain_manifest(but(engine=None), PLAN)
    network = table(explanation, "The network before building")
    assert network.rows[0] == (
        "0", "/conv1/Conv", "Convolution", "FP16", "[-1, 64, 112, 112]", "x, w"
    )
    assert summary(explanation) == [
        "Before building: 4 nodes (and 1 constant). They give 3 FP16, 1 INT64."
    ]


def test_a_comparison_is_two_tables_and_a_sentence():
    this = explain_manifest(FULL, Path("a.plan"))
    alike = compare(this, this)
    assert comparison_tables(alike) == []
    assert comparison_line(alike) == "a.plan against a.plan: 0 differences; 2 layers alike, 0 not."
    other = explain_manifest(but(engine=engine("/conv1/Conv")), Path("b.plan"))
    found = compare(this, other)
    assert [one.title for one in comparison_tables(found)] == ["Differences", "Layers that differ"]
    assert comparison_line(found).startswith("a.plan against b.plan: ")
    assert comparison_line(found).endswith("0 layers alike, 3 not.")


def chain(*kinds):
    return [Node(f"n{at}", kind) for at, kind in enumerate(kinds)]


@pytest.mark.parametrize(("kinds", "wanted"), [
    (("Conv", "Relu"), "Conv + Relu → Fused"),
    (("Cast", "Cast", "Cast", "Concat"), "3 Cast + Concat → Fused"),
    (("Add",) * 20, "20 Add → Fused"),
    (("Add", "Mul") * 6, "12 of Add, Mul → Fused"),
    (tuple(f"Op{at}" for at in range(11)),
     "11 of Op0, Op1, Op2, Op3, Op4, Op5, Op6, Op7, Op8, Op9, ... → Fused"),
])
def test_kinds_of_fusions_read_alike_for_alike_layers(kinds, wanted):
    nodes = chain(*kinds)
    layer = LayerInfo(name="f", kind="Fused", fused=tuple(node.name for node in nodes))
    assert pattern(layer, {node.name: node.kind for node in nodes}) == wanted


def test_counts_are_ranked():
    layers = [LayerInfo(name=str(at), kind="K", precision=precision)
              for at, precision in enumerate(("FP32", "FP16", "FP16", "", "INT8"))]
    assert list(count(chain("A"), layers).precision.items()) == [
        ("FP16", 2), ("FP32", 1), ("INT8", 1), ("unknown", 1)
    ]


def test_times_of_nothing_are_no_shares():
    layers = [LayerInfo(name="a", kind="K")]
    assert timed(layers, {"a": 0.0})[0].time_share is None
    assert share_text(layers[0]) == ""
    assert share_text(timed(layers, {"a": 1.0, "b": 7.0})[0]) == "12.5 %"


@pytest.mark.parametrize(("size", "text"), [
    (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 << 19, "1.5 MiB"), (5 << 30, "5.0 GiB"),
    (3 << 40, "3072.0 GiB"),
])
def test_sizes_as_people_read_them(size, text):
    assert size_text(size) == text
