import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from typer import Typer
from typer.testing import CliRunner

from trtserve.cli.check import check
from trtserve.cli.checking import Checker
from trtserve.device.host import HostDevice
from trtserve.engine.onnxruntime import OnnxRuntime
from trtserve.errors import ConfigurationError

app = Typer()
app.command()(check)


def add_model(root: Path, name: str, shape: list, op: str = "Identity", **attributes) -> Path:
    """A model of one operator on x FP32[shape]."""
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = root / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(model, path)
    return path


def run(root, *arguments):
    return CliRunner().invoke(app, [str(root), *arguments])


def described(root, *arguments):
    result = run(root, "--json", *arguments)
    # Standard error may have the progress on it; JSON is all there is on standard output.
    return result.exit_code, json.loads(result.stdout)


def test_a_good_repository_is_loaded_and_run(tmp_path):
    add_model(tmp_path, "fixed", [2, 3])
    add_model(tmp_path, "open", ["n", 3, "w"])
    code, checked = described(tmp_path)
    assert code == 0
    assert checked["ok"] is True
    assert checked["findings"] == []
    fixed, open_ = checked["versions"]
    assert (fixed["model"], fixed["version"], fixed["ok"]) == ("fixed", 1, True)
    assert fixed["variants"][0]["ran"] == ["[2, 3]"]
    assert open_["variants"][0]["ran"] == []
    assert open_["variants"][0]["takes"] == ["x FP32[1.., 3, 1..]"]


def test_labels_and_weights_are_shown(tmp_path):
    add_model(tmp_path, "named", [2, 3])
    parameter = 'parameters {{ key: "version_{}" value {{ string_value: "{}" }} }}\n'.format
    configuration = tmp_path / "named" / "config.pbtxt"
    configuration.write_text(parameter("labels", "stable=1") + parameter("weights", "1=5"))
    code, checked = described(tmp_path)
    assert code == 0, checked
    (version,) = checked["versions"]
    assert (version["labels"], version["weight"]) == (["stable"], 5)
    assert "stable (5)" in run(tmp_path).output
    configuration.write_text(parameter("labels", "canary=2"))
    code, checked = described(tmp_path)
    assert code == 1
    (finding,) = checked["findings"]
    assert "label 'canary' names version 2, which is not there" in finding["problem"]


def test_warm_up_shapes_of_the_configuration_are_run(tmp_path):
    add_model(tmp_path, "open", ["n", 3])
    (tmp_path / "open" / "config.pbtxt").write_text(
        "max_batch_size: 8 model_warmup { name: 'w' batch_size: 4 inputs { key: 'x' "
        "value { data_type: TYPE_FP32 dims: 3 zero_data: true } } }"
    )
    code, checked = described(tmp_path)
    assert code == 0, checked
    assert "[4, 3]" in checked["versions"][0]["variants"][0]["ran"]


def test_a_model_that_loads_and_does_not_run_is_an_error(tmp_path):
    # The wrong reshape is only seen when it runs.
    path = add_model(tmp_path, "unrunnable", [2, 3])
    graph = helper.make_graph(
        [
            helper.make_node("Shape", ["x"], ["s"]),
            helper.make_node("Add", ["s", "s"], ["twice"]),
            helper.make_node("Reshape", ["x", "twice"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, "n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path
    )
    (tmp_path / "unrunnable" / "config.pbtxt").write_text(
        "max_batch_size: 0 input { name: 'x' data_type: TYPE_FP32 dims: [2, 3] }"
    )
    code, checked = described(tmp_path)
    assert code == 1
    (version,) = checked["versions"]
    assert version["ok"] is False
    (finding,) = checked["findings"]
    assert finding["where"] == str(path)
    assert finding["problem"].startswith("loads, and does not run zeros of [2, 3]: ")
    assert finding["cure"]


def test_it_says_where_models_would_live(tmp_path):
    for name, group in (
        ("limited", "kind: KIND_CPU count: 2"), ("elsewhere", "kind: KIND_GPU"), ("plain", ""),
    ):
        add_model(tmp_path, name, [2, 3])
        (tmp_path / name / "config.pbtxt").write_text(f"instance_group {{ {group} }}")
    code, checked = described(tmp_path, "--devices", "cpu")
    assert code == 0, checked
    assert checked["devices"] == ["cpu"]
    assert {version["model"]: version["places"] for version in checked["versions"]} == {
        "elsewhere": [{"device": "cpu", "lanes": None}],
        "limited": [{"device": "cpu", "lanes": 2}],
        "plain": [{"device": "cpu", "lanes": None}],
    }
    (finding,) = checked["findings"]
    assert finding["severity"] == "warning"
    assert finding["where"] == f"{tmp_path}/elsewhere/config.pbtxt:1"
    assert "asks for a CUDA device" in finding["problem"]
    result = run(tmp_path, "--devices", "cpu")
    assert "devices cpu" in result.stdout
    assert "cpu (2 lanes)" in result.stdout


def test_places_are_those_of_the_daemons_devices(tmp_path):
    for name, group in (("both", "kind: KIND_CPU } instance_group { count: 1"), ("plain", "")):
        add_model(tmp_path, name, [2, 3])
        (tmp_path / name / "config.pbtxt").write_text(f"instance_group {{ {group} }}")
    checker = Checker((OnnxRuntime(),), HostDevice(), ("cpu", "cuda:0"), lambda _: None)
    both, plain = checker.check(tmp_path).versions
    assert both.ok
    assert [(place.device, place.lanes) for place in both.places] == [("cpu", None), ("cuda:0", 1)]
    assert [(place.device, place.lanes) for place in plain.places] == [("cuda:0", None)]


def test_devices_that_can_not_be_are_refused(tmp_path):
    result = run(tmp_path, "--devices", "gpu")
    assert isinstance(result.exception, ConfigurationError)
    assert "'gpu' is no device" in str(result.exception)


def test_one_broken_file_does_not_hide_the_others(tmp_path):
    add_model(tmp_path, "good", [1])
    broken = tmp_path / "broken" / "1" / "model.onnx"
    broken.parent.mkdir(parents=True)
    broken.write_text("no model")
    code, checked = described(tmp_path)
    assert code == 1
    assert [(v["model"], v["ok"]) for v in checked["versions"]] == [
        ("broken", False), ("good", True),
    ]
    (finding,) = checked["findings"]
    assert finding["severity"] == "error"
    assert finding["where"] == str(broken)


def test_a_configuration_that_does_not_fit_is_an_error_with_its_line(tmp_path):
    add_model(tmp_path, "m", [2, 3])
    (tmp_path / "m" / "config.pbtxt").write_text(
        "max_batch_size: 0\ninput {\n  name: 'z'\n  data_type: TYPE_FP32\n  dims: [2, 3]\n}\n"
    )
    code, checked = described(tmp_path)
    assert code == 1
    (finding,) = checked["findings"]
    assert finding["where"] == f"{tmp_path}/m/config.pbtxt:3"
    assert "no input 'z'" in finding["problem"]


def test_a_warning_alone_is_no_failure(tmp_path):
    path = add_model(tmp_path, "m", [1])
    (tmp_path / "loose.onnx").write_bytes(path.read_bytes())
    code, checked = described(tmp_path)
    assert code == 0
    assert [finding["severity"] for finding in checked["findings"]] == ["warning"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_repository_without_models_is_an_error(tmp_path, exists):
    code, checked = described(tmp_path if exists else tmp_path / "none")
    assert code == 1
    assert len(checked["findings"]) == 1


def test_the_tables_say_the_same(tmp_path):
    add_model(tmp_path, "m", [2, 3])
    result = run(tmp_path)
    assert result.exit_code == 0
    assert "Nothing is wrong." in result.stdout
    assert "[2, 3]" in result.stdout
    (tmp_path / "empty" / "1").mkdir(parents=True)
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "no engine file" in result.stdout
