"""Which bytes of a cache server cannot be replies to us: they would fill our memory.

hiredis makes room for all parts of a reply as soon as it has read how many there
are: 800 MB for twelve bytes, whose release stops the event loop for seconds. So
bytes are looked at before it reads them. The event server's go unseen: events
hold text of callers, who could write there what looks like the head of a reply.
"""

import re

LARGEST_REPLY = 4_000_000
"""Bytes; a thousand score rows are half a million, the map of a shredded cluster two million."""
MOST_PARTS = 500_000
"""Of one reply, those of its parts included; a thousand rows are a thousand."""
_HEAD = re.compile(rb"\*(\d{1,20})\r")
"""What begins a reply with parts. Values hold the like by chance: small numbers, which do not
matter, and once in 10^10 values a large one, which costs a connection."""
_NOT_OURS = b"~%>|"
"""Heads of replies with parts, of a protocol (RESP3) that we do not ask for."""
_HEAD_BYTES = 12


class ReplyBounds:
    """Looks at what comes over one connection, in order."""

    def __init__(self) -> None:
        self._last_bytes = b""  # a head may come in two parts
        self._parts = 0

    def allow(self, data: bytes, *, held: int) -> bool:
        """Whether hiredis may read these bytes, of which there are some.

        Args:
            data: What came.
            held: Bytes before them that it has not made a reply of yet.
        """
        seen = self._last_bytes + data
        self._last_bytes = seen[-_HEAD_BYTES:]
        if not held:
            self._parts = 0
            if data[0] in _NOT_OURS:
                return False
        if heads := _HEAD.findall(seen):
            self._parts += sum(map(int, heads))
        return held <= LARGEST_REPLY and self._parts <= MOST_PARTS
