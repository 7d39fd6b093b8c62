"""How much of a core a thread wants, whether it gets it or not."""

import time
from pathlib import Path
from typing import Final

_NS: Final = 1e-9
_SCHEDSTAT: Final = Path("/proc/thread-self/schedstat")


def wanted_cpu_s() -> float:
    """CPU seconds that this thread has had or stood in line for; where nobody counts the line,
    those that it has had.

    Source:
        Linux, Documentation/scheduler/sched-stats.rst: ``/proc/<pid>/schedstat``.
    """
    try:
        had, in_line, *_ = map(int, _SCHEDSTAT.read_bytes().split())
    except (OSError, ValueError):
        return time.thread_time()
    return (had + in_line) * _NS
