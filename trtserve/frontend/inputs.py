"""The inputs' bytes of a request, where they lie in its message."""

from trtserve.errors import InvalidRequest
from trtserve.frontend import wire
from trtserve.frontend.template import Template
from trtserve.model.tensor import check_size


def input_bytes(
    data: bytes, template: Template, raws: list[wire.Span]
) -> list[memoryview | bytes]:
    """The inputs' bytes in the spec's order, checked against the template."""
    plans = template.inputs
    tensors: list[memoryview | bytes] = [b""] * len(plans)
    if template.contents is not None:
        if raws:
            raise InvalidRequest("inputs come either in raw_input_contents or typed, not both")
        for plan, content in zip(plans, template.contents, strict=True):
            tensors[plan.position] = content
        return tensors
    if len(raws) != len(plans):
        raise InvalidRequest(
            f"{len(raws)} raw_input_contents came for {len(plans)} inputs; "
            f"each input needs one, in their order"
        )
    view = memoryview(data)
    for plan, (start, end) in zip(plans, raws, strict=True):
        if end - start != plan.size:
            check_size(plan.name, plan.datatype, plan.shape, view[start:end])
        tensors[plan.position] = view[start:end]
    return tensors
