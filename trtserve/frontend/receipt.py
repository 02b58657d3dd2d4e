"""The receipt of a request: how it went, in the response's parameters.

Asked for with the request parameter `receipt` (bool). Times in microseconds; those of stages
are the batch's.
"""

from trtserve.clock import NS_PER_US
from trtserve.frontend.template import Template
from trtserve.ipc.message import Timing
from trtserve.proto import grpc_service_pb2 as pb


def receipt_parameters(template: Template, arrived_ns: int, timing: Timing) -> bytes:
    """The serialized parameters of a ModelInferResponse."""
    numbers = {
        "receipt_queue_us": (timing.started_ns - arrived_ns) // NS_PER_US,
        "receipt_batch_rows": timing.rows,
        "receipt_batch_requests": timing.requests,
        "receipt_lane": timing.lane,
        "receipt_stage_us": timing.stage_ns // NS_PER_US,
        "receipt_h2d_us": timing.h2d_ns // NS_PER_US,
        "receipt_compute_us": timing.compute_ns // NS_PER_US,
        "receipt_d2h_us": timing.d2h_ns // NS_PER_US,
    }
    parameters = {name: pb.InferParameter(int64_param=value) for name, value in numbers.items()}
    variant = template.spec.variants[template.route.variant].name
    parameters["receipt_variant"] = pb.InferParameter(string_param=variant)
    return pb.ModelInferResponse(parameters=parameters).SerializeToString()
