"""Inference runtimes behind one interface, each an adapter."""
