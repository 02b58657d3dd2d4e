"""One process for each device: batcher, lanes, residency, loop."""
