"""How long a call may still take, from its first attempt to the end of its last."""

import time
from typing import Any

SHORTEST_S = 0.001
"""A socket that waits for 0 s does not wait at all but fails in another way."""


LONGEST_S = 86_400.0
"""A socket cannot be told to wait for months."""


class Deadline:
    """A point in time by the monotonic clock; of 0 s or less it has passed already."""

    def __init__(self, timeout_s: float) -> None:
        if not timeout_s <= LONGEST_S:
            raise ValueError(f"timeout_s must be at most {LONGEST_S:,.0f}, got {timeout_s}")
        self._ends_at = time.monotonic() + timeout_s

    def left_s(self) -> float:
        """Negative once it has passed."""
        return self._ends_at - time.monotonic()


class TimeLeft(dict[str, Any]):
    """httpx's timeouts of one request, each what is left of the deadline when its wait begins.

    httpx bounds the waits for a connection, for the socket to take the request, and for every
    piece of the reply; fixed bounds would add up to several times the deadline.
    """

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def get(self, key: str, default: Any = None) -> float:
        return max(self._deadline.left_s(), SHORTEST_S)
