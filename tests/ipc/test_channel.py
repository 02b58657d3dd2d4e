"""Channels: order, coalescing, large messages, full sockets, descriptors, the peer's end."""

import os
import random
import socket
from collections.abc import Iterator

import pytest

from trtserve.errors import ProtocolError
from trtserve.ipc.channel import MAX_DATAGRAM, Channel
from trtserve.ipc.message import AnyMessage, Attach, Cancel, Connect, Fatal, Poll, Stop


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    """Both ends; checks that nothing stays open behind them."""
    before = open_files()
    one, other = Channel.pair()
    yield one, other
    one.close()
    other.close()
    assert open_files() == before


def drain(channel: Channel) -> list[AnyMessage]:
    found: list[AnyMessage] = []
    while messages := channel.receive():
        found += messages
    return found


def test_messages_wait_for_flush_and_leave_in_one_datagram(pair):
    one, other = pair
    sent = [Poll(1), Stop(2.5), Cancel((1, 2, 3))]
    for message in sent:
        one.send(message)
    assert one.waiting
    assert other.receive() == []
    assert one.flush()
    assert not one.waiting
    assert other.receive() == sent
    assert other.receive() == []


def test_flush_of_nothing_sends_nothing(pair):
    one, other = pair
    assert one.flush()
    assert other.receive() == []


def test_both_directions_are_independent(pair):
    one, other = pair
    one.send(Poll(1))
    other.send(Poll(2))
    assert one.flush()
    assert other.flush()
    assert one.receive() == [Poll(2)]
    assert other.receive() == [Poll(1)]


def test_more_than_a_datagram_goes_in_several_in_order(pair):
    one, other = pair
    sent: list[AnyMessage] = [Fatal(f"{number} " + "x" * 900) for number in range(150)]
    for message in sent:
        one.send(message)
    assert one.flush()
    first = other.receive()
    assert first is not None
    assert 1 < len(first) < len(sent)
    assert first + drain(other) == sent


@pytest.mark.parametrize("over", range(-24, 8))
def test_sizes_around_the_limit_arrive_whole(pair, over):
    one, other = pair
    message = Fatal("x" * (MAX_DATAGRAM + over))
    one.send(message)
    assert one.flush()
    assert other.receive() == [message]


def test_a_message_larger_than_a_datagram_travels_in_a_file_among_others(pair):
    one, other = pair
    sent: list[AnyMessage] = [
        Poll(1), Fatal("a" * 3_000_000), Poll(2), Fatal("b" * 100_000), Poll(3),
    ]
    for message in sent:
        one.send(message)
    assert one.flush()
    assert drain(other) == sent


def test_a_full_socket_says_so_and_goes_on_where_it_stopped(pair):
    one, other = pair
    sent: list[AnyMessage] = []
    while True:
        sent.append(Fatal(f"{len(sent)} " + "x" * 5000))
        one.send(sent[-1])
        if not one.flush():
            break
    assert one.waiting
    assert not one.flush()
    sent += [Poll(7), Fatal("y" * 200_000), Poll(8)]
    for message in sent[-3:]:
        one.send(message)
    assert not one.flush()
    received = drain(other)
    while not one.flush():
        received += drain(other)
    received += drain(other)
    assert received == sent


def test_descriptors_arrive_in_order_with_their_messages(pair):
    one, other = pair
    for number in range(3):
        reader, writer = os.pipe()
        one.send(Connect(f"peer {number}"), reader)
        one.send(Poll(number))
        one.send(Fatal("z" * 100_000))  # its file must not be mistaken for a message's
        os.close(reader)  # the channel keeps its own until it has left
        os.write(writer, b"%d" % number)
        os.close(writer)
    assert one.flush()
    kinds = [type(message) for message in drain(other)]
    assert kinds == [Connect, Poll, Fatal] * 3
    for number in range(3):
        fd = other.take_fd()
        assert os.read(fd, 10) == b"%d" % number
        assert not os.get_inheritable(fd)
        os.close(fd)


def test_a_message_without_its_descriptor_is_an_error(pair):
    _, other = pair
    with pytest.raises(ProtocolError, match="without its descriptor"):
        other.take_fd()


def test_descriptors_that_nobody_took_or_sent_are_closed(pair):
    one, other = pair
    reader, writer = os.pipe()
    one.send(Attach(1), reader)
    one.send(Attach(2), writer)
    assert one.flush()
    assert len(drain(other)) == 2
    other.send(Attach(3), reader)  # never flushed
    os.close(reader)
    os.close(writer)
    # The fixture counts what is open after both are closed.


def test_the_end_of_the_peer(pair):
    one, other = pair
    one.send(Poll(1))
    assert one.flush()
    one.close()
    one.close()
    assert other.receive() == [Poll(1)]
    assert other.receive() is None
    other.send(Poll(2))
    assert other.flush()  # swallowed: the end was told already
    one.send(Poll(3))
    assert not one.waiting


def test_what_a_peer_said_before_it_died_arrives_though_it_left_messages_unread(pair):
    one, other = pair
    one.send(Poll(1))
    assert one.flush()
    for number in (2, 3):
        other.send(Poll(number))
        assert other.flush()
    other.close()
    assert one.receive() == [Poll(2)]
    assert one.receive() == [Poll(3)]
    assert one.receive() is None


def test_a_channel_from_a_descriptor_owns_it():
    before = open_files()
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours, theirs = Channel.from_fd(one.detach()), Channel.from_fd(other.detach())
    ours.send(Poll(5))
    assert ours.flush()
    assert theirs.receive() == [Poll(5)]
    ours.close()
    theirs.close()
    assert open_files() == before


@pytest.mark.parametrize("datagram", [
    b"\0",  # no messages
    b"\0\x93\x01",  # cut off
    b"\0\x91\x92\x63\x01",  # an unknown tag
    b"\0\x91\x92\x17\xa1x",  # Poll with a text for its number
    b"\0\x91\x92\x17\x01\x00",  # something behind the messages
    b"\0\x91\x93\x18\x20\xa1\xff\xa0",  # no message of ours
    b"\0\x91\x93\x20\xa1\xff\xa0",  # a text that is not UTF-8
    b"\1",  # a file that did not come
    b"\1\x91\x92\x17\x01",
])
def test_what_is_not_ours_is_a_protocol_error(datagram):
    raw, sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(sock)
    raw.send(datagram)
    with pytest.raises(ProtocolError, match="datagram"):
        channel.receive()
    raw.close()
    channel.close()


def test_random_bytes_raise_nothing_but_protocol_errors():
    rng = random.Random(7)
    raw, sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(sock)
    refused = 0
    for _ in range(3000):
        tag = rng.choice([1, 2, 3, 10, 11, 12, 20, 24, 30, 32])
        raw.send(bytes([0, 0x91, 0x90 + rng.randrange(10), tag]) + rng.randbytes(rng.randrange(24)))
        try:
            channel.receive()
        except ProtocolError:
            refused += 1
    assert refused > 2000
    raw.close()
    channel.close()


def test_a_datagram_that_is_too_long_is_refused():
    before = open_files()
    raw, sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(sock)
    raw.send(b"\0" * (MAX_DATAGRAM + 2))
    with pytest.raises(ProtocolError, match="cut off"):
        channel.receive()
    raw.close()
    channel.close()
    assert open_files() == before


def test_names_that_are_no_text_do_not_stop_a_message(pair):
    """File names may hold any bytes; Python reads those that are no UTF-8 as surrogates."""
    one, other = pair
    name = os.fsdecode(b"caf\xe9")
    one.send(Fatal(name, "Rename it"))
    assert one.flush()
    one.send(Connect(name), 0)
    one.send(Fatal(name * MAX_DATAGRAM, "Rename it"))
    assert one.flush()
    found = drain(other)
    assert found[:2] == [Fatal("caf\\udce9", "Rename it"), Connect("caf\\udce9")]
    assert isinstance(found[2], Fatal)
