"""Whether it pays to fetch score rows from Redis, learnt while serving. Pure: no clock.

A fetch costs CPU time for each row that is asked, found or not; a row that is
found saves the engine one row. So fetching pays while

    cost of asking for a row  <  share of them that is found  x  cost of scoring a row.

What is measured is noisy, and a rule that acts on every sample would flip to and
fro. So the two sides must differ by `MARGIN` before the rule changes its mind, on
means over about the last `1 / WEIGHT` samples. While it says no, one request in
`EXPLORED` fetches all the same: costs change with load, with the machine's
neighbours and with the model, and who never asks never learns.
"""

from typing import Literal

from msgspec import Struct

from service.cache.costs import WEIGHT, Costs

RowsMode = Literal["auto", "always", "never"]

MARGIN = 1.25
"""How many times as much the dearer way must cost for the rule to change its mind."""
EXPLORED = 50
"""One request in so many fetches although it does not pay."""


class WorthReport(Struct, frozen=True, kw_only=True):
    """What is known of both ways, for metrics and for people who ask why."""

    fetching: bool
    """Whether requests fetch rows from Redis now."""
    forced: bool
    """Because the settings say so."""
    lookup_row_s: float | None
    """CPU time of asking Redis for a row; None: not measured yet."""
    scoring_row_s: float | None
    """What an engine takes for a row; None: not learnt yet."""
    found: float
    """Share of the rows asked that were found, 0..1."""
    changes: int
    """How often the rule has changed its mind."""


class RowWorth:
    """Decides request by request. For one event loop.

    Args:
        mode: auto decides by cost; the others are decided.
    """

    def __init__(self, mode: RowsMode) -> None:
        self._mode = mode
        self._pays = True
        self._declined = 0
        self._costs = Costs()
        self._found = 1.0
        self._changes = 0

    def fetches(self) -> bool:
        """Whether this request fetches the rows that this process does not hold."""
        if self._mode != "auto":
            return self._mode == "always"
        if self._pays:
            return True
        self._declined += 1
        return self._declined % EXPLORED == 0

    def looked_up(self, rows: int, found: int, cpu_s: float | None) -> None:
        """Learn from a fetch.

        Args:
            rows: Asked for, one or more.
            found: Of these.
            cpu_s: What it cost; None where that was not measured.
        """
        self._found += WEIGHT * (found / rows - self._found)
        if cpu_s is not None:
            self._costs.looked_up(cpu_s / rows)
        self._decide()

    def scoring_costs(self, row_s: float | None) -> None:
        """Take in what the engine has learnt that a row takes; None: nothing yet."""
        if row_s is not None:
            self._costs.scored(row_s)

    def report(self) -> WorthReport:
        """How the two ways compare now."""
        return WorthReport(
            fetching=self._pays if self._mode == "auto" else self._mode == "always",
            forced=self._mode != "auto",
            lookup_row_s=self._costs.lookup_s,
            scoring_row_s=self._costs.scoring_s,
            found=self._found,
            changes=self._changes,
        )

    def _decide(self) -> None:
        if (known := self._costs.known) is None:
            return
        lookup_s, scoring_s = known
        saved_s = self._found * scoring_s
        dearer, cheaper = lookup_s > MARGIN * saved_s, MARGIN * lookup_s < saved_s
        if (self._pays and dearer) or (not self._pays and cheaper):
            self._pays = not self._pays
            self._changes += 1
