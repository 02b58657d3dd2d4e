"""Made from protos/trtserve.proto by `make proto`: do not edit."""

# The source's sha256 7b48dce5260adc12e53da03779f1a17c41c680bf21685e465ab3ecdad3067e40

import trtserve.proto.grpc_service_pb2  # noqa: F401
from trtserve.proto.pool import register

globals().update(register(
    b'\n\x0etrtserve.proto\x12\x0btrtserve.v1\x1a\x12grpc_service.proto"M\n\x11InferBa'
    b'tchRequest\x128\n\x08requests\x18\x01 \x03(\x0b2\x1c.inference.ModelInferRequestR\x08'
    b'requests"G\n\x12InferBatchResponse\x121\n\x05items\x18\x01 \x03(\x0b2\x1b.trtserve.v1.'
    b'InferBatchItemR\x05items"\x88\x01\n\x0eInferBatchItem\x12;\n\x08response\x18\x01 \x01(\x0b2\x1d'
    b'.inference.ModelInferResponseH\x00R\x08response\x12/\n\x05error\x18\x02 \x01(\x0b2\x17.t'
    b'rtserve.v1.InferErrorH\x00R\x05errorB\x08\n\x06result"`\n\nInferError\x12\x12\n\x04co'
    b'de\x18\x01 \x01(\x05R\x04code\x12\x18\n\x07message\x18\x02 \x01(\tR\x07message\x12$\n\x0eretry_after_ms\x18\x03'
    b' \x01(\rR\x0cretryAfterMs"+\n\x0fTimelineRequest\x12\x18\n\x07seconds\x18\x01 \x01(\x01R\x07seco'
    b'nds"r\n\rTimelineReply\x12\x15\n\x06now_ns\x18\x01 \x01(\x03R\x05nowNs\x122\n\x07batches\x18\x02 \x03(\x0b'
    b'2\x18.trtserve.v1.TracedBatchR\x07batches\x12\x16\n\x06missed\x18\x03 \x01(\x04R\x06missed"'
    b'\xea\x03\n\x0bTracedBatch\x12\x16\n\x06device\x18\x01 \x01(\tR\x06device\x12\x0e\n\x02id\x18\x02 \x01(\x04R\x02id\x12\x14\n\x05m'
    b'odel\x18\x03 \x01(\tR\x05model\x12\x18\n\x07version\x18\x04 \x01(\x03R\x07version\x12\x18\n\x07variant\x18\x05 \x01(\t'
    b'R\x07variant\x120\n\x06bucket\x18\x06 \x03(\x0b2\x18.trtserve.v1.TracedShapeR\x06bucket\x12'
    b'\x12\n\x04lane\x18\x07 \x01(\rR\x04lane\x12\x12\n\x04rows\x18\x08 \x01(\rR\x04rows\x12\x1f\n\x0bpadded_rows\x18\t \x01(\r'
    b'R\npaddedRows\x126\n\x08requests\x18\n \x03(\x0b2\x1a.trtserve.v1.TracedRequestR\x08'
    b'requests\x12\x1d\n\nstarted_ns\x18\x0b \x01(\x03R\tstartedNs\x12\x19\n\x08began_ns\x18\x0c \x01(\x03R\x07b'
    b'eganNs\x12\x19\n\x08stage_ns\x18\r \x01(\x03R\x07stageNs\x12\x15\n\x06h2d_ns\x18\x0e \x01(\x03R\x05h2dNs\x12\x1d\n\n'
    b'compute_ns\x18\x0f \x01(\x03R\tcomputeNs\x12\x15\n\x06d2h_ns\x18\x10 \x01(\x03R\x05d2hNs\x12\x14\n\x05error\x18'
    b'\x11 \x01(\tR\x05error"!\n\x0bTracedShape\x12\x12\n\x04dims\x18\x01 \x03(\x03R\x04dims"[\n\rTracedReq'
    b'uest\x12\x1b\n\tfront_end\x18\x01 \x01(\tR\x08frontEnd\x12\x0e\n\x02id\x18\x02 \x01(\x04R\x02id\x12\x1d\n\narrived'
    b'_ns\x18\x03 \x01(\x03R\tarrivedNs2a\n\x10InferenceService\x12M\n\nInferBatch\x12\x1e.trt'
    b'serve.v1.InferBatchRequest\x1a\x1f.trtserve.v1.InferBatchResponse2'
    b'V\n\x0cDebugService\x12F\n\x08Timeline\x12\x1c.trtserve.v1.TimelineRequest\x1a\x1a.'
    b'trtserve.v1.TimelineReply0\x01b\x06proto3'
))
