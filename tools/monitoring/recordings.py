"""Recording rules: what alerts and dashboards ask for again and again, computed once."""

from tools.monitoring.model import Group, Recording
from tools.monitoring.objectives import COUNTED, FAILED, Objectives

BY = "by (namespace, job, model)"
"""Objectives hold for each model of each installation, over all of its instances."""

WINDOWS = ("5m", "30m", "1h", "6h", "3d")


def groups(objectives: Objectives) -> tuple[Group, ...]:
    """All recording rules."""
    return (
        Group("trtserve-objectives", (
            Recording("trtserve:objective:availability", f"vector({objectives.availability})"),
            Recording("trtserve:objective:latency", f"vector({objectives.latency})"),
        )),
        Group("trtserve-requests", (
            Recording(
                "trtserve:requests:rate5m",
                f'sum {BY} (rate(trtserve_requests_total{{outcome=~"{COUNTED}"}}[5m]))',
            ),
            Recording(
                "trtserve:requests_failed:rate5m",
                f'sum {BY} (rate(trtserve_requests_total{{outcome=~"{FAILED}"}}[5m]))'
                " or 0 * trtserve:requests:rate5m",
            ),
            Recording(
                "trtserve:requests_answered:rate5m",
                f"sum {BY} (rate(trtserve_request_duration_seconds_count[5m]))",
            ),
            Recording(
                "trtserve:requests_slow:rate5m",
                "trtserve:requests_answered:rate5m - sum " + BY + " (rate("
                f'trtserve_request_duration_seconds_bucket{{le="{objectives.edge}"}}[5m]))',
            ),
            Recording(
                "trtserve:queue_fill:ratio",
                "sum by (namespace, job, instance, model) (trtserve_queued_requests) / "
                "(sum by (namespace, job, instance, model) (trtserve_queue_limit) > 0)",
            ),
        )),
        Group("trtserve-windows", tuple(
            Recording(
                f"trtserve:{name}:ratio_{window}",
                f"{_mean(bad, window)} / ({_mean(every, window)} > 0)",
            )
            for name, bad, every in (
                ("failed", "requests_failed", "requests"),
                ("slow", "requests_slow", "requests_answered"),
            )
            for window in WINDOWS
        )),
    )


def _mean(name: str, window: str) -> str:
    """The mean of a recorded rate, so that nothing has to read three days of raw samples."""
    rate = f"trtserve:{name}:rate5m"
    return rate if window == "5m" else f"avg_over_time({rate}[{window}])"
