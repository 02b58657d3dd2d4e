"""gRPC: codec, admission, dispatch, services. Imports grpc; knows nothing of devices."""

import os

# gRPC's core reads it when it is imported. As it comes, it writes a line for each connection that
# speaks no TLS, whoever makes it and however often.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
