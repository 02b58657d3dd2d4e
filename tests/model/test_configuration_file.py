"""Reading the three formats: one message, and one line for each mistake."""

import json
from pathlib import Path

import pytest
from google.protobuf import text_format

from trtserve.errors import ConfigurationError
from trtserve.model.configuration_file import (
    Origin,
    field_lines,
    from_json_text,
    read_file,
)
from trtserve.model.layout import CONFIGURATION_NAMES
from trtserve.proto.model_config_pb2 import ModelConfig

PBTXT = """\
# Comments stand anywhere: { [ "
name: 'det'
max_batch_size: 8
input [
  { name: "x" data_type: TYPE_FP32 dims: [ 3, -1, -1 ] },
  { name: "y"
    data_type: TYPE_STRING
    dims: 1 dims: -1 }
]
output { name: "o" "ut" data_type: TYPE_BF16 dims: [1] }
dynamic_batching < max_queue_delay_microseconds: 100; priority_levels: 2,
  default_priority_level: 1 >
parameters { key: "a{" value { string_value: "line\\none" } }
parameters: { key: "b" value: { string_value: "2" } }
"""

YAML = """\
name: det
max_batch_size: 8
input:
  - {name: x, data_type: TYPE_FP32, dims: [3, -1, -1]}
  - name: 'y'
    dataType: TYPE_STRING
    dims:
      - 1
      - -1
output: [{name: out, data_type: TYPE_BF16, dims: [1]}]
dynamic_batching:
  max_queue_delay_microseconds: 100
  priority_levels: 2
  default_priority_level: 1
parameters:
  "a{": {string_value: "line\\none"}
  b: {string_value: "2"}
backend: null
"""

JSON = """{
\t"name": "det", "maxBatchSize": 8,
\t"input": [
\t\t{"name": "x", "data_type": "TYPE_FP32", "dims": [3, -1, -1]},
\t\t{"name": "y", "dataType": "TYPE_STRING", "dims": ["1", "-1"]}
\t],
\t"output": [{"name": "out", "data_type": 14, "dims": ["1"]}],
\t"dynamicBatching": {"maxQueueDelayMicroseconds": "100", "priorityLevels": 2,
\t\t"default_priority_level": 1},
\t"parameters": {"a{": {"string_value": "line\\none"}, "b": {"stringValue": "2"}}
}
"""


def write(folder: Path, text: str, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("name", "text"), list(zip(CONFIGURATION_NAMES, (PBTXT, YAML, JSON), strict=True))
)
def test_formats_give_the_same_message(tmp_path, name, text):
    expected = text_format.Parse(PBTXT, ModelConfig())
    message, origin = read_file(write(tmp_path, text, name))
    assert message == expected
    assert message.input[1].dims == [1, -1]
    assert origin.path == tmp_path / name


def test_no_file_is_an_empty_message(tmp_path):
    message, origin = read_file(tmp_path)
    assert message == ModelConfig()
    assert origin.where("input", 0) == ""


def test_two_files_are_refused(tmp_path):
    write(tmp_path, "", "config.pbtxt")
    write(tmp_path, "{}", "config.json")
    with pytest.raises(ConfigurationError, match=r"config.pbtxt and config.json .* Keep one"):
        read_file(tmp_path)


@pytest.mark.parametrize(("name", "text"), [
    ("config.pbtxt", "# nothing"), ("config.pbtxt", ""), ("config.yaml", ""),
    ("config.yaml", "---\n"), ("config.yaml", "{}"), ("config.json", "{}"),
    ("config.pbtxt", "\ufeff"),
])
def test_empty_files_say_nothing(tmp_path, name, text):
    assert read_file(write(tmp_path, text, name))[0] == ModelConfig()


WRONG = [
    # name, text, line, part of the problem, part of the cure
    ("config.pbtxt", "\nmax_batch_sise: 4", 2, 'no field named "max_batch_sise"',
     "Did you mean max_batch_size?"),
    ("config.pbtxt", "input {\n  name: 'x'\n  data_type: TYPE_FP33\n}", 3, "TYPE_FP33",
     "Did you mean TYPE_FP32?"),
    ("config.pbtxt", "input {\n  zzz: 1 }", 2, '"zzz"', "It has name, data_type, format"),
    ("config.pbtxt", "max_batch_size: 'many'", 1, "Couldn't parse integer", ""),
    ("config.pbtxt", "\n\ninput {", 3, "Expected", ""),
    ("config.pbtxt", "max_batch_size: 1\nmax_batch_size: 2", 2, "multiple", ""),
    ("config.pbtxt", "dynamic_batching {}\nsequence_batching {}", 2, "oneof", ""),
    ("config.yaml", "name: det\nmax_batch_sise: 4", 2, '"max_batch_sise"', "max_batch_size?"),
    ("config.yaml", "input:\n- name: x\n  data_type: TYPE_FP33", 3, "TYPE_FP33", "TYPE_FP32?"),
    ("config.yaml", "input:\n- name: x\n- name: y\n  dims: [1,\n    oops]", 5, "oops", ""),
    ("config.yaml", "name: 7", 1, "Expected string", ""),
    ("config.yaml", "name: on", 1, "Expected string", ""),
    ("config.yaml", "response_cache:\n  enable: maybe", 2, "true", ""),
    ("config.yaml", "max_batch_size: 1.5", 1, "1.5", ""),
    ("config.yaml", "max_batch_size: 99999999999", 1, "out of range", ""),
    ("config.yaml", "max_batch_size: [1,\n2]", 2, "multiple", ""),
    ("config.yaml", "max_batch_size:\n  a: 1", 1, "one value", "Write its value"),
    ("config.yaml", "dynamic_batching: 3", 1, "not a mapping", "Write its fields"),
    ("config.yaml", "input: [[{}]]", 1, "list inside a list", ""),
    ("config.yaml", "parameters:\n  a: 3", 2, "'value' is one value", ""),
    ("config.yaml", "parameters:\n- a", 1, "no mapping", ""),
    ("config.yaml", "name: a\n\nname: b", 3, "comes twice", "Keep one"),
    ("config.yaml", "maxBatchSize: 1\nmax_batch_size: 2", 2, "comes twice", "Keep one"),
    ("config.yaml", "name: a\n1: b", 2, "'1' is no name", ""),
    ("config.yaml", "max_batch_size: 2001-99-99", 1, "no value", "Quote it"),
    ("config.yaml", "name: [", 1, "not YAML", ""),
    ("config.yaml", "name: a\n\tname: b", 2, "not YAML", "indented with spaces"),
    ("config.yaml", "- a", 1, "no mapping", ""),
    ("config.yaml", "a: &a {b: *a}", 1, '"a"', ""),
    ("config.json", '{\n"name": "det",\n}', 3, "not JSON", ""),
    ("config.json", '{\n"max_batch_size": "4 }', 2, "not JSON", ""),
    ("config.json", '{\n\t"input": [\n\t\t{"nam": "x"}]}', 3, '"nam"', "Did you mean name?"),
    ("config.json", '{\n"max_batch_size": -4000000000}', 2, "out of range", ""),
]


@pytest.mark.parametrize(("name", "text", "line", "problem", "cure"), WRONG)
def test_mistakes_name_the_line(tmp_path, name, text, line, problem, cure):
    with pytest.raises(ConfigurationError) as caught:
        read_file(write(tmp_path, text, name))
    error = caught.value
    assert error.where == f"{tmp_path / name}:{line}"
    assert problem in error.problem
    assert cure in error.cure
    assert error.cure
    assert "\\1" not in error.problem  # the parser's quotation of a rewritten line is gone


def test_bytes_that_are_not_text_are_refused(tmp_path):
    (tmp_path / "config.pbtxt").write_bytes(b"name: '\xff'")
    with pytest.raises(ConfigurationError, match="not UTF-8 at byte 7"):
        read_file(tmp_path)


def test_a_link_that_leads_nowhere_is_not_passed_over(tmp_path):
    (tmp_path / "config.pbtxt").symlink_to(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path)


@pytest.mark.parametrize("text", ["naïve \u2603", "\U0001f600", 'quo"te\\', "tab\tnew\nline", ""])
@pytest.mark.parametrize("name", ["config.json", "config.yaml"])
def test_strings_survive_rewriting(tmp_path, name, text):
    document = json.dumps({"parameters": {text: {"string_value": text}}})  # JSON is YAML, too
    if name == "config.yaml":
        document = document.replace("\\ud83d\\ude00", text)  # YAML has no surrogates
    message, _ = read_file(write(tmp_path, document, name))
    assert message.parameters[text].string_value == text


def test_yaml_aliases_are_followed(tmp_path):
    text = "input:\n- &x {name: x, data_type: TYPE_FP32, dims: [1]}\noutput:\n- *x\nname: 3"
    with pytest.raises(ConfigurationError, match=r"config.yaml:5: Expected string"):
        read_file(write(tmp_path, text, "config.yaml"))
    message, _ = read_file(write(tmp_path, text.replace("name: 3", "name: n"), "config.yaml"))
    assert message.output[0].name == "x"


def test_lines_of_fields():
    lines = Origin(Path("f"), field_lines(PBTXT))
    assert lines.where("name") == "f:2"
    assert lines.where("input", 0, "dims", 1) == "f:5"
    assert lines.where("input", 1, "name") == "f:6"
    assert lines.where("input", 1, "data_type") == "f:7"
    assert lines.where("input", 1, "dims", 0) == "f:8"
    assert lines.where("output", 0, "dims") == "f:10"
    assert lines.where("dynamic_batching", "default_priority_level") == "f:12"
    assert lines.where("dynamic_batching", "preserve_ordering") == "f:11"
    assert lines.where("parameters", 1) == "f:14"
    assert lines.where("platform") == "f"
    assert lines.has("input", 1, "data_type")
    assert not lines.has("input", 1, "reshape")


def test_lines_of_yaml_fields_are_the_files_own(tmp_path):
    _, origin = read_file(write(tmp_path, YAML, "config.yaml"))
    file = tmp_path / "config.yaml"
    assert origin.where("max_batch_size") == f"{file}:2"
    assert origin.where("input", 1, "data_type") == f"{file}:6"
    assert origin.where("input", 1, "dims", 1) == f"{file}:9"
    assert origin.where("dynamic_batching", "priority_levels") == f"{file}:13"
    assert origin.where("parameters", 1) == f"{file}:17"


@pytest.mark.parametrize(("name", "text"), [
    ("config.yaml", "[" * 100_000), ("config.json", '{"a":' * 100_000),
    ("config.json", '{"max_batch_size": ' + "9" * 5000 + "}"),
], ids=["deep YAML", "deep JSON", "a long number"])
def test_what_is_beyond_the_parsers_is_an_error_like_any(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError, match="nested too deeply, or has a number"):
        read_file(tmp_path)
    if name == "config.json":
        with pytest.raises(ConfigurationError):
            from_json_text(text)
