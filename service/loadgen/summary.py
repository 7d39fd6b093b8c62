"""What shoppers met, as text for a terminal."""

from service.loadgen.shoppers import Outcome, Tally


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
    return (
        f"{tally.clicks:,} clicks on {tally.impressions:,} impressions, "
        f"CTR {tally.ctr:.2%}, true CTR {tally.true_ctr:.2%}"
    )
