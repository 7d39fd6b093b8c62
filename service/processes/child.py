"""One process that the parent starts, and how it ends with it."""

import asyncio
import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from service.processes.channel import Channel

ENTRY: Final = (
    "import sys, importlib; sys.path.append(sys.argv[1]); "
    "importlib.import_module(sys.argv[2]).main(*map(int, sys.argv[3:]))"
)
"""For `-c`; then a folder of modules, a module, and what its main is called with. The folder is
appended: for a checkout that is not installed, and behind all that is."""


class Lifeline:
    """A pipe that nobody writes to: its end is the end of the process that holds it."""

    def __init__(self) -> None:
        self.watched, self._held = os.pipe()

    def close(self) -> None:
        os.close(self.watched)
        os.close(self._held)


class Child:
    """A running child."""

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel) -> None:
        """Use `launch`."""
        self.pid = process.pid
        self.channel = channel
        self._process = process

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> str:
        """Wait for the end of the process; how it ended, in words."""
        code = await self._process.wait()
        await self.channel.close()
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


async def launch(
    module: str,
    lifeline: Lifeline,
    descriptors: Sequence[int],
    *facts: int,
    inherited: Sequence[int] = (),
) -> Child:
    """Start a child as a fresh interpreter.

    A fork would take over one thread and all locks of a process that has more.

    Args:
        module: Its ``main`` is called with the descriptors of the channel and
            the lifeline, then ``descriptors``, then ``facts``.
        lifeline: For `end_with_parent`.
        descriptors: Inherited, under the same numbers.
        facts: Further arguments.
        inherited: Further descriptors, which `main` is not told of.
    """
    ours, theirs = socket.socketpair()
    named = (theirs.fileno(), lifeline.watched, *descriptors)
    root = str(Path(__file__).parents[2])
    with theirs:
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-c", ENTRY, root, module),
                *map(str, (*named, *facts)),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(*named, *inherited),
                # Ctrl-C is for the parent, which drains its children.
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
    return Child(process, await Channel.open(ours))


def end_with_parent(lifeline: int, longest_s: float) -> None:
    """End this process when its parent is gone, at the latest `longest_s` after.

    The end of the channel asks for an orderly one. This is for an event loop
    that does not turn: nobody would be left to end such a process.
    """

    def watch() -> None:
        os.read(lifeline, 1)
        time.sleep(longest_s)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
