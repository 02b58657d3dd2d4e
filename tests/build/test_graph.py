import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.build.graphs import CLASSIFIER, DETECTOR, make, relu, weights
from trtserve.build.graph import graph_of, read_graph
from trtserve.errors import ModelLoadError


def test_a_real_model_is_read():
    graph = read_graph(DETECTOR)
    (x,), (y,) = graph.inputs, graph.outputs
    assert (x.name, x.datatype, x.dims[1]) == ("x", "FP32", 3)
    assert y.dims[1] == 1
    assert all(isinstance(dim, str) for dim in (x.dims[0], x.dims[2], x.dims[3]))
    assert graph.opset == 12
    assert graph.ops["Conv"] == 62
    assert graph.bytes == DETECTOR.stat().st_size
    assert graph.sha256 == hashlib.sha256(DETECTOR.read_bytes()).hexdigest()
    assert not graph.quantized
    assert len(graph.model.graph.node) == 672


def test_a_size_of_minus_one_is_no_size():
    assert read_graph(CLASSIFIER).inputs[0].dims == (None, 3, "?", "?")
    assert str(read_graph(CLASSIFIER).inputs[0]) == "x FP32[?, 3, ?, ?]"


@pytest.mark.parametrize("datatype", ["FP32", "FP16", "BF16", "FP64", "INT64", "UINT8", "BYTES"])
def test_datatypes_have_the_names_of_the_protocol(tmp_path, datatype):
    graph = make(
        tmp_path / "m.onnx", [("Identity", "x", "y")],
        {"x": (datatype, ("N", 2))}, {"y": (datatype, ("N", 2))},
    )
    assert graph.inputs[0].datatype == graph.outputs[0].datatype == datatype


def test_weights_among_the_inputs_of_old_files_are_no_inputs(tmp_path):
    path = tmp_path / "m.onnx"
    make(path, [("MatMul", "x w", "y")], {"x": ("FP32", ("N", 4))}, {"y": ("FP32", ("N", 2))},
         {"w": weights(4, 2)})
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 2]))
    onnx.save(model, path)
    assert [one.name for one in read_graph(path).inputs] == ["x"]


def test_operators_of_inner_graphs_and_other_domains_are_counted(tmp_path):
    def branch(name, operator):
        return helper.make_graph(
            [helper.make_node(operator, ["x"], [name])], name, [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4])],
        )

    path = tmp_path / "m.onnx"
    save_nodes = [
        helper.make_node("If", ["c"], ["z"], then_branch=branch("t", "Abs"),
                         else_branch=branch("e", "Neg")),
        helper.make_node("Mine", ["z"], ["y"], domain="mine"),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4]),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])]
    graph = helper.make_graph(save_nodes, "m", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    assert read_graph(path).ops == {"If": 1, "Abs": 1, "Neg": 1, "mine::Mine": 1}


def test_an_input_without_a_shape_is_not_ranked(tmp_path):
    path = tmp_path / "m.onnx"
    relu(path, ("N", 4))
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    (x,) = read_graph(path).inputs
    assert not x.ranked
    assert str(x) == "x FP32[...]"


def test_a_list_of_tensors_is_no_tensor(tmp_path):
    path = tmp_path / "m.onnx"
    relu(path, ("N", 4))
    model = onnx.load(path)
    model.graph.input[0].CopyFrom(
        helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, ["N", 4])
    )
    onnx.save(model, path)
    assert read_graph(path).inputs[0].datatype == "SEQUENCE"


def test_quantized_graphs_are_known(tmp_path):
    graph = make(
        tmp_path / "m.onnx",
        [("QuantizeLinear", "x scale zero", "q"), ("DequantizeLinear", "q scale zero", "y")],
        {"x": ("FP32", ("N", 4))}, {"y": ("FP32", ("N", 4))},
        {"scale": np.array(0.1, np.float32), "zero": np.array(0, np.int8)},
    )
    assert graph.quantized


def with_external_data(folder):
    path = folder / "m.onnx"
    make(path, [("MatMul", "x w", "y")], {"x": ("FP32", ("N", 64))}, {"y": ("FP32", ("N", 64))},
         {"w": weights(64, 64)})
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data",
              size_threshold=0)
    return path


def test_external_data_is_read_late_and_hashed(tmp_path):
    path = with_external_data(tmp_path)
    graph = read_graph(path)
    data = tmp_path / "m.data"
    assert graph.external == (data,)
    assert graph.bytes == path.stat().st_size + data.stat().st_size
    assert len(graph.model.graph.initializer[0].raw_data) == 64 * 64 * 4
    changed = bytearray(data.read_bytes())
    changed[100] ^= 1
    data.write_bytes(changed)
    assert read_graph(path).sha256 != graph.sha256


def test_bytes_that_move_between_files_change_the_hash(tmp_path):
    path = with_external_data(tmp_path)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer.append(onnx.TensorProto())
    for tensor, name in zip(model.graph.initializer, ("a.data", "b.data"), strict=True):
        tensor.CopyFrom(model.graph.initializer[0])
        tensor.name = name
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=name)
    onnx.save(model, path)
    hashes = set()
    for a, b in ((b"12", b"3"), (b"1", b"23")):
        (tmp_path / "a.data").write_bytes(a)
        (tmp_path / "b.data").write_bytes(b)
        hashes.add(read_graph(path).sha256)
    assert len(hashes) == 2


def test_missing_external_data_is_named(tmp_path):
    path = with_external_data(tmp_path)
    (tmp_path / "m.data").unlink()
    with pytest.raises(ModelLoadError, match=r"external data missing: .*'m\.data'.*beside"):
        read_graph(path)


def test_external_data_that_is_cut_off_is_named(tmp_path):
    path = with_external_data(tmp_path)
    (tmp_path / "m.data").write_bytes(b"short")
    with pytest.raises(ModelLoadError, match=r"'m\.data' has 5 bytes and .* end at 16384"):
        read_graph(path)


@pytest.mark.parametrize("location", ["../m.data", "/etc/passwd", ""])
def test_external_data_elsewhere_is_refused(tmp_path, location):
    path = with_external_data(tmp_path)
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    onnx.save(model, path)
    with pytest.raises(ModelLoadError, match="outside of its folder"):
        read_graph(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "the file is empty"), (b"PK\3\4 not a model", "not an ONNX model"),
     (b"\x08\x08", "not an ONNX model")],
)
def test_what_is_not_onnx_is_refused(tmp_path, content, problem):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=problem) as caught:
        read_graph(path)
    assert caught.value.where == str(path)
    assert caught.value.cure


def test_a_file_that_was_cut_off_is_refused(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(CLASSIFIER.read_bytes()[:-1000])
    with pytest.raises(ModelLoadError, match="only a part of one"):
        read_graph(path)


def test_no_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ModelLoadError, match="no such file"):
        read_graph(tmp_path / "m.onnx")
    with pytest.raises(ModelLoadError, match="a folder"):
        read_graph(tmp_path)


def test_a_graph_in_memory_has_the_hash_of_its_bytes(tmp_path):
    graph = relu(tmp_path / "m.onnx", ("N", 4))
    again = graph_of(graph.model, Path("other.onnx"))
    assert not again.in_file
    assert graph.in_file
    assert (again.inputs, again.ops) == (graph.inputs, graph.ops)
    model = onnx.load(graph.path)
    model.graph.node[0].op_type = "Abs"
    assert graph_of(model, graph.path).sha256 != again.sha256
    assert graph_of(graph.model, graph.path).sha256 == again.sha256


def test_an_input_is_found_by_name(tmp_path):
    graph = relu(tmp_path / "m.onnx", ("N", 4))
    assert graph.input("x") is graph.inputs[0]
    with pytest.raises(KeyError, match="z"):
        graph.input("z")
