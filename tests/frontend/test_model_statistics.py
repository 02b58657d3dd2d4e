"""ModelStatistics from everybody's counters."""

from tests.frontend.stand import catalog_of, version_spec
from trtserve.frontend.model_statistics import model_statistics
from trtserve.ipc.statistics import CounterSample, Statistics
from trtserve.proto import grpc_service_pb2 as pb


def sums(model: str, version: str, **values: int) -> tuple[CounterSample, ...]:
    return tuple(
        CounterSample("version_sums", (model, version, name), value)
        for name, value in values.items()
    )


def by_size(size: str, **values: int) -> tuple[CounterSample, ...]:
    return tuple(
        CounterSample("batch_size_sums", ("m", "1", size, name), value)
        for name, value in values.items()
    )


def test_counters_become_the_protocols_statistics():
    statistics = Statistics(counters=(
        *sums("m", "1", success=5, request_ns=500, fail=2, fail_ns=20, executed=5, inferences=9,
              executions=3, queue_ns=50, input_ns=60, infer_ns=70, output_ns=80,
              last_inference_ms=1234),
        *sums("m", "1", success=1, request_ns=100),  # another front end's
        *sums("m", "2", success=99),
        *by_size("8", executions=1, input_ns=11, infer_ns=12, output_ns=13),
        *by_size("2", executions=2, input_ns=1, infer_ns=2, output_ns=3),
        CounterSample("requests", ("m", "1", "ok"), 5),
    ))
    versions = catalog_of(version_spec()).versions()
    (found,) = model_statistics(versions, statistics).model_stats
    duration = pb.StatisticDuration
    assert found == pb.ModelStatistics(
        name="m", version="1", last_inference=1234, inference_count=9, execution_count=3,
        inference_stats=pb.InferStatistics(
            success=duration(count=6, ns=600), fail=duration(count=2, ns=20),
            queue=duration(count=5, ns=50), compute_input=duration(count=5, ns=60),
            compute_infer=duration(count=5, ns=70), compute_output=duration(count=5, ns=80),
            cache_hit=None, cache_miss=None,
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=2, compute_input=duration(count=2, ns=1),
                compute_infer=duration(count=2, ns=2), compute_output=duration(count=2, ns=3),
            ),
            pb.InferBatchStatistics(
                batch_size=8, compute_input=duration(count=1, ns=11),
                compute_infer=duration(count=1, ns=12), compute_output=duration(count=1, ns=13),
            ),
        ],
    )


def test_all_is_zero_before_the_first_request():
    versions = catalog_of(version_spec(), version_spec(model="n", version=4)).versions()
    found = model_statistics(versions, Statistics()).model_stats
    assert [(entry.name, entry.version) for entry in found] == [("m", "1"), ("n", "4")]
    assert found[0].inference_count == 0
    assert found[0].inference_stats.HasField("success")
    assert found[0].inference_stats.success.count == 0
    assert not found[0].batch_stats
