"""Heads to try templates with: good ones and wrong ones."""

from typing import Any

import pytest

from tests.frontend.stand import catalog_of, floats, request, variant, version_spec
from trtserve.errors import RequestError
from trtserve.frontend.template import Template, Templates
from trtserve.model.catalog import Catalog
from trtserve.proto import grpc_service_pb2 as pb

TWO = version_spec(variant({"x": "FP32", "x1": "FP32"}, row=(4,)))


def head_of(message: Any) -> bytes:
    """The message without what the wire takes out."""
    head = pb.ModelInferRequest()
    head.CopyFrom(message)
    head.ClearField("id")
    head.ClearField("raw_input_contents")
    return head.SerializeToString()


def make_template(head: bytes, catalog: Catalog) -> Template:
    """The first template of a head, under a catalog."""
    templates = Templates()
    templates.use(catalog)
    return templates.find(head)


def template(message: Any, catalog: Catalog | None = None) -> Template:
    return make_template(head_of(message), catalog or catalog_of(version_spec()))


def refusal(message: Any, catalog: Catalog | None = None) -> RequestError:
    with pytest.raises(RequestError) as caught:
        template(message, catalog)
    return caught.value


def with_input(name: str = "x", datatype: str = "FP32", shape: Any = (1, 4)) -> Any:
    message = request()
    message.inputs.add(name=name, datatype=datatype, shape=shape)
    return message


def with_parameters(**parameters: Any) -> Any:
    message = request(floats(1, 4))
    for name, (kind, value) in parameters.items():
        setattr(message.parameters[name], f"{kind}_param", value)
    return message


def typed(datatype: str, contents: str, values: list[Any], shape: Any = (1, 2)) -> Any:
    message = with_input(datatype=datatype, shape=shape)
    message.inputs[0].contents.SetInParent()
    getattr(message.inputs[0].contents, contents).extend(values)
    return message
