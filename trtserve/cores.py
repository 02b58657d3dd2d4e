"""How many cores this process may use: what its affinity and its container's limit leave it."""

import os
from pathlib import Path

CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Where a process in a container finds its own limits."""


def core_count(group: Path = CONTROL_GROUP) -> int:
    """Cores that may be used, at least 1. A limit such as 2.5 cores counts as 3: threads that
    are a fraction too many cost less than a core that is not used.
    """
    quota = _quota(group)
    cores = len(os.sched_getaffinity(0))
    return cores if quota is None else max(1, min(cores, quota))


def _quota(group: Path) -> int | None:
    """The cores of the control group's limit, upwards; None without one."""
    try:
        try:
            allowed, period = (group / "cpu.max").read_text().split()
        except FileNotFoundError:  # the first version of control groups
            allowed = (group / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu" / "cpu.cfs_period_us").read_text().strip()
        microseconds = int(allowed)  # "max", and -1 of the first version: no limit
        return -(-microseconds // int(period)) if microseconds > 0 else None
    except (OSError, ValueError):
        return None
