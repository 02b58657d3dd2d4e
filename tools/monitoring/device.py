"""What the devices do: lanes, overlap, copies, memory, restarts."""

from tools.monitoring.model import Dashboard, Panel, Query, Row, Threshold, Unit

GPU = "there is no GPU: a CPU has no memory of its own"
LOST = "no device was lost"
NVML = "there is no NVIDIA GPU, or its driver does not tell"

_BY = "sum by (instance, device) "


def _rate(name: str) -> str:
    return f"{_BY}(rate({name}{{{{here}}}}[$__rate_interval]))"


_DEVICE = "{{instance}} {{device}}"

_LANES = Row("Lanes", (
    Panel("Lanes busy", "Lanes that have a batch now, and how many there are.", Unit.NUMBER,
          (Query("trtserve_lanes_busy{{here}}", f"{_DEVICE} busy"),
           Query("trtserve_lanes{{here}}", f"{_DEVICE} all"))),
    Panel(
        "Device busy", "The share of time in which at least one lane had a batch. Near 100 % the "
        "device, or the way to it, is full.", Unit.RATIO,
        (Query(_rate("trtserve_device_busy_seconds_total"), _DEVICE),), most=1,
    ),
    Panel(
        "Overlap",
        "While the device has work: how many lanes are at it at once. At 1 copying and computing "
        "take turns; above it one lane copies while another computes.",
        Unit.NUMBER,
        (Query(f"{_rate('trtserve_lane_busy_seconds_total')} / "
               f"{_rate('trtserve_device_busy_seconds_total')}", _DEVICE),),
    ),
    Panel(
        "Lanes by stage",
        "In which stage lanes are, on average. More than 1 in `copy in` means that the link "
        "makes lanes wait for one another; the timeline of trtserve shows it batch by batch.",
        Unit.NUMBER,
        tuple(
            Query(f"sum(rate(trtserve_{stage}_duration_seconds_sum{{{{here}}}}"
                  "[$__rate_interval]))", word)
            for stage, word in (("stage", "gathering"), ("h2d", "copy in"),
                                ("compute", "compute"), ("d2h", "copy out"))
        ),
        width=12, stacked=True,
    ),
    Panel(
        "Copies",
        "Tensor bytes to the device and from it. A PCIe 5 link carries some 55 GB/s each way. On "
        "a CPU nothing is copied.",
        Unit.BYTES_PER_SECOND,
        (Query("sum by (instance, device, direction) (rate(trtserve_copied_bytes_total{{here}}"
               "[$__rate_interval]))", f"{_DEVICE} {{{{direction}}}}"),),
        width=12,
    ),
))

_MEMORY = Row("Memory", (
    Panel("Device memory", "The share in use, whoever uses it.", Unit.RATIO,
          (Query("trtserve_device_memory_used_bytes{{here}} / "
                 "trtserve_device_memory_bytes{{here}}", _DEVICE),),
          most=1, thresholds=(Threshold(0, "green"), Threshold(0.95, "red")), only=GPU),
    Panel("Scratch memory",
          "What engines use while they run: shared by all engines of a lane, and what it would "
          "be if each had its own.", Unit.BYTES,
          (Query("trtserve_scratch_bytes{{here}}", f"{_DEVICE} shared"),
           Query("trtserve_scratch_unshared_bytes{{here}}", f"{_DEVICE} unshared")), only=GPU),
    Panel("Arenas", "Shared memory for tensors in flight: the share that is lent. Full, requests "
          "are refused.", Unit.RATIO,
          (Query("trtserve_arena_used_bytes{{here}} / trtserve_arena_bytes{{here}}",
                 "{{instance}} {{process}}"),),
          most=1, thresholds=(Threshold(0, "green"), Threshold(0.9, "red"))),
    Panel("Host memory", "Resident memory of each process. Arenas that a process has touched "
          "count in each of them.", Unit.BYTES,
          (Query("trtserve_process_resident_memory_bytes{{here}}",
                 "{{instance}} {{process}}"),), width=12),
    Panel("Event loop lag", "How long a process could not hear anybody: 99 of 100 turns. Beyond "
          "some milliseconds it lacks processor time.", Unit.SECONDS,
          (Query("histogram_quantile(0.99, sum by (le, instance, process) "
                 "(rate(trtserve_loop_lag_seconds_bucket{{here}}[$__rate_interval])))",
                 "{{instance}} {{process}}"),), width=12),
))

_GPUS = Row("GPUs, as their driver sees them", (
    Panel("Utilisation", "The share of the last moments in which any kernel ran, however small: "
          "near 100 % does not mean that the GPU is full.", Unit.RATIO,
          (Query("trtserve_gpu_utilization_ratio{{here}}", _DEVICE),), most=1, only=NVML),
    Panel("Power", "Power drawn, and the limit that holds.", Unit.WATTS,
          (Query("trtserve_gpu_power_watts{{here}}", f"{_DEVICE} drawn"),
           Query("trtserve_gpu_power_limit_watts{{here}}", f"{_DEVICE} limit")), only=NVML),
    Panel("Temperature", "Of the chip. Near its limit the clocks are held down.", Unit.CELSIUS,
          (Query("trtserve_gpu_temperature_celsius{{here}}", _DEVICE),), only=NVML),
    Panel("Clocks held down", "1 for each reason that keeps the GPU below its full clock. Power "
          "and heat are the usual ones.", Unit.NUMBER,
          (Query("trtserve_gpu_clocks_limited{{here}} == 1", f"{_DEVICE} {{{{reason}}}}"),),
          most=1, only=NVML),
    Panel("Memory errors", "Those that could not be corrected: since the driver was loaded "
          "(volatile), and in the GPU's life (aggregate).", Unit.NUMBER,
          (Query("trtserve_gpu_ecc_uncorrected_errors{{here}}", f"{_DEVICE} {{{{since}}}}"),),
          only=NVML),
    Panel("Errors of the driver", "By NVIDIA's number (Xid), since the daemon started; and what "
          "the driver says the GPU needs.", Unit.NUMBER,
          (Query("trtserve_gpu_xid_errors_total{{here}}", f"{_DEVICE} Xid {{{{xid}}}}"),
           Query("trtserve_gpu_recovery_action{{here}} == 1", f"{_DEVICE} {{{{action}}}}")),
          only=NVML),
))

_FAULTS = Row("Faults", (
    Panel("Restarts", "Processes that died and were started again. Their requests are sent "
          "again once.", Unit.NUMBER,
          (Query("increase(trtserve_worker_restarts_total{{here}}[$__rate_interval])",
                 "{{instance}} {{process}}"),), width=12),
    Panel("Devices lost", "Errors after which nothing can run on a device, since the daemon "
          "started, by CUDA's name.", Unit.NUMBER,
          (Query("sum by (instance, device, error) (trtserve_device_errors_total{{here}})",
                 f"{_DEVICE} {{{{error}}}}"),), width=12, only=LOST),
))

DASHBOARD = Dashboard(
    "trtserve-devices", "trtserve / Devices",
    "What the devices do: lanes, overlap, copies, memory, restarts.",
    (_LANES, _MEMORY, _GPUS, _FAULTS),
)
