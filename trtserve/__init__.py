"""trtserve: a gRPC multi-model serving daemon."""

__version__ = "0.1.0"
