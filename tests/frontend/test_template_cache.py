"""Which template a head gets: the one that is remembered, and the turns of versions by weight."""

import msgspec
import pytest

from tests.frontend.heads import head_of, typed, with_parameters
from tests.frontend.stand import catalog_of, floats, request, version_spec
from trtserve.errors import ModelNotFound, Unavailable
from trtserve.frontend.template import MAX_CACHED_HEAD_BYTES, MAX_CACHED_HEADS, Templates
from trtserve.model.catalog import Catalog
from trtserve.proto import grpc_service_pb2 as pb


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
    with pytest.raises(Unavailable):  # nobody has told of any model yet
        templates.find(head)
    templates.use(Catalog())
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


def split_catalog(*weights: int | None) -> Catalog:
    """Versions 1, 2 and so on of those weights, the first labelled `stable`."""
    specs = [
        msgspec.structs.replace(
            version_spec(version=number), weight=weight, labels=("stable",) * (number == 1)
        )
        for number, weight in enumerate(weights, 1)
    ]
    return catalog_of(*specs)


def versions_of(templates: Templates, head: bytes, times: int) -> list[int]:
    return [templates.find(head).spec.version for _ in range(times)]


def test_requests_without_a_version_take_turns_by_weight():
    templates = Templates()
    templates.use(split_catalog(3, 1, 0))
    one, other = head_of(request(floats(2, 6))), head_of(request(floats(1, 6)))
    # The turns are the model's: whatever the requests look like, the split is exact.
    taken = [templates.find(head).spec.version for head in (one, other, one, other) * 2]
    assert sorted(taken) == [1] * 6 + [2] * 2
    assert versions_of(templates, head_of(request(floats(2, 6), model_version="3")), 3) == [3] * 3
    assert versions_of(templates, head_of(request(floats(1, 6), model_version="stable")), 3) == [
        1, 1, 1
    ]


def test_a_split_keeps_one_template_for_each_version():
    templates = Templates()
    templates.use(split_catalog(1, 1))
    head = head_of(request(floats(2, 6)))
    first, second, third, fourth = (templates.find(head) for _ in range(4))
    assert first is third
    assert second is fourth
    assert first is not second
    heads = (template.response_head(((2, 6),)) for template in (first, second))
    assert [pb.ModelInferResponse.FromString(head).model_version for head in heads] == ["1", "2"]


def test_turns_go_on_when_the_catalog_changes():
    templates = Templates()
    catalog = split_catalog(9, 1)
    head = head_of(request(floats(2, 6)))
    taken = []
    for _ in range(10):
        templates.use(catalog.with_costs("w1", ()))
        taken.append(templates.find(head).spec.version)
    assert taken.count(2) == 1


def test_heads_of_split_models_are_forgotten_too():
    templates = Templates()
    templates.use(split_catalog(1))
    heads = [head_of(request(floats(1, size))) for size in range(1, MAX_CACHED_HEADS + 2)]
    found = [templates.find(head) for head in heads]
    assert templates.find(heads[-1]) is found[-1]
    assert templates.find(heads[0]) is not found[0]
