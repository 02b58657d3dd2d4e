"""WHAT is served: tensors, specifications, the repository, the catalog, routing. Pure."""
