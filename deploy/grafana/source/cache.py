"""What the score cache spares the engines, and what it costs."""

from expressions import Query, of, per_second, quantile, quantiles, ratio, total
from grafana_foundation_sdk.models.dashboard import Dashboard
from layout import Section, board
from panels import BAD, GOOD, WELL, Panel, above, figure, lines, states

CACHE = 'store="cache"'
CANDIDATES = "podium_cache_candidates_total"


def cache() -> Dashboard:
    return board(
        "podium-cache",
        "Podium / Cache",
        "Hit rates, where scores were found and how old they were, and how the cache server is.",
        (
            Section("Hit rate", _hits()),
            Section("What was found", _found()),
            Section("Score rows", _rows()),
            Section("Servers", _servers()),
        ),
    )


def _hits() -> tuple[Panel, ...]:
    known = per_second(CANDIDATES, 'result="hit"')
    asked = per_second(CANDIDATES)
    slates = per_second("podium_cache_total", 'result=~"hit|stale"')
    answers = per_second("podium_cache_total", 'result!="bypass"')
    return (
        figure(
            "Hit rate",
            "Known scores divided by scores asked for, per candidate. The target is "
            "podium:target:hit_rate in deploy/prometheus/rules/targets.yml.",
            "percentunit",
            Query(ratio(known, asked), "hit rate"),
            levels=above(0.3, 0.5),
            decimals=1,
            width=6,
        ),
        figure(
            "Whole slates",
            "Rankings answered from the cache alone, of those that asked it.",
            "percentunit",
            Query(ratio(slates, answers), "slates"),
            decimals=1,
            width=6,
        ),
        figure(
            "Rows spared",
            "Rows a second that no engine had to score.",
            "rowsps",
            Query(known, "spared"),
            width=6,
        ),
        figure(
            "Cache server",
            "1: used. 0: it failed and is left alone but for a look now and then.",
            "none",
            Query(f"min({of('podium_store_state', CACHE)})", "cache"),
            levels=WELL,
            width=6,
        ),
        lines(
            "Hit rate over time",
            "Per candidate; the day's own is what the alert compares it with.",
            "percentunit",
            Query(ratio(known, asked), "now"),
            Query('job:podium_cache_hits:ratio_rate30m{job="$job"}', "30 minutes"),
            Query('job:podium_cache_hits:ratio_avg1d{job="$job"}', "the day"),
            width=12,
            most=1,
        ),
        lines(
            "Rankings by what the cache gave",
            "hit: all of it. partial: some. stale: known, and computed anew behind the reply. "
            "bypass: the cache could not be used for this request. error: it failed.",
            "reqps",
            Query(per_second("podium_cache_total", by="result"), "{{result}}"),
            stacked=True,
            width=12,
        ),
    )


def _found() -> tuple[Panel, ...]:
    return (
        lines(
            "Time spent on asking",
            "What a ranking waited for the cache.",
            "s",
            *quantiles("podium_cache_seconds"),
        ),
        lines(
            "Found where",
            "process: in the worker's own memory. server: in Redis.",
            "reqps",
            Query(per_second("podium_cache_found_total", by="level"), "{{level}}"),
            stacked=True,
        ),
        lines(
            "Age of what was found",
            "How long ago the slates were computed.",
            "s",
            Query(quantile(0.5, "podium_cache_age_seconds"), "p50"),
            Query(quantile(0.95, "podium_cache_age_seconds"), "p95"),
        ),
        lines(
            "Renewals",
            "Slates computed anew behind a reply. elsewhere: another process did it. too_many: "
            "there were enough under way.",
            "ops",
            Query(per_second("podium_cache_renewals_total", by="result"), "{{result}}"),
        ),
        lines(
            "Memory in the workers",
            "About what the workers keep in front of Redis.",
            "bytes",
            Query(total(of("podium_cache_process_bytes"), "instance"), "{{instance}}"),
        ),
        lines(
            "Slates in the workers",
            "Entries that the workers keep in front of Redis.",
            "none",
            Query(total(of("podium_cache_process_entries"), "instance"), "{{instance}}"),
        ),
    )


def _rows() -> tuple[Panel, ...]:
    return (
        lines(
            "Score rows",
            "Deployments in a segment mode keep one row per item; what became of the lookups. All "
            "are 0 where no deployment has such a mode.",
            "ops",
            Query(per_second("podium_cache_rows_total", by="result"), "{{result}}"),
            width=12,
        ),
        lines(
            "Fetch or score a row",
            "CPU time of fetching a row from Redis and of scoring it instead, as learnt: rows are "
            "fetched only where that is cheaper.",
            "s",
            Query(
                f"max by (deployment) ({of('podium_cache_row_lookup_seconds')})",
                "{{deployment}} fetch",
            ),
            Query(
                f"max by (deployment) ({of('podium_cache_row_scoring_seconds')})",
                "{{deployment}} score",
            ),
            width=12,
        ),
    )


def _servers() -> tuple[Panel, ...]:
    redis = "db_client_operation_duration_seconds"
    return (
        lines(
            "What the cache could not do",
            "Rankings go on without it. left_alone: the breaker is open, so nothing was asked.",
            "ops",
            Query(per_second("podium_cache_failures_total", by="reason"), "{{reason}}"),
        ),
        lines(
            "Cache server p99",
            "By operation.",
            "s",
            Query(
                quantile(0.99, redis, CACHE, by="db_operation_name"),
                "{{db_operation_name}}",
            ),
        ),
        states(
            "Redis servers",
            "used, or left alone after failures.",
            Query(
                f"min by (instance, store) ({of('podium_store_state')})", "{{instance}} {{store}}"
            ),
            {"0": ("left alone", BAD), "1": ("used", GOOD)},
            width=8,
        ),
    )
