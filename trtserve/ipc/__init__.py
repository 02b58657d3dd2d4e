"""HOW the processes talk: shared memory, messages, channels. No gRPC, no CUDA."""
