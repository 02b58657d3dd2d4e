"""The first dashboard to look at: do users get what they were promised, and if not, why?"""

from tools.monitoring.model import Dashboard, Panel, Query, Row, Threshold, Unit, View
from tools.monitoring.objectives import COUNTED, FAILED, Objectives

_DURATION = "trtserve_request_duration_seconds"

_RULES = " It needs the chart's rules in Prometheus."


def quantile(share: float, histogram: str, by: str = "", where: str = "{model}") -> str:
    """A quantile of a histogram's recent observations."""
    labels = f"le, {by}" if by else "le"
    return (
        f"histogram_quantile({share}, sum by ({labels}) "
        f"(rate({histogram}_bucket{{{where}}}[$__rate_interval])))"
    )


def quantiles(histogram: str, where: str = "{model}") -> tuple[Query, ...]:
    """The usual three."""
    return tuple(
        Query(quantile(share, histogram, where=where), f"p{share * 100:g}")
        for share in (0.5, 0.95, 0.99)
    )


def overview(objectives: Objectives) -> Dashboard:
    """Rate, errors, latency, saturation."""
    return Dashboard(
        "trtserve-overview", "trtserve / Overview",
        "Do users get what they were promised? Rate, errors, latency and saturation.",
        (_objectives(objectives), _TRAFFIC, _latency(objectives), _SATURATION),
        models=True,
    )


def _objectives(objectives: Objectives) -> Row:
    promised, within = objectives.availability, objectives.latency
    answered = f"sum(rate({_DURATION}_count{{{{model}}}}[$__range]))"
    return Row("Objectives", (
        Panel(
            "Availability",
            f"The share of requests in the time shown that did not fail by our doing; promised "
            f"are {promised:.2%}. What callers got wrong or gave up counts neither way.",
            Unit.RATIO,
            (Query(
                f'1 - (sum(rate(trtserve_requests_total{{{{model}},outcome=~"{FAILED}"}}'
                f'[$__range])) or vector(0)) / sum(rate(trtserve_requests_total{{{{model}},'
                f'outcome=~"{COUNTED}"}}[$__range]))'),),
            width=4, view=View.NUMBER,
            thresholds=(Threshold(0, "red"), Threshold(promised, "green")),
        ),
        Panel(
            "Answers in time",
            f"The share of answers in the time shown that came within "
            f"{objectives.latency_seconds:g} s; promised are {within:.2%}.",
            Unit.RATIO,
            (Query(
                f'sum(rate({_DURATION}_bucket{{{{model}},le="{objectives.edge}"}}[$__range]))'
                f" / {answered}"),),
            width=4, view=View.NUMBER,
            thresholds=(Threshold(0, "red"), Threshold(within, "green")),
        ),
        Panel(
            "Ready", "The share of instances that are ready. Not all: /readyz says why.",
            Unit.RATIO, (Query("avg(trtserve_ready{{here}})"),), width=4, view=View.NUMBER,
            thresholds=(Threshold(0, "red"), Threshold(0.5, "orange"), Threshold(1, "green")),
        ),
        Panel(
            "Alerts", "Alerts of trtserve that fire now." + _RULES, Unit.NUMBER,
            (Query('count(ALERTS{alertname=~"Trtserve.*",alertstate="firing"}) or vector(0)'),),
            width=4, view=View.NUMBER, thresholds=(Threshold(0, "green"), Threshold(1, "red")),
        ),
        Panel(
            "Error budget burn",
            "How fast the error budget of thirty days is used up: at 1 it lasts just so long, "
            "14.4 for an hour pages somebody. The worst model counts." + _RULES,
            Unit.NUMBER,
            tuple(
                Query(
                    f'max(trtserve:{name}:ratio_{window}{{namespace=~"$namespace",job=~"$job",'
                    f'model=~"$model"}}) / (1 - scalar(max(trtserve:objective:{objective})))',
                    f"{what}, {window}",
                )
                for name, objective, what in (
                    ("failed", "availability", "failed"), ("slow", "latency", "slow"),
                )
                for window in ("5m", "1h", "6h")
            ),
            width=8, thresholds=(Threshold(0, "green"), Threshold(6, "orange"),
                                 Threshold(14.4, "red")),
        ),
    ))


_TRAFFIC = Row("Traffic and errors", (
    Panel(
        "Requests", "Requests answered each second, whatever the answer, by model.",
        Unit.PER_SECOND,
        (Query("sum by (model) (rate(trtserve_requests_total{{model}}[$__rate_interval]))",
               "{{model}}"),),
        width=6, stacked=True,
    ),
    Panel(
        "Errors",
        "Requests that were not answered with outputs, by the error's word. `overloaded`: look "
        "at the saturation below. `invalid` and `not_found` are the callers'.",
        Unit.PER_SECOND,
        (Query('sum by (outcome) (rate(trtserve_requests_total{{model},outcome!="ok"}'
               "[$__rate_interval]))", "{{outcome}}"),),
        width=6, stacked=True,
    ),
    Panel(
        "Refused at the gate",
        "Calls refused before a request was read, by kind of call: no right to it, no valid "
        "token, or too many. Many at once may be an attack, or a token that ran out.",
        Unit.PER_SECOND,
        (Query("sum by (kind, outcome) (rate(trtserve_refused_calls_total{{here}}"
               "[$__rate_interval]))", "{{kind}} {{outcome}}"),),
        width=6, stacked=True, only="nothing was refused so",
    ),
    Panel(
        "Failed share", "Failures that are ours, of the requests that count, by model.",
        Unit.RATIO,
        (Query(f'sum by (model) (rate(trtserve_requests_total{{{{model}},outcome=~"{FAILED}"}}'
               "[$__rate_interval])) / sum by (model) (rate(trtserve_requests_total{{model},"
               f'outcome=~"{COUNTED}"}}[$__rate_interval]))', "{{model}}"),),
        width=6,
    ),
))


def _latency(objectives: Objectives) -> Row:
    limit = (Threshold(0, "green"), Threshold(objectives.latency_seconds, "red"))
    return Row("Latency", (
        Panel(
            "Latency",
            "From a request's arrival to its answer, all chosen models together. The dots are "
            "single requests that were traced, where traces are on.",
            Unit.SECONDS, quantiles(_DURATION), thresholds=limit, exemplars=True,
        ),
        Panel(
            "p99 by model", "The time within which 99 of 100 answers come.", Unit.SECONDS,
            (Query(quantile(0.99, _DURATION, "model"), "{{model}}"),), thresholds=limit,
        ),
        Panel(
            "Distribution",
            "How many answers took how long. Two bands are two kinds of requests, such as two "
            "sizes, or requests that waited for a batch and others that did not.",
            Unit.SECONDS,
            (Query(f"sum by (le) (increase({_DURATION}_bucket{{{{model}}}}[$__rate_interval]))",
                   "{{le}}"),),
            view=View.HEAT,
        ),
    ))


_SATURATION = Row("Saturation", (
    Panel(
        "Lanes busy",
        "The share of time in which lanes had a batch. Near 100 % and with requests waiting, the "
        "device is full.",
        Unit.RATIO,
        (Query("sum by (instance, device) (rate(trtserve_lane_busy_seconds_total{{here}}"
               "[$__rate_interval])) / sum by (instance, device) (trtserve_lanes{{here}})",
               "{{instance}} {{device}}"),),
        width=6, most=1,
    ),
    Panel(
        "Queues", "Of the places in each model's queue, the share that is taken. A full queue "
        "refuses requests.", Unit.RATIO,
        (Query("sum by (model) (trtserve_queued_requests{{model}}) / "
               "sum by (model) (trtserve_queue_limit{{model}} > 0)", "{{model}}"),),
        width=6, thresholds=(Threshold(0, "green"), Threshold(0.5, "orange"),
                             Threshold(0.9, "red")),
    ),
    Panel(
        "Wait for a lane", "From arrival to the start of the batch: 95 of 100 wait no longer.",
        Unit.SECONDS,
        (Query(quantile(0.95, "trtserve_queue_duration_seconds", "model"), "{{model}}"),),
        width=6,
    ),
    Panel(
        "Arenas", "Of the shared memory for tensors, the share that is lent, by process. Full, "
        "requests are refused.", Unit.RATIO,
        (Query("trtserve_arena_used_bytes{{here}} / trtserve_arena_bytes{{here}}",
               "{{instance}} {{process}}"),),
        width=6, most=1, thresholds=(Threshold(0, "green"), Threshold(0.9, "red")),
    ),
))
