"""A snapshot with everything in it, for tests of what is made from snapshots."""

from trtserve.ipc.message import CounterSample, HistogramSample, ModelUpdate, Statistics
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
            ModelUpdate("toy", 1, ModelState.READY, spec=spec, load_seconds=0.25),
        ),
        statistics=statistics(),
    )


def statistics():
    """One sample of every metric, and what Triton's counters need."""
    values = {
        "model": "toy", "version": "1", "outcome": "ok", "device": "cpu", "process": "worker cpu",
        "error": "cudaErrorLaunchFailure",
    }

    def labels(metric):
        return tuple(values[name] for name in metric.labels)

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
            HistogramSample(m.name, labels(m), (1, 2, *(0 for _ in m.edges[2:]), 4), 12.5)
            for m in exposed if m.kind is Kind.HISTOGRAM
        ),
    )
