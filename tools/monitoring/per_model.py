"""What becomes of one model's requests: stages, batches, queue, variants and sizes."""

from tools.monitoring.model import Dashboard, Panel, Query, Row, Threshold, Unit, View
from tools.monitoring.overview import quantile, quantiles

_STAGES = ("queue", "stage", "h2d", "compute", "d2h")

_STAGE_WORDS = {
    "queue": "waiting", "stage": "gathering", "h2d": "copy in", "compute": "compute",
    "d2h": "copy out",
}


def _rate(name: str, by: str = "model", more: str = "") -> str:
    return f"sum by ({by}) (rate({name}{{{{model}}{more}}}[$__rate_interval]))"


_REQUESTS = Row("Requests", (
    Panel("Requests by outcome", "`ok`, or the error's word.", Unit.PER_SECOND,
          (Query(_rate("trtserve_requests_total", "outcome"), "{{outcome}}"),), stacked=True),
    Panel("Latency", "From a request's arrival to its answer.", Unit.SECONDS,
          quantiles("trtserve_request_duration_seconds"), exemplars=True),
    Panel(
        "Request size", "Tensor bytes that a request brings and takes away, on average.",
        Unit.BYTES,
        tuple(
            Query(f"{_rate(f'trtserve_{way}_bytes_total')} / "
                  f"{_rate('trtserve_request_duration_seconds_count')}", f"{{{{model}}}} {word}")
            for way, word in (("input", "in"), ("output", "out"))
        ),
    ),
))

_STAGES_ROW = Row("Stages", (
    Panel(
        "Where the time goes",
        "The mean time of each stage, one upon the other: waiting once for each request, the "
        "rest once for each batch. What is left to the latency is gRPC and the way between "
        "processes.",
        Unit.SECONDS,
        tuple(
            Query(f"sum(rate(trtserve_{stage}_duration_seconds_sum{{{{model}}}}"
                  f"[$__rate_interval])) / sum(rate(trtserve_{stage}_duration_seconds_count"
                  "{{model}}[$__rate_interval]))", _STAGE_WORDS[stage])
            for stage in _STAGES
        ),
        width=12, stacked=True,
    ),
    Panel(
        "p99 of each stage", "99 of 100 are no longer in it.", Unit.SECONDS,
        tuple(
            Query(quantile(0.99, f"trtserve_{stage}_duration_seconds"), _STAGE_WORDS[stage])
            for stage in _STAGES
        ),
        width=12,
    ),
))

_BATCHES = Row("Batches", (
    Panel(
        "Rows in a batch",
        "The mean. Near 1 under load means that batches do not form: see the documentation, "
        "'Batches stay small'.",
        Unit.NUMBER,
        (Query(f"{_rate('trtserve_batch_rows_sum')} / {_rate('trtserve_batch_rows_count')}",
               "{{model}}"),),
        width=6,
    ),
    Panel(
        "Sizes of batches", "How many batches had how many rows.", Unit.NUMBER,
        (Query("sum by (le) (increase(trtserve_batch_rows_bucket{{model}}[$__rate_interval]))",
               "{{le}}"),),
        width=6, view=View.HEAT,
    ),
    Panel(
        "Padding",
        "Of the rows that ran, the share that nobody had asked for: batches are filled up to a "
        "size that is prepared. Where it is large, make such a size preferred_batch_size. On a "
        "CPU there is none.",
        Unit.RATIO,
        (Query(f"{_rate('trtserve_padding_rows_total')} / "
               f"({_rate('trtserve_padding_rows_total')} + {_rate('trtserve_batch_rows_sum')})",
               "{{model}}"),),
        width=6, thresholds=(Threshold(0, "green"), Threshold(0.25, "orange")),
    ),
    Panel(
        "Batching efficiency",
        "Rows for each second of computing. It rises with larger batches as long as batching "
        "pays.",
        Unit.ROWS_PER_SECOND,
        (Query(f"{_rate('trtserve_batch_rows_sum')} / "
               f"{_rate('trtserve_compute_duration_seconds_sum')}", "{{model}}"),),
        width=6,
    ),
    Panel("Batches", "Batches that ran each second.", Unit.OPS_PER_SECOND,
          (Query(_rate("trtserve_batch_rows_count"), "{{model}}"),), width=12),
    Panel("Requests in a batch", "The mean: how many callers share a run.", Unit.NUMBER,
          (Query(f"{_rate('trtserve_batch_requests_sum')} / "
                 f"{_rate('trtserve_batch_requests_count')}", "{{model}}"),), width=12),
))

_QUEUE = Row("Queue", (
    Panel("Waiting", "Requests that wait for a lane, and how many may.", Unit.NUMBER,
          (Query("sum by (model) (trtserve_queued_requests{{model}})", "{{model}}"),
           Query("sum by (model) (trtserve_queue_limit{{model}})", "{{model}} limit"))),
    Panel("Time in the queue", "From arrival to the start of the batch.", Unit.SECONDS,
          quantiles("trtserve_queue_duration_seconds")),
    Panel("Sent again", "Requests that were sent again because their worker died.",
          Unit.PER_SECOND, (Query(_rate("trtserve_replayed_requests_total"), "{{model}}"),)),
))

_SIZES = Row("Variants and sizes", (
    Panel("Rows by variant", "Which engine file, and which profile of it, does the work.",
          Unit.ROWS_PER_SECOND,
          (Query(_rate("trtserve_size_rows_total", "model, variant"),
                 "{{model}} {{variant}}"),), stacked=True),
    Panel("Rows by size", "Which shapes come. Beyond a number of shapes the rest is `other`.",
          Unit.ROWS_PER_SECOND,
          (Query(_rate("trtserve_size_rows_total", "model, bucket"), "{{model}} {{bucket}}"),),
          stacked=True),
    Panel("Rows in a batch by size",
          "The mean. A size that stays at 1 while others grow comes too seldom to form batches.",
          Unit.NUMBER,
          (Query(f"{_rate('trtserve_size_rows_total', 'model, bucket')} / "
                 f"{_rate('trtserve_size_batches_total', 'model, bucket')}",
                 "{{model}} {{bucket}}"),)),
))

_VERSIONS = Row("Versions", (
    Panel("Requests by version", "How traffic is split between versions.", Unit.PER_SECOND,
          (Query(_rate("trtserve_requests_total", "model, version"),
                 "{{model}} {{version}}"),), stacked=True),
    Panel("State", "1 for the state that a version is in, on how many instances.", Unit.NUMBER,
          (Query("sum by (model, version, state) (trtserve_model_state{{model}} == 1)",
                 "{{model}} {{version}} {{state}}"),)),
    Panel("Time to load", "How long loading and warming up took, the slowest instance.",
          Unit.SECONDS,
          (Query("max by (model, version) (trtserve_model_load_duration_seconds{{model}})",
                 "{{model}} {{version}}"),)),
))

DASHBOARD = Dashboard(
    "trtserve-models", "trtserve / Models",
    "What becomes of a model's requests: stages, batches, queue, variants and sizes.",
    (_REQUESTS, _STAGES_ROW, _BATCHES, _QUEUE, _SIZES, _VERSIONS),
    models=True,
)
