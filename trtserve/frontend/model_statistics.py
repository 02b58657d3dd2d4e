"""ModelStatistics, made from the statistics of all processes."""

from collections import defaultdict
from collections.abc import Sequence

from trtserve.ipc.statistics import Statistics
from trtserve.model.catalog import Version
from trtserve.proto import grpc_service_pb2 as pb


def model_statistics(
    versions: Sequence[Version], statistics: Statistics
) -> pb.ModelStatisticsResponse:
    """The answer for these versions. Every count is zero before the first request."""
    sums: dict[tuple[str, str], defaultdict[str, int]] = {}
    sizes: dict[tuple[str, str], dict[int, defaultdict[str, int]]] = {}
    for sample in statistics.counters:
        if sample.name == "version_sums":
            model, version, name = sample.labels
            sums.setdefault((model, version), defaultdict(int))[name] += int(sample.value)
        elif sample.name == "batch_size_sums":
            model, version, size, name = sample.labels
            by_size = sizes.setdefault((model, version), {})
            by_size.setdefault(int(size), defaultdict(int))[name] += int(sample.value)
    return pb.ModelStatisticsResponse(model_stats=[
        _version(
            version,
            sums.get((version.model, str(version.version)), defaultdict(int)),
            sizes.get((version.model, str(version.version)), {}),
        )
        for version in versions
    ])


def _version(
    version: Version, sums: defaultdict[str, int], sizes: dict[int, defaultdict[str, int]]
) -> pb.ModelStatistics:
    ran = sums["executed"]
    return pb.ModelStatistics(
        name=version.model,
        version=str(version.version),
        last_inference=sums["last_inference_ms"],
        inference_count=sums["inferences"],
        execution_count=sums["executions"],
        inference_stats=pb.InferStatistics(
            success=_duration(sums["success"], sums["request_ns"]),
            fail=_duration(sums["fail"], sums["fail_ns"]),
            queue=_duration(ran, sums["queue_ns"]),
            compute_input=_duration(ran, sums["input_ns"]),
            compute_infer=_duration(ran, sums["infer_ns"]),
            compute_output=_duration(ran, sums["output_ns"]),
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=size,
                compute_input=_duration(batch["executions"], batch["input_ns"]),
                compute_infer=_duration(batch["executions"], batch["infer_ns"]),
                compute_output=_duration(batch["executions"], batch["output_ns"]),
            )
            for size, batch in sorted(sizes.items())
        ],
    )


def _duration(count: int, ns: int) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=count, ns=ns)
