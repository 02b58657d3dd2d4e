"""What an optimiser made of a network: TensorRT's builder, or ONNX Runtime."""
