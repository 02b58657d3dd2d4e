"""Keeps the other processes alive; serves metrics, probes and the status page."""
