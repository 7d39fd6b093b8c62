"""When what waits becomes a batch, and who goes first. Pure: no clock, no state.

Work-conserving is the rule behind all others: an engine that has nothing to do
waits for company only where that pays, so a lone request pays no delay. Company
forms by itself while the engine is busy.

* Nothing is under way and ``n`` jobs with ``R`` rows wait. A job that comes ``T``
  later can join them if they wait for it; else it waits for them. Joining costs
  the ``n + 1`` jobs ``T`` each (its own wait included), and the rows make the
  batch longer; it saves one fixed cost. In sum it pays if
  ``T < (fixed - per row x R) / (n + 1)``, the *patience*. Jobs that come at
  random with a mean gap ``g`` come soon enough to make the wait worth its risk
  exactly if ``g`` is less than the patience.
* Another batch is under way and an instance is free. If they score one after the
  other, leaving now brings nothing: the batch would wait at the device, where
  nobody can join it. So it leaves when the device is about to come free. If they
  score side by side it leaves at once.
"""

import math
from typing import Literal

from msgspec import Struct

from service.batching.outlook import BatchTime
from service.messages import Priority
from service.settings import BatchPolicy

Reason = Literal["full", "preferred", "idle", "no_company", "no_gain", "delay"]
"""Why a batch left.

full: no further row fits. preferred: enough rows to stop waiting. idle: nothing was under way, and
waiting would have cost more than it brings. no_company: a wait seemed worth it, and nobody came.
no_gain: others were under way, and waiting longer would have brought nothing. delay: the oldest
job had waited for as long as a job may.
"""

AT_ONCE = -math.inf

ROWS_OF_A_BATCH, ROWS_TO_STOP_WAITING = 400, 256
"""Where neither the operator nor the engine says anything; larger batches leave a core's cache."""

SIDE_BY_SIDE, ONE_AFTER_THE_OTHER = 0.1, 0.8
"""Serial shares below and above which instances wait for each other not at all or wholly."""

PRIORITY_PENALTY_S: dict[Priority, float] = {"high": 0.0, "normal": 0.010, "low": 0.040}
"""How much later than it did a job counts as having arrived.

So a job is overtaken only by those that arrive within the difference, and
nobody starves. The scale is the default timeout of 50 ms: a high job passes
the normal ones of the last fifth of it, and even a low job that is overtaken
by all it can be has time left to be scored.
"""


class Limits(Struct, frozen=True, kw_only=True):
    """A policy with every number filled in."""

    mode: Literal["adaptive", "fixed"]
    max_batch_rows: int
    preferred_batch_rows: int
    max_queue_delay_s: float
    max_waiting_rows: int
    instances: int
    preserve_ordering: bool

    @staticmethod
    def of(policy: BatchPolicy) -> "Limits":
        """What the operator said; for the rest, one instance, and batches that suit a CPU."""
        largest = policy.max_batch_rows or ROWS_OF_A_BATCH
        return Limits(
            mode=policy.mode,
            max_batch_rows=largest,
            preferred_batch_rows=min(policy.preferred_batch_rows or ROWS_TO_STOP_WAITING, largest),
            max_queue_delay_s=policy.max_queue_delay_s,
            max_waiting_rows=policy.max_waiting_rows,
            instances=policy.instances or 1,
            preserve_ordering=policy.preserve_ordering,
        )


class Waiting(Struct, frozen=True, kw_only=True):
    """The queue and the engines at a moment."""

    rows: int
    jobs: int
    oldest_arrival: float
    newest_arrival: float
    executing: int = 0
    """Batches under way."""
    free_at: float = -math.inf
    """When those should be done."""
    gap_s: float | None = None
    """Mean time between arrivals, if known."""
    batch_time: BatchTime | None = None
    """If known."""


class Departure(Struct, frozen=True):
    """When the next batch may leave, and why then."""

    at: float
    reason: Reason


FULL = Departure(AT_ONCE, "full")
PREFERRED = Departure(AT_ONCE, "preferred")
IDLE = Departure(AT_ONCE, "idle")
NO_GAIN = Departure(AT_ONCE, "no_gain")


def departure(limits: Limits, waiting: Waiting) -> Departure:
    """When the rows that wait should leave; there are some, and an instance is free."""
    if waiting.rows >= limits.max_batch_rows:
        return FULL
    if waiting.rows >= limits.preferred_batch_rows:
        return PREFERRED
    latest = Departure(waiting.oldest_arrival + limits.max_queue_delay_s, "delay")
    if limits.mode == "fixed":
        return latest
    best = _beside_others(waiting) if waiting.executing else _alone(waiting)
    return best if best.at <= latest.at else latest


def _alone(waiting: Waiting) -> Departure:
    if waiting.batch_time is None or waiting.gap_s is None:
        return IDLE
    patience_s = _patience_s(waiting, waiting.batch_time)
    if waiting.gap_s >= patience_s:
        return IDLE
    return Departure(waiting.newest_arrival + patience_s, "no_company")


def _patience_s(waiting: Waiting, took: BatchTime) -> float:
    """For how long after the last arrival another one is worth waiting for."""
    return (took.fixed_s - took.row_s * waiting.rows) / (waiting.jobs + 1)


def _beside_others(waiting: Waiting) -> Departure:
    took = waiting.batch_time
    if took is None or took.serial_share < SIDE_BY_SIDE:
        return NO_GAIN
    if took.serial_share > ONE_AFTER_THE_OTHER:
        return Departure(waiting.free_at, "no_gain")
    # What is not serial, such as copies, overlaps with the end of the batch before.
    overlap = (1 - took.serial_share) / took.serial_share
    return Departure(waiting.free_at - overlap * took.seconds(waiting.rows), "no_gain")
