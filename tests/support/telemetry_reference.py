"""Writes the tables of metrics in ``service/telemetry/README.md`` from the metrics themselves.

python -m tests.support.telemetry_reference
"""

from pathlib import Path

from tests.support.every_metric import Shown, every_metric

PAGE = Path(__file__).parents[2] / "service" / "telemetry" / "README.md"
BEGIN, END = "<!-- metrics: made by `make reference` -->", "<!-- end of metrics -->"

UNITS = {
    "_seconds": "s",
    "_bytes": "bytes",
    "_ratio": "0 to 1",
    "_utilization": "0 to 1",
    "_watts": "W",
    "_celsius": "°C",
    "_hertz": "Hz",
    "_joules": "J",
    "_us": "µs",
    "_rows": "rows",
    "_pvalue": "0 to 1",
    "_overlap": "0 to 1",
    "_kendall_tau": "-1 to 1",
    "_score_drift": "0 to 1",
    "_power_usage": "W",
    "_power_limit": "W",
    "_energy_consumption": "J",
    "_per_hour": "any currency",
}
"""By how a name ends, ``_total`` left out; everything else is a number of what it names."""

PARTS = (
    ("HTTP and Redis", ("http_", "db_")),
    ("Rankings", ("podium_request", "podium_inflight", "podium_shed", "podium_degraded",
                  "podium_deadline", "podium_handed")),
    ("Cache", ("podium_cache", "podium_store")),
    ("Batches and engines", ("podium_batch", "podium_queue", "podium_rows", "podium_engine",
                             "podium_fallback", "podium_breaker", "podium_model")),
    ("Experiments", ("podium_experiment", "podium_assign", "podium_exposures_total",
                     "podium_variant", "podium_rollout", "podium_config", "podium_units",
                     "podium_impressions", "podium_clicks", "podium_srm", "podium_external",
                     "podium_shadow")),
    ("Events", ("podium_events", "podium_exposures_kept", "podium_spool", "podium_aggregation")),
    ("GPUs, where there are any", ("podium_gpu",)),
    ("The service itself", ("podium_build", "podium_price", "podium_workers", "podium_worker_",
                            "podium_telemetry", "process_")),
    ("Triton's names, with `telemetry.triton_names`", ("nv_",)),
)  # fmt: skip


def tables() -> str:
    """All parts, each a table by name."""
    metrics = every_metric()
    parts = [(title, [m for m in metrics if m.name.startswith(of)]) for title, of in PARTS]
    named = [metric.name for _, found in parts for metric in found]
    if sorted(named) != [metric.name for metric in metrics]:
        odd = {m.name for m in metrics} ^ set(named) or {n for n in named if named.count(n) > 1}
        raise AssertionError(f"each metric belongs to one part of the page: {sorted(odd)}")
    return "\n".join(_table(title, found) for title, found in parts)


def unit_of(metric: Shown) -> str:
    bare = metric.name.removesuffix("_total")
    return next((unit for end, unit in UNITS.items() if bare.endswith(end)), "number")


def _table(title: str, metrics: list[Shown]) -> str:
    lines = [
        f"### {title}",
        "",
        "| metric | type | labels | unit | meaning |",
        "|---|---|---|---|---|",
    ]
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        cells = (f"`{metric.name}`", metric.kind, labels, unit_of(metric), metric.meaning)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables()}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
