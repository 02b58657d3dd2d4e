"""What a head means, and every way in which it can be wrong."""

from typing import Any

import pytest

from tests.frontend.heads import TWO, make_template, refusal, template, with_input, with_parameters
from tests.frontend.stand import catalog_of, floats, request, version_spec
from trtserve.errors import InvalidRequest, ModelNotFound, Unavailable
from trtserve.frontend.template import MAX_TIMEOUT_NS
from trtserve.model.catalog import Catalog, Placement
from trtserve.model.spec import ModelState, QueuePolicy
from trtserve.proto import grpc_service_pb2 as pb

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


@pytest.mark.parametrize("version", ["1st", "-1", "1.0", "٣", "9" * 5000])
def test_a_version_is_a_number(version):
    error = refusal(request(floats(1, 4), model_version=version))
    assert isinstance(error, InvalidRequest)
    assert "is not a number" in str(error)
    assert len(str(error)) < 110


def test_a_model_that_does_not_serve_says_why():
    catalog = Catalog().with_placement(
        "m", 1, None, Placement("w", ModelState.UNAVAILABLE, "the file is broken")
    )
    error = refusal(request(floats(1, 4)), catalog)
    assert isinstance(error, Unavailable)
    assert "the file is broken" in str(error)


# --- wrong tensors -----------------------------------------------------------------------


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
