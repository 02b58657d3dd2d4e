"""Alerts. Each one's runbook in docs/operations.md has the heading of its name."""

from dataclasses import dataclass

from tools.monitoring.model import Alert, Group

PAGE, TICKET = "page", "ticket"

LEAST_BAD = 10
"""Fewer bad requests than this within the long window wake nobody, whatever their share."""

WHERE = "{{ $labels.namespace }}/{{ $labels.job }}"


@dataclass(frozen=True, slots=True)
class Burn:
    """A speed at which the error budget of thirty days is used up, seen over two windows.

    The long window says that it matters, the short one that it still goes on.
    """

    name: str
    speed: float
    long: str
    short: str
    hours: float
    severity: str
    lasts: str
    spends: str


BURNS = (
    Burn("Fast", 14.4, "1h", "5m", 1, PAGE, "2m", "2 % within an hour"),
    Burn("Slow", 6, "6h", "30m", 6, PAGE, "15m", "5 % within six hours"),
    Burn("Lasting", 1, "3d", "6h", 72, TICKET, "1h", "10 % within three days"),
)


def _burn(subject: str, ratio: str, objective: str, bad: str, what: str, burn: Burn) -> Alert:
    """One alert on a budget. `bad` is the recorded rate of bad requests."""
    limit = f"{burn.speed:g} * (1 - scalar(max(trtserve:objective:{objective})))"
    return Alert(
        f"Trtserve{subject}{burn.name}Burn",
        f"trtserve:{ratio}:ratio_{burn.long} > {limit}\n"
        f"and trtserve:{ratio}:ratio_{burn.short} > {limit}\n"
        f"and avg_over_time(trtserve:{bad}:rate5m[{burn.long}]) * {burn.hours * 3600:g}"
        f" > {LEAST_BAD}",
        burn.lasts, burn.severity,
        f"{what}: model {{{{ $labels.model }}}} of {WHERE}",
        f"{{{{ $value | humanizePercentage }}}} of the requests over {burn.long}. At this speed "
        f"the error budget of thirty days goes by {burn.spends}.",
    )


_LOST = "sum by (namespace, job, instance, device, error) (trtserve_device_errors_total{})"
_NOW = _LOST.format("")
_BEFORE = _LOST.format(" offset 15m")

GROUPS = (
    Group("trtserve-burn-rates", tuple(
        alert for burn in BURNS for alert in (
            _burn("Availability", "failed", "availability", "requests_failed",
                  "Requests fail", burn),
            _burn("Latency", "slow", "latency", "requests_slow",
                  "Answers are too slow", burn),
        )
    )),
    Group("trtserve-serving", (
        Alert(
            "TrtserveAbsent",
            "count by (namespace, job) (trtserve_ready offset 15m)\n"
            "unless count by (namespace, job) (trtserve_ready)",
            "5m", PAGE,
            f"No trtserve of {WHERE} can be scraped any more",
            "A quarter of an hour ago there were {{ $value }}.",
        ),
        Alert(
            "TrtserveNotReady", "trtserve_ready == 0", "10m", PAGE,
            "{{ $labels.instance }} is not ready",
            "Something that should serve does not; /readyz on its HTTP port says what.",
        ),
        Alert(
            "TrtserveRestarts",
            "increase(trtserve_worker_restarts_total[15m]) > 1.5", "0m", TICKET,
            "{{ $labels.process }} of {{ $labels.instance }} dies again and again",
            "It was started again {{ $value | humanize }} times within 15 minutes. Requests are "
            "sent again once, so clients may have noticed nothing yet.",
        ),
        Alert(
            "TrtserveDeviceLost",
            # A series is born with its first error, which `increase` would not see.
            f"{_NOW}\n- ({_BEFORE} or 0 * {_NOW})\n> 0", "0m", PAGE,
            "{{ $labels.device }} of {{ $labels.instance }} was lost: {{ $labels.error }}",
            "An error after which nothing can run on the device ended its worker.",
        ),
        Alert(
            "TrtserveGpuNeedsRepair", 'trtserve_gpu_recovery_action{action!="none"} == 1',
            "5m", PAGE,
            "{{ $labels.device }} of {{ $labels.instance }} needs {{ $labels.action }}",
            "The driver says that GPU {{ $labels.uuid }} will not work well again without.",
        ),
        Alert(
            "TrtserveQueueGrowing",
            "trtserve:queue_fill:ratio > 0.5\n"
            "or (trtserve:queue_fill:ratio > 0.1\n"
            "and predict_linear(trtserve:queue_fill:ratio[10m], 1800) > 1)",
            "5m", PAGE,
            "The queue of model {{ $labels.model }} on {{ $labels.instance }} fills up",
            "{{ $value | humanizePercentage }} of its places are taken. When it is full, "
            "requests are refused.",
        ),
    )),
    Group("trtserve-resources", (
        Alert(
            "TrtserveDeviceMemory",
            "trtserve_device_memory_used_bytes / trtserve_device_memory_bytes > 0.95",
            "15m", TICKET,
            "The memory of {{ $labels.device }} of {{ $labels.instance }} is nearly full",
            "{{ $value | humanizePercentage }} of it is in use. The next model to load, or a "
            "size that nobody foresaw, may find none.",
        ),
        Alert(
            "TrtserveArenaMemory",
            "max_over_time(trtserve_arena_used_bytes[5m]) / trtserve_arena_bytes > 0.9",
            "5m", TICKET,
            "The arena of {{ $labels.process }} of {{ $labels.instance }} is nearly full",
            "{{ $value | humanizePercentage }} of the shared memory for tensors was lent. When "
            "it is full, requests are refused.",
        ),
        Alert(
            "TrtserveCertificateExpiresSoon",
            "trtserve_tls_certificate_expiry_timestamp_seconds - time() < 14 * 86400",
            "1h", TICKET,
            "A certificate of {{ $labels.instance }} runs out within two weeks",
            "{{ $labels.file }} is good for another {{ $value | humanizeDuration }}.",
        ),
        Alert(
            "TrtserveCertificateExpires",
            "trtserve_tls_certificate_expiry_timestamp_seconds - time() < 2 * 86400",
            "10m", PAGE,
            "A certificate of {{ $labels.instance }} runs out within two days",
            "{{ $labels.file }} is good for another {{ $value | humanizeDuration }}. After that "
            "no client can connect.",
        ),
    )),
)


def alerts() -> tuple[Alert, ...]:
    """All of them."""
    return tuple(rule for group in GROUPS for rule in group.rules if isinstance(rule, Alert))
