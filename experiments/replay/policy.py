"""The policy in question: how probable it makes every action, slot by slot."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from msgspec import Struct

from experiments.replay.log import Codes, Floats, Log
from experiments.replay.tables import Fields, TableInvalid, read_rows

_ROUNDING = 1e-3
"""By how much the probabilities of a slot may miss 1: they were written with few digits."""


class PolicyEntry(Struct, frozen=True, kw_only=True):
    """What a policy does with one action."""

    action: str
    probability: float
    position: int | None = None
    """None: the same in every position."""
    context: str | None = None
    """None: the same in every context."""


class Policy(Struct, frozen=True, kw_only=True):
    """A policy on the slots of a log, all of shape ``[entries]``; probabilities of 0 are left out.

    An action beyond the log's has a code from ``len(log.actions)`` on.
    """

    names: tuple[str, ...]
    """Of the actions; the log's come first."""
    slot: Codes
    action: Codes
    probability: Floats

    @property
    def deterministic(self) -> bool:
        """Whether it always does the same in a slot."""
        return bool(np.all(self.probability == 1))

    def of_rows(self, log: Log) -> Floats:
        """The probability that it gives each row's action, 0 where it never takes it."""
        width = len(self.names)
        keys = self.slot * width + self.action
        order = np.argsort(keys)
        keys, asked = keys[order], log.slot * width + log.action
        at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
        found: Floats = np.where(keys[at] == asked, self.probability[order][at], 0.0)
        return found


def read_policy(lines: Iterable[str], log: Log, *, where: str) -> Policy:
    """Read a policy from CSV or NDJSON.

    Columns: ``action`` (or ``item``) and ``probability`` or ``score``; optional
    ``context`` (none: the same in every one) and, with probabilities, ``position``.
    Scores stand for the ranking by them: the best is certain in position 1, the
    second in position 2; of equal ones the first in the file is the better.

    Raises:
        TableInvalid: a row is impossible, or what a slot of the log gets is no distribution.
    """
    rows = list(read_rows(lines, where=where))
    scored = any(row.has("score") for row in rows)
    if scored and any(row.has("probability") for row in rows):
        raise TableInvalid(where, None, "give probability or score, not both")
    if scored:
        highest = max(position for _, position in log.slots)
        return policy_of(_ranked(rows, highest), log, where=where)
    return policy_of(map(_entry, rows), log, where=where)


def policy_of(entries: Iterable[PolicyEntry], log: Log, *, where: str = "the policy") -> Policy:
    """A policy on the slots of a log.

    Raises:
        TableInvalid: a slot gets an action twice, or probabilities that do not sum to 1.
    """
    places = {name: at for at, name in enumerate(log.actions)}
    by_slot: dict[tuple[str | None, int | None], dict[int, float]] = {}
    for entry in entries:
        given = by_slot.setdefault((entry.context, entry.position), {})
        code = places.setdefault(entry.action, len(places))
        if code in given:
            raise TableInvalid(where, None, f"{_place(entry)} has {entry.action!r} twice")
        given[code] = entry.probability
    slots, actions, probabilities = [], [], []
    for at, slot in enumerate(log.slots):
        found = _distribution(by_slot, slot, where)
        slots += [at] * len(found)
        actions += list(found)
        probabilities += list(found.values())
    return Policy(
        names=tuple(places),
        slot=np.array(slots, np.int64),
        action=np.array(actions, np.int64),
        probability=np.array(probabilities, np.float64),
    )


def _distribution(
    by_slot: dict[tuple[str | None, int | None], dict[int, float]],
    slot: tuple[str, int],
    where: str,
) -> dict[int, float]:
    """What the policy does in a slot of the log: the most special of its entries that fit."""
    context, position = slot
    fits = [by_slot.get((c, p)) for c in (context, None) for p in (position, None)]
    given = next((found for found in fits if found is not None), None)
    name = f"position {position}" + (f" of the context {context!r}" if context else "")
    if given is None:
        raise TableInvalid(where, None, f"it says nothing about {name}, which the log has")
    total = sum(given.values())
    if abs(total - 1) > _ROUNDING:
        raise TableInvalid(where, None, f"its probabilities for {name} sum to {total:g}, not to 1")
    return {code: probability / total for code, probability in given.items() if probability > 0}


def _entry(fields: Fields) -> PolicyEntry:
    probability = fields.number("probability")
    if not 0 <= probability <= 1:
        raise fields.refused(f"probability must be 0 to 1, got {probability:g}")
    position = fields.number("position") if fields.has("position") else None
    return PolicyEntry(
        action=fields.text("action", "item"),
        probability=probability,
        position=None if position is None else int(position),
        context=fields.text("context", default="") or None,
    )


def _ranked(rows: Sequence[Fields], positions: int) -> Iterator[PolicyEntry]:
    by_context: dict[str | None, list[tuple[float, str]]] = {}
    for row in rows:
        if row.has("position"):
            raise row.refused("a score holds for a context; positions follow from the ranking")
        context = row.text("context", default="") or None
        scored = (row.number("score"), row.text("action", "item"))
        by_context.setdefault(context, []).append(scored)
    for context, scores in by_context.items():
        best = sorted(scores, key=lambda scored: -scored[0])[:positions]
        for position, (_, action) in enumerate(best, start=1):
            yield PolicyEntry(action=action, probability=1, position=position, context=context)


def _place(entry: PolicyEntry) -> str:
    position = "every position" if entry.position is None else f"position {entry.position}"
    return position if entry.context is None else f"{position} of the context {entry.context!r}"
