"""From which NUMA node this thread's new pages come.

Memory on the node that a GPU hangs on reaches it without crossing between sockets. Only system
calls, so there is nothing to install; where one is unknown or forbidden (containers often forbid
it) pages come from wherever the kernel likes, as they would without this file.
"""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

_CALLS = {
    # machine: (get_mempolicy, set_mempolicy). The kernel numbers its calls anew on each.
    "x86_64": (239, 238),
    "aarch64": (236, 237),
}

DEFAULT = 0
"""MPOL_DEFAULT: the node of the core that touches the page first."""

PREFERRED = 1
"""MPOL_PREFERRED: the given node; another when it is full."""

_NODES = 1024
"""Bits of a set of nodes: as many as the kernel can be built for."""

_NodeSet = ctypes.c_ulong * (_NODES // (8 * ctypes.sizeof(ctypes.c_ulong)))

_syscall = ctypes.CDLL(None).syscall
_syscall.restype = ctypes.c_long


def policy(machine: str = platform.machine()) -> int | None:
    """This thread's policy; None where it can not be asked for."""
    if machine not in _CALLS:
        return None
    mode = ctypes.c_int(DEFAULT)
    call, _ = _CALLS[machine]
    result = _syscall(
        ctypes.c_long(call), ctypes.byref(mode), None, ctypes.c_ulong(0), None, ctypes.c_ulong(0)
    )
    return None if result else mode.value


def prefer(node: int, machine: str = platform.machine()) -> bool:
    """Take this thread's new pages from a node, until `prefer_none`. Whether that works here.

    A policy that is there already is the operator's, set with numactl: it stays. Node -1 is what
    CUDA says where there are no nodes.
    """
    if not 0 <= node < _NODES or policy(machine) != DEFAULT:
        return False
    return _set(machine, PREFERRED, node_set(node))


def prefer_none(machine: str = platform.machine()) -> bool:
    """Go back to the default. Whether that works here."""
    return _set(machine, DEFAULT, None)


@contextmanager
def preferring(node: int) -> Iterator[bool]:
    """Prefer a node within a `with` block. Gives whether that works here."""
    preferred = prefer(node)
    try:
        yield preferred
    finally:
        if preferred:
            prefer_none()


def node_set(node: int) -> ctypes.Array[ctypes.c_ulong]:
    """A set of one node, as the kernel reads it: bit n of an array of words."""
    words, bits = _NodeSet(), 8 * ctypes.sizeof(ctypes.c_ulong)
    words[node // bits] = 1 << node % bits
    return words


def _set(machine: str, mode: int, nodes: ctypes.Array[ctypes.c_ulong] | None) -> bool:
    if machine not in _CALLS:
        return False
    _, call = _CALLS[machine]
    # The kernel reads one bit less than it is told.
    bits = 0 if nodes is None else _NODES + 1
    return bool(
        _syscall(ctypes.c_long(call), ctypes.c_int(mode), nodes, ctypes.c_ulong(bits)) == 0
    )
