"""Shoppers of a simulated marketplace, added up to the sums that a rollout is judged by.

Units, visits and clicks are drawn with numpy, so that a whole rollout takes a fraction of a
second and thousands of them a minute. What is planted (CTR, latency, failures) is known.
"""

from math import log

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from experiments.definition import Experiment, Variant
from experiments.rollout import Judgement, PhaseFigures, judge
from experiments.rollout_plan import Rollout
from experiments.standing import Change, Standing, after, first_standing
from experiments.variant_statistics import CELLS, LOG_UNIT, VariantStatistics

_SUMS = (
    *("shown", "clicked", "slates", "logs"),
    *("computed", "log_computed", "failed", "degraded"),
)
_NOTHING = VariantStatistics.from_fields({})


class Truth(Struct, frozen=True, kw_only=True):
    """What a variant really does."""

    ctr: float = 0.05
    latency_ms: float = 20.0
    """Median of slates that are computed; one from the cache takes 1 ms."""
    hit_rate: float = 0.3
    errors: float = 0.0
    degraded: float = 0.0
    loses_units: float = 0.0
    """Share of its units that never arrive, such as by a crash of their client."""
    leaks: float = 0.0
    """Share of its units that were seen in another variant before."""


class Shoppers:
    """Units that come back, a few of them often, each with a taste of its own.

    Args:
        truths: Of the variants, the control first.
        shares_bp: Of the variants.
        units: How many there are.
        seed: Of everything that is drawn.
    """

    slots = 5
    """Items shown in a visit."""

    def __init__(
        self, truths: tuple[Truth, ...], shares_bp: tuple[int, ...], *, units: int, seed: int
    ) -> None:
        self._rng = rng = np.random.default_rng(seed)
        self.truths = truths
        self._units = units
        often = rng.pareto(3.0, units) + 0.3
        self._often = np.cumsum(often) / often.sum()
        self._taste = rng.beta(8.0, 8.0, units) * 2  # mean 1
        self._gate = rng.random(units)
        ends = np.cumsum(shares_bp) / sum(shares_bp)
        self._arm = np.searchsorted(ends, rng.random(units), side="right")
        self._cell = rng.integers(0, CELLS, units)
        self._lost = rng.random(units)
        self.begin()

    def begin(self) -> None:
        """Begin a phase: nothing was counted in it yet."""
        arms = len(self.truths)
        self._seen = np.zeros(self._units, bool)
        self._sums = {name: np.zeros((arms, CELLS), np.int64) for name in _SUMS}

    def visit(self, visits: int, traffic_bp: int) -> None:
        """Let so many visits happen, of units inside and outside the traffic share."""
        rng = self._rng
        units = np.searchsorted(self._often, rng.random(visits))
        units = units[self._gate[units] < traffic_bp / 10_000]
        lost = np.array([truth.loses_units for truth in self.truths])
        units = units[self._lost[units] >= lost[self._arm[units]]]
        arm = self._arm[units]
        failed = rng.random(len(units)) < np.array([t.errors for t in self.truths])[arm]
        self._add("failed", units, failed.astype(np.int64))
        self._slates(units[~failed])

    def _slates(self, units: np.ndarray) -> None:
        rng, arm = self._rng, self._arm[units]
        self._seen[units] = True
        ctr = np.array([t.ctr for t in self.truths])[arm] * self._taste[units]
        clicks = rng.binomial(self.slots, np.minimum(ctr, 1.0))
        hit = rng.random(len(units)) < np.array([t.hit_rate for t in self.truths])[arm]
        medians = np.log(np.array([t.latency_ms for t in self.truths]))[arm]
        logs = np.where(hit, log(1.0), medians) + rng.normal(0.0, 0.4, len(units))
        logs = np.rint(logs / LOG_UNIT).astype(np.int64)
        degraded = rng.random(len(units)) < np.array([t.degraded for t in self.truths])[arm]
        ones = np.ones(len(units), np.int64)
        self._add("shown", units, ones * self.slots)
        self._add("clicked", units, clicks)
        self._add("slates", units, ones)
        self._add("logs", units, logs)
        self._add("computed", units, (~hit).astype(np.int64))
        self._add("log_computed", units, np.where(hit, 0, logs))
        self._add("degraded", units, degraded.astype(np.int64))

    def _add(self, name: str, units: np.ndarray, amounts: np.ndarray) -> None:
        np.add.at(self._sums[name], (self._arm[units], self._cell[units]), amounts)

    def figures(self, experiment: Experiment, phase: int) -> PhaseFigures:
        """What the aggregators would have added up."""
        names = [variant.name for variant in experiment.variants]
        return PhaseFigures(
            phase=phase, statistics={name: self._of(at) for at, name in enumerate(names)}
        )

    def _of(self, at: int) -> VariantStatistics:
        sums = {name: cells[at] for name, cells in self._sums.items()}
        users = int(np.sum(self._seen & (self._arm == at)))
        slates = int(sums["slates"].sum())
        hits = slates - int(sums["computed"].sum())
        return replace(
            _NOTHING,
            users=users,
            exposures=slates,
            impressions=int(sums["shown"].sum()),
            clicks=int(sums["clicked"].sum()),
            cache_hits=hits * 10,
            cache_misses=(slates - hits) * 10,
            crossovers=round(users * self.truths[at].leaks),
            lapses=int(sums["failed"].sum()),
            cell_impressions=sums["shown"],
            cell_clicks=sums["clicked"],
            cell_slates=sums["slates"],
            cell_log_latency=sums["logs"],
            cell_computed=sums["computed"],
            cell_log_computed=sums["log_computed"],
            cell_failures=sums["failed"],
            cell_degraded=sums["degraded"],
        )


def experiment_of(
    truths: tuple[Truth, ...], *, shares_bp: tuple[int, ...] | None = None, **fields: object
) -> Experiment:
    """An experiment ``x`` with the variants ``control``, ``b``, ``c`` ... and a short rollout."""
    count = len(truths)
    shares = shares_bp or (10_000 - (count - 1) * (10_000 // count),) + (10_000 // count,) * (
        count - 1
    )
    names = ["control", *"bcdefg"[: count - 1]]
    rule = {"automatic": True, "minimum_stage_s": 3_000.0, "minimum_users": 100}
    rule |= fields.pop("rollout", {})  # type: ignore[arg-type, operator]
    return Experiment(
        key="x",
        variants=tuple(
            Variant(name=name, share_bp=share) for name, share in zip(names, shares, strict=True)
        ),
        rollout=Rollout(**rule),  # type: ignore[arg-type]
        **fields,  # type: ignore[arg-type]
    )


class Course(Struct, frozen=True, kw_only=True):
    """How a simulated rollout went."""

    last: Judgement
    standing: Standing
    looks: int


def rollout(
    truths: tuple[Truth, ...],
    *,
    seed: int,
    looks: int = 40,
    visits: int = 20_000,
    units: int = 50_000,
    look_s: float = 1_000.0,
    shares_bp: tuple[int, ...] | None = None,
    **fields: object,
) -> Course:
    """Obey the gate until it promotes or rolls back, or the looks are used up.

    Args:
        truths: What the variants really do, the control first.
        seed: Of everything that is drawn.
        looks: Most judgements.
        visits: Between two looks, of all units.
        units: There are so many.
        look_s: Seconds between two looks.
        shares_bp: Of the variants; None for equal ones.
        fields: More of the `Experiment`; ``rollout`` takes fields of the `Rollout`.
    """
    definition = experiment_of(truths, shares_bp=shares_bp, **fields)
    shares = tuple(variant.share_bp for variant in definition.variants)
    shoppers = Shoppers(truths, shares, units=units, seed=seed)
    now, standing = 0.0, first_standing(definition, 0.0)
    used = 0
    while True:
        used, now = used + 1, now + look_s
        shoppers.visit(visits, standing.traffic_bp or 10_000)
        found = judge(definition, standing, shoppers.figures(definition, standing.phase), now)
        if found.action in ("promote", "rollback") or used == looks:
            return Course(last=found, standing=standing, looks=used)
        if found.action == "advance":
            standing = after(definition, standing, Change(action="advance"), now)
            shoppers.begin()


def fields_of(sums: VariantStatistics) -> dict[str, int]:
    """The sums under the names that they are kept under."""
    cells = {
        "i": sums.cell_impressions,
        "c": sums.cell_clicks,
        "n": sums.cell_slates,
        "g": sums.cell_log_latency,
        "m": sums.cell_computed,
        "k": sums.cell_log_computed,
        "x": sums.cell_failures,
        "d": sums.cell_degraded,
    }
    kept = ("users", "exposures", "impressions", "clicks", "cache_hits", "cache_misses", "lapses")
    return {name: getattr(sums, name) for name in kept} | {
        f"{prefix}{cell}": int(amount)
        for prefix, by_cell in cells.items()
        for cell, amount in enumerate(by_cell)
    }
