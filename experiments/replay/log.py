"""A log of what was shown: which action, how probable it was, and what it earned.

An action is whatever was chosen at random: the item in a place, or the variant
that served a unit. A slot is what it was chosen for: a context (a segment of
users, or nothing) and a position. Rows of one cluster (a user, a round) depend
on each other; clusters do not.
"""

from collections.abc import Hashable, Iterable
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from experiments.replay.tables import Fields, TableInvalid, read_rows

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
T = TypeVar("T", bound=Hashable)


class Row(Struct, frozen=True, kw_only=True):
    """One item shown."""

    action: str
    reward: float
    """Usually 1 for a click and 0 for none."""
    propensity: float
    """Probability with which the policy of the log chose this action here, in (0, 1]."""
    position: int = 1
    """Place in the slate, 1 is first."""
    context: str = ""
    """What the policies may look at."""
    cluster: str | None = None
    """Who saw it; None makes the row a cluster of its own."""
    target: float | None = None
    """Probability with which the policy in question would have chosen it, if the log knows."""


class Log(Struct, frozen=True, kw_only=True):
    """Rows as columns, all of shape ``[rows]``; codes index the names beside them."""

    actions: tuple[str, ...]
    slots: tuple[tuple[str, int], ...]
    """Context and position."""
    action: Codes
    slot: Codes
    cluster: Codes
    reward: Floats
    propensity: Floats
    target: Floats | None
    """None if no row names it."""

    @property
    def clusters(self) -> int:
        return int(self.cluster.max()) + 1


def read_log(lines: Iterable[str], *, where: str) -> Log:
    """Read a log from CSV or NDJSON.

    Columns: ``action`` (or ``item``), ``reward``, ``propensity``; optional
    ``position`` (1), ``context`` (none), ``cluster`` (each row its own),
    ``target_propensity``. Others are left alone.

    Raises:
        TableInvalid: a row lacks one of them or is impossible; names its line.
    """
    return log_of((_row(fields) for fields in read_rows(lines, where=where)), where=where)


def log_of(rows: Iterable[Row], *, where: str = "the log") -> Log:
    """The columns of rows.

    Raises:
        TableInvalid: there are none, or some know the target and others do not.
    """
    every = list(rows)
    if not every:
        raise TableInvalid(where, None, "it has no rows")
    known = [row.target for row in every if row.target is not None]
    if known and len(known) < len(every):
        missing = len(every) - len(known)
        raise TableInvalid(where, None, f"{missing} of {len(every)} rows lack target_propensity")
    actions, action = _coded(row.action for row in every)
    slots, slot = _coded((row.context, row.position) for row in every)
    _, cluster = _coded(at if row.cluster is None else row.cluster for at, row in enumerate(every))
    return Log(
        actions=tuple(actions),
        slots=tuple(slots),
        action=action,
        slot=slot,
        cluster=cluster,
        reward=np.array([row.reward for row in every], np.float64),
        propensity=np.array([row.propensity for row in every], np.float64),
        target=np.array(known, np.float64) if known else None,
    )


def _row(fields: Fields) -> Row:
    propensity = fields.number("propensity")
    if not 0 < propensity <= 1:
        raise fields.refused(
            f"propensity must be above 0 and at most 1, got {propensity:g}; "
            "what was shown had a probability, and without it nothing can be replayed"
        )
    target = fields.number("target_propensity") if fields.has("target_propensity") else None
    if target is not None and not 0 <= target <= 1:
        raise fields.refused(f"target_propensity must be 0 to 1, got {target:g}")
    position = fields.number("position", 1)
    if position < 1 or position % 1:
        raise fields.refused(f"position must be a whole number from 1, got {position:g}")
    return Row(
        action=fields.text("action", "item"),
        reward=fields.number("reward"),
        propensity=propensity,
        position=int(position),
        context=fields.text("context", default=""),
        cluster=fields.text("cluster", default="") or None,
        target=target,
    )


def _coded(values: Iterable[T]) -> tuple[list[T], Codes]:
    """Distinct values in the order of their appearance, and each value's place among them."""
    places: dict[T, int] = {}
    codes = [places.setdefault(value, len(places)) for value in values]
    return list(places), np.array(codes, np.int64)
