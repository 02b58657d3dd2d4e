"""Made from protos/trtserve.proto by `make proto`: do not edit."""

# The source's sha256 b64adbc2d5275c76a53e662371731a10d065f9d9c2afac250c195812b495fcf1

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
    b' \x01(\rR\x0cretryAfterMs2a\n\x10InferenceService\x12M\n\nInferBatch\x12\x1e.trtse'
    b'rve.v1.InferBatchRequest\x1a\x1f.trtserve.v1.InferBatchResponseb\x06p'
    b'roto3'
))
