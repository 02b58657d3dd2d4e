import sys

import pytest

from trtserve.device.numa import (
    DEFAULT,
    PREFERRED,
    node_set,
    policy,
    prefer,
    prefer_none,
    preferring,
)


@pytest.fixture
def works() -> None:
    """Skip where the kernel has no nodes, or forbids to choose one."""
    worked = prefer(0)
    prefer_none()
    if not worked:
        pytest.skip("the kernel does not let this process choose a NUMA node")


@pytest.mark.parametrize("node", [0, 1, 63, 64, 1023])
def test_a_set_is_one_bit(node):
    assert int.from_bytes(bytes(node_set(node)), sys.byteorder) == 1 << node


def test_an_unknown_machine_does_nothing():
    assert policy("vax") is None
    assert not prefer(0, "vax")
    assert not prefer_none("vax")


@pytest.mark.parametrize("node", [-1, 1023, 1024])
def test_a_node_that_is_not_there_does_nothing(node):
    before = policy()
    assert not prefer(node)
    assert policy() == before


@pytest.mark.parametrize("node", [-1, 0])
def test_the_policy_ends_with_the_block(node):
    before = policy()
    with preferring(node) as preferred:
        assert policy() == (PREFERRED if preferred else before)
    assert policy() == before


def test_the_policy_ends_with_an_error_too(works):
    def fail() -> None:
        with preferring(0):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert policy() == DEFAULT


def test_a_policy_of_the_operator_stays(works):
    assert prefer(0)
    try:
        with preferring(0) as preferred:
            assert not preferred
        assert policy() == PREFERRED
    finally:
        prefer_none()
    assert policy() == DEFAULT
