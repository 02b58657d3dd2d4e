"""gRPC: codec, admission, dispatch, services. Imports grpc; knows nothing of devices."""
