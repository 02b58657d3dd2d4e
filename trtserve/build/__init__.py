"""From an ONNX file to engines: lint, fix, profiles, precision, caches, manifest, explain."""
