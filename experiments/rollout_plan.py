"""How an experiment may grow, and what must hold before it does."""

from itertools import pairwise
from math import isfinite

from msgspec import Struct

from experiments.fixed import WHOLE_BP


class Rollout(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stages of traffic and the limits that a stage is judged by.

    The split of the variants stays as it is defined, so a larger stage only adds units.
    """

    stages_bp: tuple[int, ...] = (100, 500, 2_000, 5_000, 10_000)
    """Share of the eligible units that take part, stage by stage; rising, the last is everybody."""
    automatic: bool = False
    """Whether the rule may advance, promote and roll back by itself."""
    dry_run: bool = False
    """Whether the rule only records what it would do."""
    minimum_stage_s: float = 86_400.0
    """Least seconds between the start of a stage and a step up."""
    minimum_users: int = 1_000
    """Least units per variant and stage before a step up."""
    ctr_margin: float = 0.02
    """How much CTR may be lost, relative to the control's: the margin of non-inferiority."""
    latency_margin: float = 0.05
    """How much latency may be gained, relative to the control's."""
    latency_gain: float = 0.0
    """How much faster than the control a variant must be to be called faster, relative."""
    max_error_rate: float = 0.01
    """Share of the assigned requests that may get no slate."""
    max_fallback_rate: float = 0.05
    """Share of the slates that may come from a fallback."""
    max_crossover_rate: float = 0.01
    """Share of the units that may have seen more than one variant of a phase."""
    confidence: float = 0.95
    """Coverage of every interval, over all looks together."""

    def __post_init__(self) -> None:
        self._check_stages()
        for field in ("ctr_margin", "latency_gain"):
            _check_within(field, getattr(self, field), 0.0, 1.0, upto=False)
        _check_within("latency_margin", self.latency_margin, 0.0, 10.0)
        for field in ("max_error_rate", "max_fallback_rate", "max_crossover_rate"):
            _check_within(field, getattr(self, field), 0.0, 1.0)
        if not 0.5 <= self.confidence <= 0.9999:
            raise ValueError(f"rollout.confidence must be 0.5 to 0.9999, got {self.confidence}")
        if not (isfinite(self.minimum_stage_s) and self.minimum_stage_s >= 0):
            raise ValueError(
                f"rollout.minimum_stage_s must be finite and at least 0, got {self.minimum_stage_s}"
            )
        if self.minimum_users < 2:
            raise ValueError(f"rollout.minimum_users must be at least 2, got {self.minimum_users}")

    def _check_stages(self) -> None:
        stages = self.stages_bp
        rising = all(low < high for low, high in pairwise(stages))
        if not stages or not rising or stages[0] < 1 or stages[-1] != WHOLE_BP:
            raise ValueError(
                f"rollout.stages_bp must rise from at least 1 to {WHOLE_BP}, got {list(stages)}"
            )


def _check_within(field: str, value: float, low: float, high: float, *, upto: bool = True) -> None:
    # Written so that NaN fails.
    if not (low <= value <= high if upto else low <= value < high):
        bound = "at most" if upto else "below"
        raise ValueError(
            f"rollout.{field} must be at least {low:g} and {bound} {high:g}, got {value}"
        )
