"""Becomes an embedded server that dies with its parent; run as a script by `embedded`.

Arguments: the parent's process id, the program, its arguments. A script and not
`preexec_fn`, which may deadlock in a process with threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, program: list[str]) -> None:
    if sys.platform == "linux":
        # Tied to the thread that started us: the one that runs the event loop.
        # SIGKILL, as a frozen process would not act on anything less; the event
        # server has fsynced what it acknowledged.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            return  # it died before the line above
    try:
        os.execv(program[0], program)  # noqa: S606 - no shell wanted
    except OSError as problem:
        sys.exit(f"{program[0]}: {problem.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
