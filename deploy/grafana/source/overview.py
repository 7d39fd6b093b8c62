"""Is the service doing what was promised, and if not, where does it hurt?"""

from expressions import Query, of, per_second, quantile, quantiles, ratio, total, workers
from grafana_foundation_sdk.models.dashboard import Dashboard
from layout import Section, board, choice
from panels import WELL, Panel, above, below, figure, heat, lines

SURFACE = 'surface=~"$surface"'
VARIANT = 'variant=~"$variant"'
POPULARITY = 'reason="popularity"'
QUICK = 'le="0.05"'
CACHE, EVENTS = 'store="cache"', 'store="events"'
BAD_OUTCOMES = 'outcome=~"refused|expired|unavailable|error"'
COUNTED_OUTCOMES = 'outcome!~"invalid|cancelled"'


def service() -> Dashboard:
    return board(
        "podium-service",
        "Podium / Service",
        "Promises kept, traffic, latency, and what went wrong. Objectives and alerts are in "
        "deploy/prometheus.",
        (
            Section("Promises", _promises()),
            Section("Traffic", _traffic()),
            Section("Latency", _latency()),
            Section("What went wrong", _wrong()),
            Section("Processes", _processes()),
        ),
        choice("surface", "Surface", 'label_values(podium_requests_total{job="$job"}, surface)'),
        choice(
            "variant", "Variant", 'label_values(podium_request_seconds_count{job="$job"}, variant)'
        ),
    )


def _promises() -> tuple[Panel, ...]:
    lost = total(f"increase({of('podium_requests_total', BAD_OUTCOMES)}[$__range])")
    poor = total(f"increase({of('podium_degraded_total', POPULARITY)}[$__range])")
    asked = total(f"increase({of('podium_requests_total', COUNTED_OUTCOMES)}[$__range])")
    quick = total(f"increase({of('podium_request_seconds_bucket', QUICK)}[$__range])")
    timed = total(f"increase({of('podium_request_seconds_count')}[$__range])")
    return (
        figure(
            "Availability",
            "Share of rankings of the chosen time that got a computed slate. Refused, expired and "
            "failed ones count against it, and so do slates in order of popularity; invalid "
            "requests and callers that left do not count at all. Objective: 99.9 % in 30 days.",
            "percentunit",
            Query(f"1 - ({ratio(f'(({lost} or vector(0)) + {poor})', asked)})", "available"),
            levels=above(0.999, 0.9995),
            decimals=3,
        ),
        figure(
            "Within 50 ms",
            "Share of rankings of the chosen time that ended within 50 ms, whatever they ended "
            "with. Objective: 99 % in 30 days.",
            "percentunit",
            Query(ratio(quick, timed), "in time"),
            levels=above(0.99, 0.995),
            decimals=2,
        ),
        figure(
            "Availability burn, 1 h",
            "How many times faster than allowed the error budget of 30 days is being used up. At 1 "
            "it lasts 30 days, at 14.4 two days: then the fast alert fires.",
            "suffix: x",
            Query(
                'job:podium_rankings_lost:ratio_rate1h{job="$job"} '
                "/ on () group_left () (1 - podium:objective:availability)",
                "burn",
            ),
            levels=below(1, 14.4),
            decimals=1,
        ),
        figure(
            "Latency burn, 1 h",
            "The same for the latency objective.",
            "suffix: x",
            Query(
                'job:podium_rankings_slow:ratio_rate1h{job="$job"} '
                "/ on () group_left () (1 - podium:objective:latency)",
                "burn",
            ),
            levels=below(1, 14.4),
            decimals=1,
        ),
        figure(
            "Rankings",
            "Rankings a second, of all chosen instances and surfaces.",
            "reqps",
            Query(per_second("podium_requests_total", SURFACE), "rankings"),
        ),
        figure(
            "Workers",
            "Processes that serve, of all chosen instances.",
            "none",
            Query(workers(), "workers"),
        ),
    )


def _traffic() -> tuple[Panel, ...]:
    return (
        lines(
            "Rankings by outcome",
            "ok: a slate. degraded: less than was asked for. refused: 429. expired: 504. "
            "unavailable: 503. invalid: 4xx. cancelled: the caller left. error: 500.",
            "reqps",
            Query(per_second("podium_requests_total", SURFACE, by="outcome"), "{{outcome}}"),
            stacked=True,
        ),
        lines(
            "Rankings by surface",
            "`other` is whatever callers named and nobody configured.",
            "reqps",
            Query(per_second("podium_requests_total", SURFACE, by="surface"), "{{surface}}"),
            stacked=True,
        ),
        lines(
            "HTTP by route and status",
            "All requests, health checks and metrics included. Paths without a handler are "
            "`unmatched`.",
            "reqps",
            Query(
                per_second(
                    "http_server_request_duration_seconds_count",
                    by="http_route, http_response_status_code",
                ),
                "{{http_route}} {{http_response_status_code}}",
            ),
            stacked=True,
        ),
    )


def _latency() -> tuple[Panel, ...]:
    seconds = "podium_request_seconds"
    return (
        lines(
            "Ranking time",
            "From the arrival of a request to its slate or error. Points are traced requests.",
            "s",
            *quantiles(seconds, VARIANT),
            levels=below(0.025, 0.05),
            exemplars=True,
        ),
        lines(
            "p99 by variant",
            "`none` is traffic outside every experiment. Compare variants only where their hit "
            "rates are alike: the report of an experiment does that.",
            "s",
            Query(quantile(0.99, seconds, VARIANT, by="variant"), "{{variant}}"),
            exemplars=True,
        ),
        lines(
            "p99 by what the cache gave",
            "A hit needs no engine. `bypass` did not ask the cache, `none` ended without a slate.",
            "s",
            Query(quantile(0.99, seconds, VARIANT, by="cache"), "{{cache}}"),
            exemplars=True,
        ),
        heat("Ranking time, all of it", "How many rankings took how long.", "s", seconds),
        lines(
            "HTTP p99 by route",
            "From the first byte of a request to the last of its answer.",
            "s",
            Query(
                quantile(0.99, "http_server_request_duration_seconds", by="http_route"),
                "{{http_route}}",
            ),
            width=12,
            exemplars=True,
        ),
    )


def _wrong() -> tuple[Panel, ...]:
    return (
        lines(
            "Shed",
            "Rankings refused at the door with 429. queue_full: too many rows wait. "
            "deadline_unreachable: they would not have been scored in time.",
            "reqps",
            Query(per_second("podium_shed_total", by="reason"), "{{reason}}"),
            width=6,
        ),
        lines(
            "Degraded",
            "Answers with less than was asked for: scores of another engine than the first, "
            "stale ones, or the order of popularity.",
            "reqps",
            Query(per_second("podium_degraded_total", by="reason"), "{{reason}}"),
            width=6,
        ),
        lines(
            "Deadline passed",
            "Admitted rankings that were not scored in time, whatever they were answered with.",
            "reqps",
            Query(per_second("podium_deadline_exceeded_total"), "passed"),
            width=6,
        ),
        lines(
            "Spans lost",
            "Spans that never reached the collector. Rankings go on without them.",
            "cps",
            Query(per_second("podium_telemetry_dropped_total", by="reason"), "{{reason}}"),
            width=6,
        ),
        lines(
            "Redis p99 by operation",
            "Calls to both servers. The request path waits for the cache server at most the "
            "cache timeout.",
            "s",
            Query(
                quantile(
                    0.99, "db_client_operation_duration_seconds", by="store, db_operation_name"
                ),
                "{{store}} {{db_operation_name}}",
            ),
            width=12,
        ),
        lines(
            "Redis calls by how they ended",
            "An empty kind of error is a call that went well.",
            "ops",
            Query(
                per_second("db_client_operation_duration_seconds_count", by="store, error_type"),
                "{{store}} {{error_type}}",
            ),
            width=12,
        ),
    )


def _processes() -> tuple[Panel, ...]:
    return (
        lines(
            "CPU",
            "Cores in use by all processes of an instance.",
            "none",
            Query(
                f"sum by (instance) (rate({of('process_cpu_seconds_total')}[$__rate_interval]))",
                "{{instance}}",
            ),
            width=6,
        ),
        lines(
            "Memory",
            "Resident, of all processes of an instance; what they share counts in each.",
            "bytes",
            Query(total(of("process_resident_memory_bytes"), "instance"), "{{instance}}"),
            width=6,
        ),
        lines(
            "Rankings under way",
            "Admitted and not answered yet.",
            "none",
            Query(total(of("podium_inflight"), "instance"), "{{instance}}"),
            width=6,
        ),
        lines(
            "Restarts and requests handed over",
            "Workers that ended and were started again; requests that one worker gave to another, "
            "took from one, or answered for one that ended.",
            "cps",
            Query(per_second("podium_worker_restarts_total"), "restarts"),
            Query(per_second("podium_handed_over_total", by="what"), "{{what}}"),
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
        figure(
            "Event server",
            "1: used. 0: it failed; events wait in the spool on disk.",
            "none",
            Query(f"min({of('podium_store_state', EVENTS)})", "events"),
            levels=WELL,
            width=6,
        ),
        figure(
            "Spooled events",
            "Events on disk that wait for the event server. Nothing is lost while this grows, but "
            "experiments learn nothing.",
            "none",
            Query(total(of("podium_events_spooled")), "spooled"),
            levels=below(1, 1000),
            width=6,
        ),
        figure(
            "Configuration in force",
            "1: the newest file of experiments is in force. 0: it was refused and the last good "
            "one goes on.",
            "none",
            Query(f"min({of('podium_config_last_reload_successful')})", "in force"),
            levels=WELL,
            width=6,
        ),
    )
