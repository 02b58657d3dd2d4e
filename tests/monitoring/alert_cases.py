"""For each alert: series that fire it, what people are told then, and series that do not.

Series are in promtool's notation: `0+2x70` begins at 0 and grows by 2 at each of 70 steps of a
minute; `_` is no sample. promtool's clock begins at 0.
"""

from dataclasses import dataclass, field

BASE = 'namespace="prod",job="trtserve"'
INSTANCE = f'{BASE},instance="a:8002"'
REQUESTS = f'trtserve_requests_total{{{INSTANCE},model="det",version="1",outcome="%s"}}'
DURATION = f'trtserve_request_duration_seconds%s{{{INSTANCE},model="det",version="1"%s}}'
QUEUED = f'trtserve_queued_requests{{{INSTANCE},model="det",version="1"}}'
LIMIT = f'trtserve_queue_limit{{{INSTANCE},model="det",version="1"}}'
READY = f"trtserve_ready{{{INSTANCE}}}"
OTHER_READY = READY.replace("a:8002", "b:8002")
RESTARTS = f'trtserve_worker_restarts_total{{{INSTANCE},process="worker cpu"}}'
DEVICE = f'{INSTANCE},device="cuda:0"'
LOST = f'trtserve_device_errors_total{{{DEVICE},error="cudaErrorLaunchFailure"}}'
MEMORY = f"trtserve_device_memory%s_bytes{{{DEVICE}}}"
ARENA = f'trtserve_arena%s_bytes{{{INSTANCE},process="front end 1"}}'
RECOVERY = f'trtserve_gpu_recovery_action{{{DEVICE},uuid="GPU-1",action="%s"}}'
CERTIFICATE = (
    f'trtserve_tls_certificate_expiry_timestamp_seconds{{{INSTANCE},file="tls_certificate"}}'
)

DAY = 86400

Series = dict[str, str]


@dataclass(frozen=True)
class Case:
    """Series that fire `alert` at a time. `quiet` are others that do not, at the same time."""

    alert: str
    at: str
    series: Series
    labels: Series
    summary: str
    description: str
    quiet: dict[str, Series] = field(default_factory=dict)
    every: str = "1m"
    """How often rules are evaluated."""


def outcomes(ok: str, failed: str, word: str = "execution") -> Series:
    return {REQUESTS % "ok": ok, REQUESTS % word: failed}


def answers(every: str, in_time: str) -> Series:
    return {DURATION % ("_count", ""): every, DURATION % ("_bucket", ',le="0.5"'): in_time}


def burn(name: str, at: str, share: str, window: str, spends: str, **rest) -> Case:
    """A case of one of the six alerts on error budgets."""
    what = "Requests fail" if "Availability" in name else "Answers are too slow"
    return Case(
        name, at,
        labels={"namespace": "prod", "job": "trtserve", "model": "det"},
        summary=f"{what}: model det of prod/trtserve",
        description=f"{share} of the requests over {window}. At this speed the error budget of "
                    f"thirty days goes by {spends}.",
        **rest,
    )


_HERE = {"namespace": "prod", "job": "trtserve", "instance": "a:8002"}

CASES = (
    burn(
        "TrtserveAvailabilityFastBurn", "70m", "2%", "1h", "2 % within an hour",
        series=outcomes("0+98x80", "0+2x80"),
        quiet={
            "slower": outcomes("0+99x80", "0+1x80"),
            "over": outcomes("0+100x80", "0+20x55 1100+0x25"),
            "the callers' fault": outcomes("0+90x80", "0+10x80", "invalid"),
            "hardly any": outcomes("0+0x80", "0x60 1+1x8 9+0x12"),
            "nothing asked": outcomes("5+0x80", "3+0x80"),
        },
    ),
    burn(
        "TrtserveAvailabilitySlowBurn", "390m", "0.8%", "6h", "5 % within six hours",
        series=outcomes("0+992x400", "0+8x400", "unavailable"), every="5m",
        quiet={
            "slower": outcomes("0+995x400", "0+5x400"),
            "over": outcomes("0+992x340 337280+1000x60", "0+8x340 2720+0x60"),
        },
    ),
    burn(
        "TrtserveAvailabilityLastingBurn", "4400m", "0.2%", "3d", "10 % within three days",
        series=outcomes("0+998x4400", "0+2x4400", "deadline"), every="15m",
        quiet={"within the budget": outcomes("0+9995x4400", "0+5x4400")},
    ),
    burn(
        "TrtserveLatencyFastBurn", "70m", "20%", "1h", "2 % within an hour",
        series=answers("0+100x80", "0+80x80"),
        quiet={
            "slower": answers("0+100x80", "0+90x80"),
            "over": answers("0+100x80", "0+50x55 2750+100x25"),
        },
    ),
    burn(
        "TrtserveLatencySlowBurn", "390m", "10%", "6h", "5 % within six hours",
        series=answers("0+100x400", "0+90x400"), every="5m",
        quiet={"slower": answers("0+100x400", "0+96x400")},
    ),
    burn(
        "TrtserveLatencyLastingBurn", "4400m", "2%", "3d", "10 % within three days",
        series=answers("0+100x4400", "0+98x4400"), every="15m",
        quiet={"within the budget": answers("0+1000x4400", "0+995x4400")},
    ),
    Case(
        "TrtserveAbsent", "32m", {READY: "1x20 _x40"},
        {"namespace": "prod", "job": "trtserve"},
        "No trtserve of prod/trtserve can be scraped any more",
        "A quarter of an hour ago there were 1.",
        {"another one is there": {READY: "1x20 _x40", OTHER_READY: "1x60"},
         "not yet": {READY: "1x28 _x40"}},
    ),
    Case(
        "TrtserveNotReady", "12m", {READY: "0x20"}, _HERE,
        "a:8002 is not ready",
        "Something that should serve does not; /readyz on its HTTP port says what.",
        {"ready": {READY: "1x20"}, "it was only starting": {READY: "0x5 1x20"}},
    ),
    Case(
        "TrtserveRestarts", "20m", {RESTARTS: "0x8 1 2 2x20"},
        {**_HERE, "process": "worker cpu"},
        "worker cpu of a:8002 dies again and again",
        "It was started again 2 times within 15 minutes. Requests are sent again once, so "
        "clients may have noticed nothing yet.",
        {"once": {RESTARTS: "0x10 1x20"}, "long ago": {RESTARTS: "0 1 2 2x40"}},
    ),
    Case(
        "TrtserveDeviceLost", "10m", {LOST: "_x5 1x20"},
        {**_HERE, "device": "cuda:0", "error": "cudaErrorLaunchFailure"},
        "cuda:0 of a:8002 was lost: cudaErrorLaunchFailure",
        "An error after which nothing can run on the device ended its worker.",
        {"never": {LOST: "0x20"}},
    ),
    Case(
        "TrtserveDeviceLost", "40m", {LOST: "1x30 2x20"},
        {**_HERE, "device": "cuda:0", "error": "cudaErrorLaunchFailure"},
        "cuda:0 of a:8002 was lost: cudaErrorLaunchFailure",
        "An error after which nothing can run on the device ended its worker.",
        {"long ago": {LOST: "1x60"}},
    ),
    Case(
        "TrtserveGpuNeedsRepair", "10m", {RECOVERY % "reset_gpu": "1x20"},
        {**_HERE, "device": "cuda:0", "uuid": "GPU-1", "action": "reset_gpu"},
        "cuda:0 of a:8002 needs reset_gpu",
        "The driver says that GPU GPU-1 will not work well again without.",
        {"nothing": {RECOVERY % "none": "1x20", RECOVERY % "reset_gpu": "0x20"}},
    ),
    Case(
        "TrtserveQueueGrowing", "10m", {QUEUED: "768x20", LIMIT: "1024x20"},
        {**_HERE, "model": "det"},
        "The queue of model det on a:8002 fills up",
        "75% of its places are taken. When it is full, requests are refused.",
        {"it keeps up": {QUEUED: "400x20", LIMIT: "1024x20"},
         "a short rush": {QUEUED: "0x8 1000 0x20", LIMIT: "1024x20"},
         "not served": {QUEUED: "0x20", LIMIT: "0x20"}},
    ),
    Case(
        "TrtserveQueueGrowing", "16m", {QUEUED: "0+25x20", LIMIT: "1000x20"},
        {**_HERE, "model": "det"},
        "The queue of model det on a:8002 fills up",
        "40% of its places are taken. When it is full, requests are refused.",
        {"it grows slowly": {QUEUED: "0+10x20", LIMIT: "1000x20"}},
    ),
    Case(
        "TrtserveDeviceMemory", "20m", {MEMORY % "_used": "97x30", MEMORY % "": "100x30"},
        {**_HERE, "device": "cuda:0"},
        "The memory of cuda:0 of a:8002 is nearly full",
        "97% of it is in use. The next model to load, or a size that nobody foresaw, may find "
        "none.",
        {"enough left": {MEMORY % "_used": "90x30", MEMORY % "": "100x30"}},
    ),
    Case(
        "TrtserveArenaMemory", "10m", {ARENA % "_used": "95x20", ARENA % "": "100x20"},
        {**_HERE, "process": "front end 1"},
        "The arena of front end 1 of a:8002 is nearly full",
        "95% of the shared memory for tensors was lent. When it is full, requests are refused.",
        {"enough left": {ARENA % "_used": "50x20", ARENA % "": "100x20"}},
    ),
    Case(
        "TrtserveCertificateExpiresSoon", "2h", {CERTIFICATE: f"{10 * DAY}x180"},
        {**_HERE, "file": "tls_certificate"},
        "A certificate of a:8002 runs out within two weeks",
        "tls_certificate is good for another 9d 22h 0m 0s.",
        {"a month": {CERTIFICATE: f"{30 * DAY}x180"}},
    ),
    Case(
        "TrtserveCertificateExpires", "1h", {CERTIFICATE: f"{DAY}x90"},
        {**_HERE, "file": "tls_certificate"},
        "A certificate of a:8002 runs out within two days",
        "tls_certificate is good for another 23h 0m 0s. After that no client can connect.",
        {"ten days": {CERTIFICATE: f"{10 * DAY}x90"}},
    ),
)
