"""What asking Redis costs and what scoring instead costs: means over noisy samples."""

from typing import Final

WEIGHT: Final = 0.02
"""Of the newest sample in a mean: about the last 50 count."""
FIRST_SAMPLES: Final = 8
"""Before so many lookups were measured, all are made: that is how their cost is learnt."""
OUTLIER: Final = 4.0
"""A sample counts at most so many times the mean: whatever else ran meanwhile was no lookup."""


class Costs:
    """Seconds of a lookup and of scoring, of whatever unit its user has."""

    __slots__ = ("_samples", "lookup_s", "scoring_s")

    def __init__(self) -> None:
        self._samples = 0
        self.lookup_s: float | None = None
        """None: not measured yet."""
        self.scoring_s: float | None = None
        """None: not learnt yet."""

    @property
    def known(self) -> tuple[float, float] | None:
        """Lookup and scoring, once both can be compared."""
        if self._samples < FIRST_SAMPLES or self.lookup_s is None or self.scoring_s is None:
            return None
        return self.lookup_s, self.scoring_s

    def looked_up(self, sample_s: float) -> None:
        """A lookup was measured."""
        self._samples += 1
        if self.lookup_s is None:
            self.lookup_s = sample_s
            return
        sample_s = min(sample_s, OUTLIER * self.lookup_s)
        self.lookup_s += max(WEIGHT, 1 / self._samples) * (sample_s - self.lookup_s)

    def scored(self, sample_s: float) -> None:
        """Scoring was measured."""
        before_s = sample_s if self.scoring_s is None else self.scoring_s
        self.scoring_s = before_s + WEIGHT * (sample_s - before_s)
