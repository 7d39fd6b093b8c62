"""How every command says how it ended: one table, the same for all of them."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a shell sees of a command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130
    PIPE_CLOSED = 141


MEANINGS = {
    ExitCode.DONE: "Done, and all is well.",
    ExitCode.FAILED: "It failed, or what was looked at is not well: a bundle that is damaged, a "
    "gate that is broken, settings with problems, a service that does not answer or refuses.",
    ExitCode.USAGE: "Wrong usage, or settings or experiments that cannot be used; nothing was "
    "done. `podium` without a command shows its help on standard error and ends with this.",
    ExitCode.INTERRUPTED: "Ended by Ctrl-C. Not `podium serve`: so it ends in order, with 0.",
    ExitCode.PIPE_CLOSED: "Whoever read standard output closed it, such as `head`.",
}
"""What each of them means, for the reference."""

EPILOG = (
    "Exit codes: 0 done; 1 failed, or what was looked at is not well; 2 wrong usage or settings; "
    "130 interrupted."
)
"""At the end of every command's help."""
