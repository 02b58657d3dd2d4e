"""What a head means, and every way in which it can be wrong."""

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.frontend.stand import catalog_of, floats, request, variant, version_spec
from trtserve.errors import InvalidRequest, ModelNotFound, RequestError, Unavailable
from trtserve.frontend.template import (
    MAX_CACHED_HEAD_BYTES,
    MAX_CACHED_HEADS,
    MAX_TIMEOUT_NS,
    Template,
    Templates,
    make_template,
)
from trtserve.model.catalog import Catalog, Placement
from trtserve.model.spec import ModelState, QueuePolicy
from trtserve.model.tensor import encode
from trtserve.proto import grpc_service_pb2 as pb

TWO = version_spec(variant({"x": "FP32", "x1": "FP32"}, row=(4,)))


def head_of(message: Any) -> bytes:
    """The message without what the wire takes out."""
    head = pb.ModelInferRequest()
    head.CopyFrom(message)
    head.ClearField("id")
    head.ClearField("raw_input_contents")
    return head.SerializeToString()


def template(message: Any, catalog: Catalog | None = None) -> Template:
    return make_template(head_of(message), catalog or catalog_of(version_spec()))


def refusal(message: Any, catalog: Catalog | None = None) -> RequestError:
    with pytest.raises(RequestError) as caught:
        template(message, catalog)
    return caught.value


# --- what a good head means --------------------------------------------------------------


def test_a_request_is_routed_and_its_inputs_planned():
    found = template(request(floats(2, 6)))
    assert found.spec.model == "m"
    assert (found.route.rows, found.route.bucket, found.route.variant) == (2, ((6,),), 0)
    (plan,) = found.inputs
    assert (plan.name, plan.position, plan.datatype, plan.size) == ("x", 0, "FP32", 48)
    assert found.outputs == (0,)
    assert (found.timeout_ns, found.priority, found.receipt, found.contents) == (0, 0, False, None)


def test_inputs_may_come_in_any_order():
    message = request()
    message.inputs.add(name="x1", datatype="FP32", shape=[1, 4])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    found = template(message, catalog_of(TWO))
    assert [(plan.name, plan.position) for plan in found.inputs] == [("x1", 1), ("x", 0)]
    assert found.outputs == (0, 1)


def test_outputs_are_given_as_asked_for():
    message = request(floats(1, 4), floats(1, 4))
    message.outputs.add(name="y1")
    assert template(message, catalog_of(TWO)).outputs == (1,)
    message.outputs.add(name="y")
    assert template(message, catalog_of(TWO)).outputs == (1, 0)


# --- unknown models and versions ---------------------------------------------------------


def test_an_unknown_model_names_those_there_are():
    error = refusal(request(floats(1, 4), model="n"))
    assert isinstance(error, ModelNotFound)
    assert "no model 'n'" in str(error)
    assert "'m'" in str(error)


def test_an_unknown_version_names_those_there_are():
    error = refusal(request(floats(1, 4), model_version="3"))
    assert isinstance(error, ModelNotFound)
    assert "no version 3; it has 1" in str(error)


@pytest.mark.parametrize("version", ["one", "-1", "1.0", "٣", "9" * 5000])
def test_a_version_is_a_number(version):
    error = refusal(request(floats(1, 4), model_version=version))
    assert isinstance(error, InvalidRequest)
    assert "is not a number" in str(error)
    assert len(str(error)) < 100


def test_a_model_that_does_not_serve_says_why():
    catalog = Catalog().with_placement(
        "m", 1, None, Placement("w", ModelState.UNAVAILABLE, "the file is broken")
    )
    error = refusal(request(floats(1, 4)), catalog)
    assert isinstance(error, Unavailable)
    assert "the file is broken" in str(error)


# --- wrong tensors -----------------------------------------------------------------------


def with_input(name: str = "x", datatype: str = "FP32", shape: Any = (1, 4)) -> Any:
    message = request()
    message.inputs.add(name=name, datatype=datatype, shape=shape)
    return message


def twice_x() -> Any:
    message = with_input()
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    return message


def outputs(*names: str) -> Any:
    message = with_input()
    for name in names:
        message.outputs.add(name=name)
    return message


def parameter(name: str, on_output: bool = False) -> Any:
    message = outputs("y")
    tensor = message.outputs[0] if on_output else message.inputs[0]
    tensor.parameters[name].string_param = "r"
    return message


@pytest.mark.parametrize(("message", "came", "fits"), [
    (with_input("z"), "no input 'z'", "takes x FP32[-1, -1]"),
    (request(), "input 'x' is missing", "takes x FP32[-1, -1]"),
    (twice_x(), "input 'x' came twice", ""),
    (with_input(datatype="INT8"), "'x' came as INT8", "takes x FP32[-1, -1]"),
    (with_input(datatype="FP99"), "'x' came as FP99", "takes x FP32[-1, -1]"),
    (with_input(datatype=""), "'x' came as no datatype", "takes x FP32[-1, -1]"),
    (with_input(shape=(4,)), "x FP32[4]", "must have 2 dimensions; it takes x FP32[1..8, 1..]"),
    (with_input(shape=(9, 4)), "x FP32[9, 4]", "out of range; it takes x FP32[1..8, 1..]"),
    (with_input(shape=(0, 4)), "x FP32[0, 4]", "dimension 0 of x is out of range"),
    (with_input(shape=(1, 0)), "x FP32[1, 0]", "dimension 1 of x is out of range"),
    (with_input(shape=(1, -4)), "shape [1, -4] has a negative dimension", ""),
    (with_input(shape=[1] * 17), "shape has 17 dimensions", "at most 16"),
    (outputs("z"), "no output 'z'", "gives y FP32[-1, -1]"),
    (outputs("y", "y"), "output 'y' is asked for twice", ""),
    (parameter("shared_memory_region"), "input 'x' asks for shared memory regions",
     "tensors in the messages"),
    (parameter("shared_memory_region", True), "output 'y' asks for shared memory regions",
     "tensors in the messages"),
    (parameter("classification", True), "output 'y' asks for classification", ""),
])
def test_a_wrong_tensor_is_named_with_what_fits(message, came, fits):
    error = refusal(message)
    assert isinstance(error, InvalidRequest)
    assert came in str(error)
    assert fits in str(error)


def test_different_rows_are_refused():
    error = refusal(request(floats(1, 4), floats(2, 4)), catalog_of(TWO))
    assert isinstance(error, InvalidRequest)
    assert "all inputs must have the same number of rows" in str(error)


def test_a_missing_one_of_two_inputs_is_named():
    assert "input 'x1' is missing" in str(refusal(request(floats(1, 4)), catalog_of(TWO)))


def test_what_is_no_message_is_refused():
    with pytest.raises(InvalidRequest, match="not a ModelInferRequest"):
        make_template(b"\x0a\x05m", catalog_of(version_spec()))
    with pytest.raises(InvalidRequest, match="not a ModelInferRequest"):
        make_template(b"\x0a\x01\xff", catalog_of(version_spec()))  # a name that is not UTF-8


# --- parameters --------------------------------------------------------------------------


def with_parameters(**parameters: Any) -> Any:
    message = request(floats(1, 4))
    for name, (kind, value) in parameters.items():
        setattr(message.parameters[name], f"{kind}_param", value)
    return message


@pytest.mark.parametrize(("kind", "value", "timeout_ns"), [
    ("int64", 1500, 1_500_000),
    ("uint64", 1500, 1_500_000),
    ("string", "1500", 1_500_000),
    ("int64", 0, 0),
    ("int64", (1 << 63) - 1, MAX_TIMEOUT_NS),
])
def test_timeouts_are_in_microseconds(kind, value, timeout_ns):
    assert template(with_parameters(timeout=(kind, value))).timeout_ns == timeout_ns


@pytest.mark.parametrize(("kind", "value"), [
    ("int64", -1), ("string", "soon"), ("string", "1.5"), ("string", "٣"), ("string", ""),
    ("double", 5.0), ("bool", True), ("uint64", (1 << 64) - 1), ("string", "9" * 40),
])
@pytest.mark.parametrize("name", ["timeout", "priority"])
def test_numbers_that_are_none_are_refused(name, kind, value):
    error = refusal(with_parameters(**{name: (kind, value)}))
    assert isinstance(error, InvalidRequest)
    assert f"parameter '{name}' must be a whole number" in str(error)


def test_a_parameter_without_a_value_is_refused():
    message = request(floats(1, 4))
    message.parameters["timeout"].SetInParent()
    assert "whole number" in str(refusal(message))


@pytest.mark.parametrize(("queue", "asked_us", "timeout_us"), [
    (QueuePolicy(), None, 0),
    (QueuePolicy(), 700, 700),
    (QueuePolicy(default_timeout_us=500), None, 500),
    (QueuePolicy(default_timeout_us=500), 700, 700),
    (QueuePolicy(default_timeout_us=500), 0, 500),
    (QueuePolicy(default_timeout_us=500, allow_timeout_override=False), 700, 500),
    (QueuePolicy(allow_timeout_override=False), 700, 700),
])
def test_the_models_own_timeout(queue, asked_us, timeout_us):
    message = request(floats(1, 4)) if asked_us is None else with_parameters(
        timeout=("int64", asked_us)
    )
    found = template(message, catalog_of(version_spec(queue=queue)))
    assert found.timeout_ns == timeout_us * 1000


def test_priorities_fit_the_models_levels():
    levels = catalog_of(version_spec(queue=QueuePolicy(priority_levels=3, default_priority=2)))
    assert template(with_parameters(priority=("uint64", 3)), levels).priority == 3
    assert template(request(floats(1, 4)), levels).priority == 0
    error = refusal(with_parameters(priority=("uint64", 4)), levels)
    assert isinstance(error, InvalidRequest)
    assert "priority 4 came; this model has levels 1 to 3" in str(error)
    assert template(with_parameters(priority=("uint64", 4))).priority == 4  # no levels: no matter


def test_receipts_are_asked_for_with_a_boolean():
    assert template(with_parameters(receipt=("bool", True))).receipt
    assert not template(with_parameters(receipt=("bool", False))).receipt


def test_parameters_that_nobody_knows_are_passed_over():
    assert template(with_parameters(colour=("string", "blue"))).route.rows == 1


# --- typed contents ----------------------------------------------------------------------

TYPED: list[tuple[str, str, list[Any], Any]] = [
    ("BOOL", "bool_contents", [True, False], np.bool_),
    ("INT8", "int_contents", [-128, 127], np.int8),
    ("INT16", "int_contents", [-32768, 5], np.int16),
    ("INT32", "int_contents", [-(1 << 31), 5], np.int32),
    ("INT64", "int64_contents", [-(1 << 63), 5], np.int64),
    ("UINT8", "uint_contents", [0, 255], np.uint8),
    ("UINT16", "uint_contents", [0, 65535], np.uint16),
    ("UINT32", "uint_contents", [0, (1 << 32) - 1], np.uint32),
    ("UINT64", "uint64_contents", [0, (1 << 64) - 1], np.uint64),
    ("FP32", "fp32_contents", [1.5, -2.25], np.float32),
    ("FP64", "fp64_contents", [1e300, 0.1], np.float64),
    ("BYTES", "bytes_contents", [b"", b"a\xff"], np.object_),
]


def typed(datatype: str, contents: str, values: list[Any], shape: Any = (1, 2)) -> Any:
    message = with_input(datatype=datatype, shape=shape)
    message.inputs[0].contents.SetInParent()
    getattr(message.inputs[0].contents, contents).extend(values)
    return message


def of_type(datatype: str) -> Catalog:
    return catalog_of(version_spec(variant({"x": datatype})))


@pytest.mark.parametrize(("datatype", "contents", "values", "numpy"), TYPED)
def test_typed_contents_become_bytes(datatype, contents, values, numpy):
    found = template(typed(datatype, contents, values), of_type(datatype))
    assert found.contents == (encode(np.array(values, numpy)),)


@pytest.mark.parametrize(("datatype", "itemsize"), [
    *((datatype, np.dtype(numpy).itemsize if datatype != "BYTES" else 0)
      for datatype, _, _, numpy in TYPED),
    ("FP16", 2), ("BF16", ml_dtypes.bfloat16(0).itemsize),
])
def test_all_datatypes_come_raw(datatype, itemsize):
    found = template(with_input(datatype=datatype, shape=(2, 3)), of_type(datatype))
    assert found.inputs[0].size == (6 * itemsize or -1)
    assert found.contents is None


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_datatypes_that_must_be_raw(datatype):
    error = refusal(typed(datatype, "fp32_contents", [1, 2]), of_type(datatype))
    assert isinstance(error, InvalidRequest)
    assert f"{datatype}, which has no typed contents; send raw_input_contents" in str(error)


def test_contents_in_the_wrong_field_are_refused():
    error = refusal(typed("INT32", "int64_contents", [1, 2]), of_type("INT32"))
    assert isinstance(error, InvalidRequest)
    assert re.search("INT32.*belong in int_contents, not in int64_contents", str(error))


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0]])
def test_a_wrong_number_of_values_is_refused(values):
    error = refusal(typed("FP32", "fp32_contents", values))
    assert isinstance(error, InvalidRequest)
    assert f"holds {len(values)} elements; FP32[1, 2] needs 2" in str(error)


@pytest.mark.parametrize(("datatype", "contents", "value"), [
    ("INT8", "int_contents", 128), ("INT16", "int_contents", -32769),
    ("UINT8", "uint_contents", 256), ("UINT16", "uint_contents", 65536),
])
def test_values_beyond_the_datatype_are_refused(datatype, contents, value):
    error = refusal(typed(datatype, contents, [0, value]), of_type(datatype))
    assert isinstance(error, InvalidRequest)
    assert f"input 'x' does not fit {datatype}" in str(error)


def test_all_inputs_are_typed_or_none():
    message = typed("FP32", "fp32_contents", [1, 2, 3, 4], (1, 4))
    message.inputs.add(name="x1", datatype="FP32", shape=[1, 4])
    assert "input 'x1' holds 0 elements" in str(refusal(message, catalog_of(TWO)))


# --- the cache ---------------------------------------------------------------------------


def test_the_same_head_has_the_same_template_until_the_catalog_changes():
    templates = Templates()
    templates.use(catalog_of(version_spec()))
    head = head_of(request(floats(2, 6)))
    first = templates.find(head)
    assert templates.find(bytes(bytearray(head))) is first
    templates.use(catalog_of(version_spec()))
    assert templates.find(head) is not first


def test_errors_are_not_remembered():
    templates = Templates()
    head = head_of(request(floats(2, 6)))
    with pytest.raises(ModelNotFound):
        templates.find(head)
    templates.use(catalog_of(version_spec()))
    assert templates.find(head).route.rows == 2


def test_heads_that_hold_tensors_or_are_large_are_not_kept():
    templates = Templates()
    templates.use(catalog_of(version_spec()))
    head = head_of(typed("FP32", "fp32_contents", [1, 2]))
    assert templates.find(head) is not templates.find(head)
    large = with_parameters(note=("string", "x" * MAX_CACHED_HEAD_BYTES))
    assert templates.find(head_of(large)) is not templates.find(head_of(large))


def test_the_cache_forgets_the_oldest():
    templates = Templates()
    templates.use(catalog_of(version_spec()))
    heads = [head_of(request(floats(1, size))) for size in range(1, MAX_CACHED_HEADS + 2)]
    found = [templates.find(head) for head in heads]
    assert templates.find(heads[-1]) is found[-1]
    assert templates.find(heads[1]) is found[1]
    assert templates.find(heads[0]) is not found[0]


def test_the_response_head_describes_the_outputs_asked_for():
    message = request(floats(1, 4), floats(1, 4))
    message.outputs.add(name="y1")
    found = template(message, catalog_of(TWO))
    head = found.response_head(((1, 4),))
    assert pb.ModelInferResponse.FromString(head) == pb.ModelInferResponse(
        model_name="m", model_version="1",
        outputs=[pb.ModelInferResponse.InferOutputTensor(name="y1", datatype="FP32", shape=[1, 4])],
    )
    assert found.response_head(((1, 4),)) is head
    for size in range(100):  # shapes that depend on the data have no end; what is kept has
        found.response_head(((1, size),))
    assert len(found.heads) == 64
