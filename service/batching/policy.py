"""When what waits becomes a batch, and who goes first. Pure: no clock, no state.

Work-conserving is the rule behind all others: an engine that has nothing to
do never waits for company, so a lone request pays no delay. Company forms by
itself while the engine is busy.
"""

import math
from typing import Literal

from msgspec import Struct

from service.messages import Priority
from service.settings import BatchPolicy

Reason = Literal["full", "preferred", "idle", "delay"]
"""Why a batch left: no further row fits; enough rows to stop waiting; no engine was busy;
the oldest job had waited for as long as a job may."""

AT_ONCE = -math.inf

PRIORITY_PENALTY_S: dict[Priority, float] = {"high": 0.0, "normal": 0.010, "low": 0.040}
"""How much later than it did a job counts as having arrived.

So a job is overtaken only by those that arrive within the difference, and
nobody starves. The scale is the default timeout of 50 ms: a high job passes
the normal ones of the last fifth of it, and even a low job that is overtaken
by all it can be has time left to be scored.
"""


class Departure(Struct, frozen=True):
    """When the next batch may leave, and why then."""

    at: float
    reason: Reason


_FULL = Departure(AT_ONCE, "full")
_PREFERRED = Departure(AT_ONCE, "preferred")
_IDLE = Departure(AT_ONCE, "idle")


def departure(
    policy: BatchPolicy, *, waiting_rows: int, oldest_arrival: float, executing: int
) -> Departure | None:
    """When the rows that wait should leave.

    Args:
        policy: What the operator asked for.
        waiting_rows: Rows in the queue.
        oldest_arrival: When the one that waits longest came.
        executing: Batches under way.

    Returns:
        None while nothing waits or every instance is busy: then the end of a
        batch is what to wait for, not a time.
    """
    if waiting_rows == 0 or executing >= policy.instances:
        return None
    if waiting_rows >= policy.max_batch_rows:
        return _FULL
    if waiting_rows >= policy.preferred_batch_rows:
        return _PREFERRED
    if policy.mode == "adaptive" and executing == 0:
        return _IDLE
    return Departure(oldest_arrival + policy.max_queue_delay_s, "delay")
