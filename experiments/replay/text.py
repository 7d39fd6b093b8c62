"""A replay as a person reads it."""

from experiments.replay.evaluation import PolicyValue, Replay


def render_replay(found: Replay) -> str:
    """A few lines: what the log holds, how far it carries, and every estimate."""
    support = found.support
    lines = [
        f"{found.rows} rows of {found.clusters} clusters, {found.reward:g} reward",
        f"worth {support.effective_rows:.0f} rows for this policy; the weights average "
        f"{support.mean_weight:.3f}, the largest has {100 * support.largest_weight:.2g} % of all",
    ]
    if support.unsupported:
        lines.append(f"{100 * support.unsupported:.2g} % of its choices are not in the log")
    lines += ["", f"reward per row        value   {100 * found.confidence:g} % interval"]
    lines += [_line(value) for value in (found.logged, *found.values)]
    return "\n".join(lines)


def _line(value: PolicyValue) -> str:
    name = "the log's own policy" if value.estimator == "logged" else f"  {value.estimator}"
    if value.interval is None:
        return f"{name:<20} {'-':>8}   {value.missing}"
    found = value.interval
    return f"{name:<20} {found.value:>8.5f}   {found.low:.5f} to {found.high:.5f}"
