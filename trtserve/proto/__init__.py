"""The protobuf messages of protos/, in a descriptor pool of their own."""
