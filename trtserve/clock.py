"""The one place that reads time.

Times are integers: nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share, so
that a deadline set in a front end means the same in a worker. Deciding code takes `now` as an
argument instead of calling this.
"""

from time import monotonic_ns, sleep, time, time_ns

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

now_ns = monotonic_ns
"""Nanoseconds of the machine's monotonic clock."""

pause = sleep
"""Wait some seconds in a thread that has nothing else to do."""

unix_seconds = time
"""Seconds since 1970, for what people and other programs read."""

unix_ns = time_ns
"""Nanoseconds since 1970."""
