"""What the machine says about itself and its processes, from /proc."""

import os
import resource
from pathlib import Path

_PROC = Path("/proc")
_KIB = 1024


def resident_bytes(pid: int) -> int | None:
    """A process's resident memory, shared memory that it has touched included; None if gone."""
    try:
        pages = int((_PROC / str(pid) / "statm").read_text().split()[1])
    except (OSError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGESIZE")


def allow_files(wanted: int) -> int:
    """Let this process and its children open as many files as the system lets them, connections
    included; how many. Many systems begin with 1024, which is less than they allow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = max(soft, wanted)
    if soft != resource.RLIM_INFINITY and soft < hard:
        # Not all of it: what goes through a table of all possible files takes for ever.
        soft = max(soft, min(hard, wanted))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else soft


def memory() -> tuple[int, int]:
    """The machine's memory: all of it, and what is in use, in bytes."""
    fields = {}
    for line in (_PROC / "meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        fields[name] = int(rest.split()[0]) * _KIB
    total = fields["MemTotal"]
    return total, total - fields["MemAvailable"]


class CpuMeter:
    """The machine's share of busy processor time between two readings."""

    def __init__(self) -> None:
        self._before = _cpu_ticks()
        self._share = 0.0

    def share(self) -> float:
        """From 0 to 1, since the last call; the last value if no time has passed."""
        busy, total = now = _cpu_ticks()
        passed = total - self._before[1]
        if passed > 0:
            self._share = min(1.0, max(0.0, (busy - self._before[0]) / passed))
            self._before = now
        return self._share


def _cpu_ticks() -> tuple[int, int]:
    """Busy and all ticks since boot. User and nice time already contain the guests'."""
    ticks = [int(field) for field in (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = ticks[3] + ticks[4]  # idle, iowait
    return sum(ticks) - idle, sum(ticks)
