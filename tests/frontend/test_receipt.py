"""The receipt: how a request went, in the response's parameters."""

from tests.frontend.heads import make_template
from tests.frontend.stand import catalog_of, floats, request, variant, version_spec
from trtserve.frontend.receipt import receipt_parameters
from trtserve.ipc.message import Timing
from trtserve.proto import grpc_service_pb2 as pb


def test_a_receipt_tells_where_the_time_went():
    message = request(floats(1, 4))
    del message.raw_input_contents[:]
    catalog = catalog_of(version_spec(variant(name="fp16.plan")))
    template = make_template(message.SerializeToString(), catalog)
    timing = Timing(2, 3, 7, 1_050_999, 1_000, 2_500, 3_000_000, 4_000)
    data = receipt_parameters(template, 1_000_000, timing)
    parameters = pb.ModelInferResponse.FromString(data).parameters
    found = {name: value.int64_param or value.string_param for name, value in parameters.items()}
    assert found == {
        "receipt_queue_us": 50,
        "receipt_batch_rows": 7,
        "receipt_batch_requests": 3,
        "receipt_lane": 2,
        "receipt_stage_us": 1,
        "receipt_h2d_us": 2,
        "receipt_compute_us": 3000,
        "receipt_d2h_us": 4,
        "receipt_variant": "fp16.plan",
    }
