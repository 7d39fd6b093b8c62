"""What shoppers saw and did, what went wrong, and how that reads on a terminal."""

import msgspec
from msgspec import Struct

from ranking_models.marketplace.exact import Float64


class Tally(Struct, kw_only=True):
    """What was shown and clicked; the truth beside what happened."""

    slates: int = 0
    impressions: int = 0
    expected_clicks: float = 0.0
    """Sum of the true click probabilities of all impressions."""
    clicks: int = 0

    @property
    def true_ctr(self) -> float:
        """Mean true click probability of the impressions; NaN without any."""
        return self.expected_clicks / self.impressions if self.impressions else float("nan")

    @property
    def ctr(self) -> float:
        """Clicks per impression; NaN without any."""
        return self.clicks / self.impressions if self.impressions else float("nan")

    def add(self, probabilities: Float64, clicked: int) -> None:
        """Count one slate."""
        self.slates += 1
        self.impressions += len(probabilities)
        self.expected_clicks += float(probabilities.sum())
        self.clicks += clicked


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of all visits."""

    everything: Tally
    variants: dict[tuple[str, str], Tally]
    """Experiment key and variant to what its units saw."""
    failures: dict[str, int]
    """What went wrong, in words, and how often; empty if nothing did."""
    degraded: dict[str, int]
    """Slates by kind of degradation."""
    events: dict[str, int]
    """Impressions and clicks by what became of them."""
    elapsed_s: float


def plain_outcome(outcome: Outcome) -> dict[str, object]:
    """The same as values that JSON takes; of nothing shown there is no CTR."""
    variants = [
        {"experiment": experiment, "variant": variant, **_plain_tally(tally)}
        for (experiment, variant), tally in sorted(outcome.variants.items())
    ]
    return {
        **msgspec.structs.asdict(outcome),
        "everything": _plain_tally(outcome.everything),
        "variants": variants,
    }


def _plain_tally(tally: Tally) -> dict[str, object]:
    return {**msgspec.structs.asdict(tally), "true_ctr": tally.true_ctr}


def render_outcome(outcome: Outcome) -> str:
    """A few lines: what was shown and clicked, by variant, and all that went wrong."""
    everything = outcome.everything
    lines = [
        f"{everything.slates:,} slates in {outcome.elapsed_s:.1f} s: {_clicks(everything)}",
        *(
            f"  {experiment} / {variant}: {tally.slates:,} slates, {_clicks(tally)}"
            for (experiment, variant), tally in sorted(outcome.variants.items())
        ),
    ]
    for title, counts in (
        ("events", outcome.events),
        ("degraded slates", outcome.degraded),
        ("FAILED", outcome.failures),
    ):
        if counts:
            listed = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
            lines.append(f"{title}: {listed}")
    return "\n".join(lines)


def _clicks(tally: Tally) -> str:
    counts = f"{tally.clicks:,} clicks on {tally.impressions:,} impressions"
    if not tally.impressions:
        return counts
    return f"{counts}, CTR {tally.ctr:.2%}, true CTR {tally.true_ctr:.2%}"
