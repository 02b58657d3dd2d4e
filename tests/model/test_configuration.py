"""A configuration as the rest of the daemon sees it: defaults, checks and warnings."""

from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor

from trtserve.errors import ConfigurationError
from trtserve.model.configuration import ModelConfiguration, read_configuration
from trtserve.model.spec import QueuePolicy, TensorSpec
from trtserve.model.unserved import UNSERVED
from trtserve.model.version_policy import VersionPolicy
from trtserve.proto.model_config_pb2 import ModelConfig


def configure(tmp_path: Path, text: str, name: str = "config.pbtxt") -> ModelConfiguration:
    folder = tmp_path / "det"
    folder.mkdir()
    (folder / name).write_text(text)
    return read_configuration(folder)


REAL = """\
name: "det"
platform: "onnxruntime_onnx"
backend: "onnxruntime"
max_batch_size: 16
input [
  {
    name: "images"
    data_type: TYPE_FP32
    format: FORMAT_NCHW
    dims: [ 3, -1, -1 ]
    allow_ragged_batch: true
  },
  { name: "scale" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } optional: true }
]
output [
  { name: "boxes" data_type: TYPE_FP32 dims: [ -1, 4 ] label_filename: "labels.txt" }
]
instance_group [
  { count: 2 kind: KIND_GPU gpus: [ 0, 1 ] rate_limiter { priority: 2 } },
  { count: 1 kind: KIND_CPU }
]
version_policy: { specific { versions: [ 3, 1 ] } }
dynamic_batching {
  preferred_batch_size: [ 8, 4 ]
  max_queue_delay_microseconds: 250
  preserve_ordering: true
  priority_levels: 3
  default_priority_level: 2
  default_queue_policy {
    timeout_action: DELAY
    default_timeout_microseconds: 50000
    allow_timeout_override: false
    max_queue_size: 64
  }
  priority_queue_policy { key: 1 value { max_queue_size: 8 } }
}
optimization {
  graph { level: 1 }
  cuda { graphs: true }
  execution_accelerators { gpu_execution_accelerator [ { name: "tensorrt" } ] }
  input_pinned_memory { enable: true }
}
parameters { key: "intra_op_thread_count" value { string_value: "2" } }
parameters { key: "a" value { string_value: "b" } }
model_warmup [
  {
    name: "small" batch_size: 4
    inputs { key: "scale" value { data_type: TYPE_FP32 dims: 1 zero_data: true } }
    inputs { key: "images" value: { data_type: TYPE_FP32 dims: [3, 320, 320] random_data: true } }
  },
  { name: "file"
    inputs { key: "images" value { dims: [3, 9, 9]
      input_data_file: "raw" } } }
]
response_cache { enable: true }
model_transaction_policy { decoupled: false }
metric_tags { key: "team" value: "ocr" }
"""


def test_a_real_configuration(tmp_path):
    configuration = configure(tmp_path, REAL)
    assert configuration.source == tmp_path / "det" / "config.pbtxt"
    assert configuration.max_batch_size == 16
    assert configuration.version_policy == VersionPolicy(specific=(1, 3))
    assert configuration.parameters == {"a": "b", "intra_op_thread_count": "2"}
    assert configuration.default_model_filename == ""
    assert configuration.queue == QueuePolicy(
        max_delay_us=250, preferred_batch_sizes=(4, 8), max_queue_size=64,
        default_timeout_us=50_000, allow_timeout_override=False, priority_levels=3,
        default_priority=2,
    )
    small, file = configuration.warmups
    assert (small.name, small.batch_size) == ("small", 4)
    assert small.inputs == (
        TensorSpec("images", "FP32", (3, 320, 320)), TensorSpec("scale", "FP32", (1,)),
    )
    assert file.batch_size == 1
    assert file.inputs == (TensorSpec("images", "", (3, 9, 9)),)


def test_a_real_configuration_names_what_is_not_served(tmp_path):
    configuration = configure(tmp_path, REAL)
    named = {
        warning.split("'")[1]: int(warning.split(":")[1]) for warning in configuration.warnings
    }
    assert named == {
        "input.allow_ragged_batch": 11,
        "input.reshape": 13,
        "input.optional": 13,
        "instance_group.rate_limiter": 19,
        "dynamic_batching.preserve_ordering": 26,
        "dynamic_batching.default_queue_policy.timeout_action": 30,
        "dynamic_batching.priority_queue_policy": 35,
        "optimization.graph": 38,
        "optimization.cuda": 39,
        "optimization.execution_accelerators": 40,
        "optimization.input_pinned_memory": 41,
        "model_warmup.inputs.input_data_file": 52,  # a map's entries share a line
        "response_cache.enable": 55,
        "metric_tags": 57,
    }
    assert all(item.severity == "warning" for item in configuration.findings)


def test_what_is_served_or_harmless_gives_no_warning(tmp_path):
    configuration = configure(tmp_path, """
        platform: "tensorrt_plan" backend: "tensorrt"
        input { name: "x" format: FORMAT_NHWC dims: 3 }
        output { name: "y" label_filename: "l" dims: 3 }
        instance_group { kind: KIND_GPU count: 4 gpus: 1 name: "a" }
        instance_group { kind: KIND_CPU } instance_group { kind: KIND_AUTO count: 0 }
        model_transaction_policy {} response_cache {}
        optimization { priority: PRIORITY_DEFAULT }
        dynamic_batching { default_queue_policy { timeout_action: REJECT } }
    """)
    assert configuration.warnings == ()


def test_no_file_means_defaults(tmp_path):
    configuration = read_configuration(tmp_path)
    assert configuration == ModelConfiguration()
    assert configuration.source is None
    assert configuration.max_batch_size is None
    assert configuration.queue == QueuePolicy()
    assert configuration.version_policy == VersionPolicy(latest=1)
    assert configuration.parameters == {}
    assert configuration.warmups == ()


def test_max_batch_size_0_is_not_the_same_as_absent(tmp_path):
    assert configure(tmp_path, "max_batch_size: 0").max_batch_size == 0


@pytest.mark.parametrize(("text", "policy"), [
    ("dynamic_batching {}", QueuePolicy()),
    ("dynamic_batching { max_queue_delay_microseconds: 0 }", QueuePolicy(max_delay_us=None)),
    ("dynamic_batching { max_queue_delay_microseconds: 7 }", QueuePolicy(max_delay_us=7)),
    ("dynamic_batching { default_queue_policy {} }", QueuePolicy(allow_timeout_override=False)),
    ("dynamic_batching { default_queue_policy { allow_timeout_override: true } }", QueuePolicy()),
])
def test_queue_policies(tmp_path, text, policy):
    assert configure(tmp_path, text).queue == policy


@pytest.mark.parametrize(("text", "policy"), [
    ("all {}", VersionPolicy(latest=0)),
    ("latest { num_versions: 3 }", VersionPolicy(latest=3)),
    ("specific { versions: [9, 2, 9] }", VersionPolicy(specific=(2, 9))),
    ("", VersionPolicy()),
])
def test_version_policies(tmp_path, text, policy):
    assert configure(tmp_path, f"version_policy {{ {text} }}").version_policy == policy


@pytest.mark.parametrize(("text", "line", "problem"), [
    ('\nname: "other"', 2, "name is 'other' and the model's folder is 'det'"),
    ("\n\nmax_batch_size: -1", 3, "-1 is negative"),
    ('default_model_filename: "../x.onnx"', 1, "no file name"),
    ('default_model_filename: ".."', 1, "no file name"),
    ("input {\n data_type: TYPE_FP32 }", 1, "no name"),
    ("output {\n name: 'y'\n}\noutput {\n name: 'y' }", 5, "'y' comes twice"),
    ("input {\n name: 'x'\n data_type: TYPE_INVALID }", 3, "TYPE_INVALID"),
    ("input {\n name: 'x'\n dims: [1,\n-2] }", 4, "dimension -2"),
    ("output {\n name: 'x'\n dims: 0 }", 3, "dimension 0"),
    ("instance_group { kind: KIND_GPU }\ninstance_group { count: -1 }", 2, "count -1 is negative"),
    ("instance_group {\n gpus: [ 0,\n -3 ] }", 3, "-3 is no GPU"),
    ("instance_group {\n kind: KIND_CPU\n gpus: 0 }", 3, "KIND_CPU names gpus"),
    ("version_policy { latest {} }", 1, "latest 0 versions"),
    ("version_policy { specific {} }", 1, "names no versions"),
    ("version_policy { specific { versions: [1, 0] } }", 1, "0 is no version"),
    ("dynamic_batching {\n priority_levels: 2\n default_priority_level: 3 }", 3, "3 is above"),
    ("dynamic_batching { default_priority_level: 1 }", 1, "1 is above priority_levels 0"),
    ("dynamic_batching { priority_levels: 2 }", 1, "without default_priority_level"),
    ("dynamic_batching { preferred_batch_size: [4, 0] }", 1, "batch size 0"),
    ("max_batch_size: 4\ndynamic_batching {\n preferred_batch_size: [4, 8] }", 3,
     "batch size 8 is above max_batch_size 4"),
    ("max_batch_size: 0\nmodel_warmup { batch_size: 2 }", 2, "above max_batch_size 0"),
    ("model_warmup { inputs { key: 'x'\n value { dims: [-1] } } }", 1, "dimension -1"),
])
def test_wrong_values_name_the_line(tmp_path, text, line, problem):
    with pytest.raises(ConfigurationError) as caught:
        configure(tmp_path, text)
    assert caught.value.where == f"{tmp_path}/det/config.pbtxt:{line}"
    assert problem in caught.value.problem
    assert caught.value.cure


def test_wrong_values_name_the_line_in_yaml_too(tmp_path):
    text = "max_batch_size: 2\ninput:\n- name: x\n  dims: [4]\n- name: y\n  dims:\n  - 1\n  - -3\n"
    with pytest.raises(ConfigurationError, match=r"config.yaml:8: input 'y' has dimension -3"):
        configure(tmp_path, text, "config.yaml")


@pytest.mark.parametrize("text", [
    "max_batch_size: 0 model_warmup { batch_size: 1 }",
    "max_batch_size: 4 dynamic_batching { preferred_batch_size: 4 }",
    "dynamic_batching { preferred_batch_size: 400 }",
    "dynamic_batching { priority_levels: 2 default_priority_level: 2 }",
    "input { name: 'x' } output { name: 'x' }",
])
def test_values_at_the_edge_are_taken(tmp_path, text):
    assert configure(tmp_path, text).source is not None


POLICY_CASES = [
    (VersionPolicy(), (), ()),
    (VersionPolicy(), (1,), (1,)),
    (VersionPolicy(), (2, 10, 9), (10,)),
    (VersionPolicy(latest=2), (2, 10, 9), (9, 10)),
    (VersionPolicy(latest=9), (2, 10, 9), (2, 9, 10)),
    (VersionPolicy(latest=0), (3, 1, 2), (1, 2, 3)),
    (VersionPolicy(latest=0), (), ()),
    (VersionPolicy(specific=(1, 3)), (1, 2, 3), (1, 3)),
    (VersionPolicy(specific=(1, 7)), (1, 2), (1, 7)),
]


@pytest.mark.parametrize(("policy", "available", "chosen"), POLICY_CASES)
def test_version_policy_chooses(policy, available, chosen):
    assert policy.choose(available) == chosen


@pytest.mark.parametrize("available", [(), (4,), (1, 2, 3), (12, 5, 100, 7)])
@pytest.mark.parametrize("latest", range(6))
def test_latest_chooses_the_highest_numbers(available, latest):
    chosen = VersionPolicy(latest=latest).choose(available)
    rest = set(available) - set(chosen)
    assert list(chosen) == sorted(set(chosen) & set(available))
    assert len(chosen) == (min(latest, len(available)) or len(available))
    assert all(left < min(chosen) for left in rest)


SERVED = {
    "default_model_filename", "dynamic_batching.default_priority_level",
    "dynamic_batching.default_queue_policy.allow_timeout_override",
    "dynamic_batching.default_queue_policy.default_timeout_microseconds",
    "dynamic_batching.default_queue_policy.max_queue_size",
    "dynamic_batching.max_queue_delay_microseconds", "dynamic_batching.preferred_batch_size",
    "dynamic_batching.priority_levels", "input.data_type", "input.dims", "input.name",
    "instance_group.count", "instance_group.gpus", "instance_group.kind",
    "max_batch_size", "model_warmup.batch_size", "model_warmup.inputs.data_type",
    "model_warmup.inputs.dims", "model_warmup.inputs.random_data",
    "model_warmup.inputs.zero_data", "model_warmup.name", "name", "output.data_type",
    "output.dims", "output.name", "parameters.string_value", "version_policy.latest.num_versions",
    "version_policy.specific.versions",
}
HARMLESS = {
    "backend", "platform", "input.format", "instance_group.name", "output.label_filename",
}


def leaves(schema, prefix=""):
    """Every field of the schema that holds a value, or that the table names as a whole."""
    for field in schema.fields:
        name = f"{prefix}{field.name}"
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            inner = inner.fields_by_name["value"].message_type
        if name in UNSERVED or inner is None:
            assert field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE or inner or name in UNSERVED
            yield name
        else:
            yield from leaves(inner, f"{name}.")


def test_every_field_of_the_schema_is_served_harmless_or_warned_about():
    assert sorted(leaves(ModelConfig.DESCRIPTOR)) == sorted(SERVED | HARMLESS | set(UNSERVED))
