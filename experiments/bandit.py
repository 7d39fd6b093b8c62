"""Thompson sampling: shares of traffic follow the chance of each variant to be the best one.

A variant's CTR has a Beta posterior; its share is how often a draw from it beats the
draws of all others. Shares stand still between two allocations (a phase), so every unit
is drawn with a known probability, and no share falls below a floor, so every variant
goes on being seen.

What such an experiment cannot have is a plain comparison of sums: a variant gets traffic
because its figures were good, at times that others did not get it, so sums of clicks over
sums of impressions are biased and their intervals wrong. Weighting each phase by the
inverse of the share that the variant had makes every phase count alike for every variant;
the floor bounds the weights.

Source:
    Thompson (1933), "On the likelihood that one unknown probability exceeds another",
    Biometrika 25; Chapelle, Li (2011), "An empirical evaluation of Thompson sampling",
    NIPS. Horvitz, Thompson (1952), JASA 47 (inverse-propensity weighting); Hadad,
    Hirshberg, Zhan, Wager, Athey (2021), "Confidence intervals for policy evaluation in
    adaptive experiments", PNAS 118; arXiv:1911.02768 (what bounded weights are needed for).
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from experiments.decisions import DecisionRecord
from experiments.definition import WHOLE_BP, Experiment, Variant
from experiments.hashing.murmur import seed_of
from experiments.standing import Standing, in_force
from experiments.stats import Interval, NotEnoughData
from experiments.stats.ratio import RatioSample, ratio_interval
from experiments.variant_statistics import CELLS, VariantStatistics

LEAST_MOVE_BP = 100
"""Shares that would move by less stay: each move begins a phase, and is mostly noise."""

FLOOR_BP = 500
"""Least share of a variant. It bounds the weight of one click to 20, and lets a
variant that had bad luck, or is better on Sundays, come back."""

MOST_PHASES = 24
"""Older phases are forgotten, as tastes change."""

DRAWS = 20_000
"""Draws behind an allocation: a share is within 0.7 percentage points, 19 times in 20."""

_ONE_SIGMA = 0.682689492137086
"""The confidence of an interval of one standard error either side."""


class Allocated(Struct, frozen=True, kw_only=True):
    """A phase of a bandit: the shares it had, and what came of them."""

    shares_bp: Mapping[str, int]
    statistics: Mapping[str, VariantStatistics]
    """A variant without events may be absent."""


class Posterior(Struct, frozen=True):
    """What is known of a variant's CTR: Beta(1 + successes, 1 + failures)."""

    successes: float
    failures: float


class ArmAllocation(Struct, frozen=True, kw_only=True):
    """One variant of an allocation, with what it rests on."""

    variant: str
    before_bp: int
    share_bp: int
    successes: float
    failures: float
    ctr: float | None
    low: float | None
    high: float | None
    """The estimate weighted by propensity, with its 95 % interval."""
    missing: str | None
    """Why there is no estimate; None if there is one."""


class Allocation(Struct, frozen=True, kw_only=True):
    """New shares and their grounds."""

    arms: tuple[ArmAllocation, ...]
    phases: int
    """How many were looked at."""
    floor_bp: int
    draws: int
    seed: int

    @property
    def shares_bp(self) -> dict[str, int]:
        """Variant to share, together 10 000."""
        return {arm.variant: arm.share_bp for arm in self.arms}

    @property
    def moves(self) -> bool:
        """Whether a share moves by enough to begin a phase for it."""
        return any(abs(arm.share_bp - arm.before_bp) >= LEAST_MOVE_BP for arm in self.arms)


def reallocated(experiment: Experiment, phases: Sequence[Allocated]) -> Allocation | None:
    """The shares that the figures ask for; None before the first impression.

    Args:
        experiment: As it is in force.
        phases: Those to learn from. Leaving out old ones is the forgetting.
    """
    if not any(sums.impressions for phase in phases for sums in phase.statistics.values()):
        return None
    names = [variant.name for variant in experiment.variants]
    known = [posterior(phases, name) for name in names]
    seed = seed_of(f"{experiment.key}.{experiment.phase}.allocation")
    floor_bp = min(FLOOR_BP, WHOLE_BP // (2 * len(names)))
    shares = allocation(known, seed=seed, floor_bp=floor_bp)
    return Allocation(
        arms=tuple(
            _arm(variant, share, about, phases)
            for variant, share, about in zip(experiment.variants, shares, known, strict=True)
        ),
        phases=len(phases),
        floor_bp=floor_bp,
        draws=DRAWS,
        seed=seed,
    )


def shares_by_phase(
    definition: Experiment, standing: Standing, records: Iterable[DecisionRecord]
) -> dict[int, dict[str, int]]:
    """The phases to learn from, with the shares that each variant had; at most `MOST_PHASES`.

    Args:
        definition: As written.
        standing: What is in force now.
        records: Of the audit log, newest first. Phases of another split or other models,
            and those in which nobody was split, are left out.
    """
    found: dict[int, dict[str, int]] = {}
    for one in (standing, *(record.after for record in records)):
        if one is None or one.counted != "running":
            continue
        if (one.definition, one.models) != (standing.definition, standing.models):
            continue
        if len(found) < MOST_PHASES and one.phase not in found:
            split = in_force(definition, replace(one, state="running", promoted=None))
            found[one.phase] = {variant.name: variant.share_bp for variant in split.variants}
    return found


def refuse_plain_tests(experiment: Experiment) -> str | None:
    """Why comparisons of plain sums say nothing here; None if they may be made."""
    if experiment.policy != "thompson":
        return None
    return (
        "Thompson sampling gives traffic to the variants whose figures were good, so plain "
        "comparisons of its sums are biased; read the estimates weighted by propensity"
    )


def weighted_ctr(
    phases: Sequence[Allocated], variant: str, *, confidence: float = 0.95
) -> Interval:
    """The CTR of a variant over all phases, weighted by inverse propensity.

    A phase's clicks and impressions count ``1 / share`` each: what they would
    have been if the variant had had all the traffic. Clustered by cells of
    units, over the phases, as a unit may come back in each.

    Raises:
        NotEnoughData: too few clicks or units, or a phase in which the variant had no share.
    """
    return ratio_interval(_weighted(phases, variant), confidence=confidence)


def posterior(phases: Sequence[Allocated], variant: str) -> Posterior:
    """What the phases say about a variant's CTR.

    As many successes and failures as would give the weighted estimate its
    standard error: less than were counted, as impressions of one unit resemble
    each other and weights are unequal. Before an estimate is possible, the counts.
    Phases in which it had no share say nothing of it.
    """
    had_share = [phase for phase in phases if phase.shares_bp.get(variant, 0)]
    counted = [phase.statistics[variant] for phase in had_share if variant in phase.statistics]
    impressions = float(sum(sums.impressions for sums in counted))
    clicks = min(float(sum(sums.clicks for sums in counted)), impressions)
    try:
        about = ratio_interval(_weighted(had_share, variant), confidence=_ONE_SIGMA)
    except NotEnoughData:
        return Posterior(clicks, impressions - clicks)
    rate = min(about.value, 1.0)
    error = (about.high - about.low) / 2
    # A ratio of sums may pass 1 where impressions are not reported; then there are no failures.
    worth = min(rate * (1 - rate) / error**2, impressions) if rate < 1 else impressions
    return Posterior(rate * worth, (1 - rate) * worth)


def allocation(
    posteriors: Sequence[Posterior],
    *,
    seed: int,
    floor_bp: int = FLOOR_BP,
    draws: int = DRAWS,
) -> tuple[int, ...]:
    """Shares in basis points, together 10 000: the chance to be best, above a floor.

    Args:
        posteriors: One per variant.
        seed: Of the draws; equal arguments give equal shares.
        floor_bp: Least share of each.
        draws: From each posterior.

    Raises:
        ValueError: the floors alone are more than everything.
    """
    count = len(posteriors)
    left = WHOLE_BP - count * floor_bp
    if left < 0:
        raise ValueError(f"{count} variants with at least {floor_bp} bp each are more than all")
    successes = np.array([p.successes for p in posteriors])
    failures = np.array([p.failures for p in posteriors])
    drawn = np.random.default_rng(seed).beta(1 + successes, 1 + failures, (draws, count))
    best = np.bincount(drawn.argmax(axis=1), minlength=count)
    return _rounded([floor_bp + left * wins / draws for wins in best.tolist()])


def _arm(
    variant: Variant, share_bp: int, about: Posterior, phases: Sequence[Allocated]
) -> ArmAllocation:
    ctr, missing = None, None
    try:
        ctr = weighted_ctr(phases, variant.name)
    except NotEnoughData as reason:
        missing = str(reason)
    return ArmAllocation(
        variant=variant.name,
        before_bp=variant.share_bp,
        share_bp=share_bp,
        successes=about.successes,
        failures=about.failures,
        ctr=ctr.value if ctr else None,
        low=ctr.low if ctr else None,
        high=ctr.high if ctr else None,
        missing=missing,
    )


def _rounded(shares: Sequence[float]) -> tuple[int, ...]:
    """Whole basis points with the same sum: the largest remainders are rounded up."""
    whole = [int(share) for share in shares]
    missing = WHOLE_BP - sum(whole)
    by_remainder = sorted(range(len(shares)), key=lambda at: whole[at] - shares[at])
    for at in by_remainder[:missing]:
        whole[at] += 1
    return tuple(whole)


def _weighted(phases: Sequence[Allocated], variant: str) -> RatioSample:
    clicks, impressions = np.zeros(CELLS), np.zeros(CELLS)
    for phase in phases:
        share = phase.shares_bp.get(variant, 0)
        if share == 0:
            raise NotEnoughData(f"{variant!r} had no share of the traffic in one of the phases")
        if variant in phase.statistics:
            sums = phase.statistics[variant]
            clicks += sums.cell_clicks * (WHOLE_BP / share)
            impressions += sums.cell_impressions * (WHOLE_BP / share)
    return RatioSample(clicks, impressions)
