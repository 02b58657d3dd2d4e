"""Messages: all of them cross a channel unchanged, and none can be mistaken for another."""

from typing import get_args

import msgspec
import pytest

from trtserve.ipc import message as m
from trtserve.ipc.channel import Channel
from trtserve.ipc.recording import TracedBatch
from trtserve.ipc.statistics import CounterSample, HistogramSample, Statistics
from trtserve.model.cost import Cost
from trtserve.model.spec import (
    ModelState,
    QueuePolicy,
    ShapeRange,
    TensorSpec,
    VariantSpec,
    VersionSpec,
)

SPEC = VersionSpec(
    "det", 2, "fake",
    (VariantSpec(
        "a.plan", (TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("y", "BYTES", ()),),
        (ShapeRange((1, 3), (8, 3), (4, 3)),), 8,
    ),),
    QueuePolicy(500, (4, 8), 9, 10, False, 3, 2), b"\x00\xff",
)
STATISTICS = Statistics(
    (CounterSample("requests", ("det", "1", "ok"), 2.5),),
    (CounterSample("lanes", ("cpu",), 3),),
    (HistogramSample("batch_rows", ("det", "1"), (1, 0, 2), 17.5),),
)
ALL: tuple[m.AnyMessage, ...] = (
    m.Attach(4096),
    m.Submit(7, 3, ((3, 224, 224), (2,)), 2, ((0, 10), (256, 20)), (0, 2), 123, (1 << 63) - 1, 4),
    m.Trace(True),
    m.Cancel((1, 2)),
    m.Release((5,)),
    m.Done(
        9, (7, 8), (1, 2), (m.OutputBlock(0, (4,), 512, (16, 32)),),
        m.Timing(1, 2, 3, 4, 5, 6, 7, 8, 9),
    ),
    m.Failed((7,), "overloaded", "full ✗", 25),
    m.Failed((7,), "overloaded", "full", 25, m.Closed(20_000_000, 500_000_000)),
    m.ModelUpdate(
        "det", 2, ModelState.READY, "", SPEC, (1,), ((1, ((3,),), Cost(1000)),), 1.5,
        ("a warning",),
        lanes=3, memory=m.LoadMemory("cuda:0", 100, 300),
    ),
    m.ModelUpdate("det", 2, ModelState.UNAVAILABLE, "unloaded", gone=True),
    m.Costs(((1, ((3,),), Cost(900, 8, ((1, 2000), (8, 7200)))),)),
    m.Retire((1, 2)),
    m.Retired((1, 2)),
    m.Settled(3),
    m.Traced("cuda:0", (
        TracedBatch(
            1, "det", 2, "a.plan", ((3, 224, 224),), 0, 3, 4, (("front end 1", 7, 100),), 200,
            300, 1, 2, 3, 4, "it failed",
        ),
    )),
    m.Start(1, "worker cpu", b"{}", "cpu", (("det", "/models/det"),)),
    m.LoadModel(4, "det", "/models/det"),
    m.CommitModel(4),
    m.AbandonModel(4),
    m.UnloadModel(5, "det"),
    m.Staged(4, (1, 2), "it does not load", "/models/det/1/a.plan"),
    m.Freed(4, 2_000, 1_000),
    m.ControlRequest(13, "det", True, "max_batch_size: 8", (("1/a.onnx", 0, 20),)),
    m.Wanted(("det",), (("worker cpu", m.ModelUpdate("seg", 1, ModelState.UNAVAILABLE)),)),
    m.ControlReply(13, "unavailable", "it does not load"),
    m.Connect("front end 1"),
    m.Reaped("worker cpu", True),
    m.Poll(11),
    m.Drain(),
    m.Stop(2.5),
    m.Heartbeat(11, STATISTICS),
    m.Listening(("127.0.0.1:8001", "unix:/x")),
    m.Fatal("problem", "cure"),
    m.StatisticsRequest(12),
    m.StatisticsReply(12, STATISTICS),
)


def test_every_message_is_tried_here():
    assert {type(message) for message in ALL} == set(get_args(m.AnyMessage))


def test_all_cross_a_channel_unchanged():
    one, other = Channel.pair()
    for message in ALL:
        one.send(message)
    assert one.flush()
    assert other.receive() == list(ALL)
    one.close()
    other.close()


def test_every_tag_is_its_own_and_stays():
    tags = {kind.__name__: kind.__struct_config__.tag for kind in get_args(m.AnyMessage)}
    assert len(set(tags.values())) == len(tags)
    assert tags["Submit"] == 2
    assert tags["Done"] == 10


def test_messages_are_frozen():
    with pytest.raises(AttributeError):
        m.Poll(1).token = 2  # type: ignore[misc]


def test_a_wrong_state_is_refused_on_arrival():
    data = msgspec.msgpack.encode([[12, "det", 1, "SLEEPING"]])
    with pytest.raises(msgspec.ValidationError, match="SLEEPING"):
        msgspec.msgpack.decode(data, type=list[m.AnyMessage])
