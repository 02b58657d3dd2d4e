"""A snapshot with everything in it, for tests of what is made from snapshots."""

from trtserve.ipc.message import LoadMemory, ModelUpdate
from trtserve.ipc.statistics import CounterSample, Exemplar, HistogramSample, Statistics
from trtserve.metrics import METRICS, Kind
from trtserve.model.spec import ModelState, ShapeRange, TensorSpec, VariantSpec, VersionSpec
from trtserve.supervisor.child import ChildState
from trtserve.supervisor.role import Kind as Role
from trtserve.supervisor.snapshot import Addresses, ProcessView, Snapshot

NASTY = 'a"b\\c\n<script>&'
"""A model's name that breaks whatever does not escape it."""


def snapshot():
    """Every metric has a sample; one model serves, one does not."""
    variant = VariantSpec(
        "model", (TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("y", "FP32", (-1, 3)),),
        (ShapeRange((1, 3), (8, 3)),), 8,
    )
    spec = VersionSpec("toy", 1, "onnxruntime_onnx", (variant,))
    return Snapshot(
        addresses=Addresses("127.0.0.1:8001", "127.0.0.1:8002", "/run/x.sock"),
        settled=True,
        not_ready=(f"model {NASTY} is broken",),
        processes=(
            ProcessView("worker cpu", Role.WORKER, ChildState.SERVING, 1, 2, False),
            ProcessView("front end 1", Role.FRONT_END, ChildState.DEAD, None, 0, True),
        ),
        models=(
            ModelUpdate(NASTY, 1, ModelState.UNAVAILABLE, "a <b> reason"),
            ModelUpdate(
                "toy", 1, ModelState.READY, spec=spec, load_seconds=0.25,
                memory=LoadMemory("cpu", 8 << 20, 24 << 20),
            ),
        ),
        statistics=statistics(),
    )


TRACE = "0af7651916cd43dd8448eb211c80319c"


def exemplars(metric):
    """In the second bucket, in the last, and in one that nothing was counted in yet."""
    return (
        Exemplar(1, TRACE, 0.00015, 1.7e9), Exemplar(2, TRACE, 0.0004, 1.7e9),
        Exemplar(len(metric.edges), TRACE, 11.0, 1.7e9),
    )


def statistics():
    """One sample of every metric, and what Triton's counters need."""
    values = {
        "model": "toy", "version": "1", "outcome": "ok", "device": "cpu", "process": "worker cpu",
        "error": "cudaErrorLaunchFailure", "variant": "model", "bucket": "3x8x8",
        "direction": "in",
    }

    def labels(metric):
        return tuple(values.get(name, name) for name in metric.labels)

    exposed = [m for m in METRICS.values() if not {"sum", "size"} & {*m.labels}]
    counters = [CounterSample(m.name, labels(m), 5) for m in exposed if m.kind is Kind.COUNTER]
    counters += [
        CounterSample("requests", (NASTY, "1", "overloaded"), 2),
        CounterSample("requests", ("toy", "1", "cancelled"), 1),
        CounterSample("requests", ("toy", "1", "invalid"), 3),
        CounterSample("requests", ("toy", "1", "deadline"), 4),
        CounterSample("version_sums", ("toy", "1", "success"), 5),
        CounterSample("version_sums", ("toy", "1", "executions"), 2),
        CounterSample("version_sums", ("toy", "1", "input_ns"), 7_999),
    ]
    return Statistics(
        tuple(counters),
        tuple(CounterSample(m.name, labels(m), 1.5) for m in exposed if m.kind is Kind.GAUGE),
        tuple(
            HistogramSample(
                m.name, labels(m), (1, 2, *(0 for _ in m.edges[2:]), 4), 12.5,
                exemplars(m) if m.name == "request_duration_seconds" else (),
            )
            for m in exposed if m.kind is Kind.HISTOGRAM
        ),
    )
