"""Many instances side by side: is one of them different?"""

from tools.monitoring.model import Dashboard, Panel, Query, Row, Threshold, Unit, View
from tools.monitoring.objectives import COUNTED, FAILED
from tools.monitoring.overview import quantile

TLS = "TLS is not served"

_BY = "sum by (instance) "


def _rate(name: str, more: str = "") -> str:
    return f"{_BY}(rate({name}{{{{here}}{more}}}[$__rate_interval]))"


_WHO = Row("Instances", (
    Panel("Instances", "How many are scraped.", Unit.NUMBER,
          (Query("count(trtserve_ready{{here}})"),), width=4, view=View.NUMBER),
    Panel("Ready", "How many of them are ready.", Unit.NUMBER,
          (Query("sum(trtserve_ready{{here}})"),), width=4, view=View.NUMBER),
    Panel("Releases", "How many instances run which release.", Unit.NUMBER,
          (Query("sum by (version) (trtserve_build_info{{here}})", "{{version}}"),), width=8),
    Panel("Readiness", "1 while an instance is ready.", Unit.NUMBER,
          (Query("trtserve_ready{{here}}", "{{instance}}"),), width=8, most=1),
))

_LOAD = Row("Load", (
    Panel("Requests", "Requests answered each second.", Unit.PER_SECOND,
          (Query(_rate("trtserve_requests_total"), "{{instance}}"),), stacked=True),
    Panel("Imbalance",
          "The busiest instance's rate over the mean. 1: evenly spread. gRPC connections last "
          "long, so new instances get nothing unless clients balance, or connections have a "
          "greatest age.", Unit.NUMBER,
          (Query(f"max({_rate('trtserve_requests_total')}) / "
                 f"avg({_rate('trtserve_requests_total')})", "busiest / mean"),),
          thresholds=(Threshold(0, "green"), Threshold(1.5, "orange"))),
    Panel("In flight", "Requests that are not answered yet.", Unit.NUMBER,
          (Query("trtserve_requests_in_flight{{here}}", "{{instance}}"),)),
))

_HEALTH = Row("Health", (
    Panel("p99", "99 of 100 answers come within it.", Unit.SECONDS,
          (Query(quantile(0.99, "trtserve_request_duration_seconds", "instance", "{here}"),
                 "{{instance}}"),)),
    Panel("Failed share", "Failures that are ours, of the requests that count.", Unit.RATIO,
          (Query(_rate("trtserve_requests_total", f',outcome=~"{FAILED}"') + " / "
                 + _rate("trtserve_requests_total", f',outcome=~"{COUNTED}"'),
                 "{{instance}}"),)),
    Panel("Waiting", "Requests that wait for a lane.", Unit.NUMBER,
          (Query("sum by (instance) (trtserve_queued_requests{{here}})", "{{instance}}"),)),
    Panel("Lanes busy", "The share of time in which lanes had a batch.", Unit.RATIO,
          (Query(f"{_rate('trtserve_lane_busy_seconds_total')} / "
                 "sum by (instance) (trtserve_lanes{{here}})", "{{instance}}"),), most=1),
    Panel("Memory", "Resident memory of all processes of an instance.", Unit.BYTES,
          (Query("sum by (instance) (trtserve_process_resident_memory_bytes{{here}})",
                 "{{instance}}"),)),
    Panel("Restarts", "Processes that died and were started again, in the last hour.",
          Unit.NUMBER,
          (Query("sum by (instance) (increase(trtserve_worker_restarts_total{{here}}[1h]))",
                 "{{instance}}"),)),
))

_STATE = Row("Models and certificates", (
    Panel("Where models serve", "On how many instances each version is READY.", Unit.NUMBER,
          (Query('sum by (model, version) (trtserve_model_state{{here},state="READY"})',
                 "{{model}} {{version}}"),), width=8),
    Panel("Certificates", "How long each certificate is still good.", Unit.SECONDS,
          (Query("trtserve_tls_certificate_expiry_timestamp_seconds{{here}} - time()",
                 "{{instance}} {{file}}"),), width=8, only=TLS),
    Panel("Changed files not used", "Certificates and access files that were changed and could "
          "not be read: the old ones stay in force. The log says why.", Unit.NUMBER,
          (Query("trtserve_reload_failures_total{{here}}", "{{instance}} {{what}}"),), width=8,
          only="no such file is named"),
))

DASHBOARD = Dashboard(
    "trtserve-fleet", "trtserve / Fleet",
    "Many instances side by side: is one of them different?",
    (_WHO, _LOAD, _HEALTH, _STATE),
)
