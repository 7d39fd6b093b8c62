"""Names of servers turned into addresses, by threads that nobody waits for.

A DNS server that never answers holds a look-up for 10 s and more. uvloop makes
look-ups in four threads that everybody shares, and can neither give one up nor
end before it: a retry every half a second then fills them for minutes, during
which no name is found although DNS answers again, and the process does not end.
"""

import asyncio
import ipaddress
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TypeVar

_ASK_AGAIN_S = 0.5
"""Who waits this long may have asked a server that is gone; it answers nobody who asks now."""
_LOOK_UPS_LIMIT = 16
"""Of one name at once: as many as begin before the first of them is over, with glibc's limits."""

_Connected = TypeVar("_Connected")
_Addresses = tuple[str, ...]


class _LookUp:
    """A name that is being looked up, in a thread of its own."""

    def __init__(self, name: str) -> None:
        self.began = time.monotonic()
        self.future: Future[_Addresses] = Future()
        self.future.set_running_or_notify_cancel()  # who waits for it may go away
        # A daemon: it does not keep the process from ending.
        threading.Thread(target=self._run, args=(name,), name="look-up", daemon=True).start()

    def _run(self, name: str) -> None:
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except Exception as problem:  # a name can also fail to be encoded
            self.future.set_exception(problem)
        else:
            # Each once, in the order of preference.
            self.future.set_result(tuple(dict.fromkeys(str(entry[4][0]) for entry in found)))


_under_way: dict[str, list[_LookUp]] = {}
_changing = threading.Lock()


async def addresses_of(name: str) -> tuple[str, ...]:
    """What a host name stands for, the best first; of an address, itself. At least one.

    Raises:
        OSError: nobody knows the name.
        UnicodeError: it cannot be one.
    """
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return await asyncio.wrap_future(_look_up(name).future)
    return (name,)


async def connected(name: str, connect: Callable[[str], Awaitable[_Connected]]) -> _Connected:
    """What `connect` makes of the first address of a host that takes connections.

    Raises:
        OSError: as of `addresses_of`, or the last address takes none either.
    """
    *others, last = await addresses_of(name)
    for address in others:
        try:
            return await connect(address)
        except OSError:
            continue
    return await connect(last)


def _look_up(name: str) -> _LookUp:
    """One that has just begun, or a new one."""
    with _changing:
        going = [one for one in _under_way.get(name, ()) if not one.future.done()]
        late = not going or time.monotonic() - going[-1].began > _ASK_AGAIN_S
        if late and len(going) < _LOOK_UPS_LIMIT:
            going.append(_LookUp(name))
        _under_way[name] = going
        return going[-1]
