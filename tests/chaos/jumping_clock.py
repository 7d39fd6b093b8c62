"""``python -m tests.chaos.jumping_clock serve ...``: Podium on a machine whose clock jumps.

The wall clock is that of the machine plus the seconds in the file that
``JUMPING_CLOCK`` names, read anew whenever the time is asked for. Delays and
deadlines go by the monotonic clock, which no jump of the system time moves.
"""

import os
import runpy
import time
from pathlib import Path

_FILE = Path(os.environ["JUMPING_CLOCK"])
_true_time, _true_time_ns = time.time, time.time_ns


def _offset_s() -> float:
    return float(_FILE.read_text())


if __name__ == "__main__":
    time.time = lambda: _true_time() + _offset_s()
    time.time_ns = lambda: _true_time_ns() + int(_offset_s() * 1e9)
    runpy.run_module("service", run_name="__main__")
