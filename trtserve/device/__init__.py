"""Devices behind one interface: streams, events, memory, copies."""
