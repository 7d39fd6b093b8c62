"""Who sees what, what it did, and whether that can be trusted."""

from expressions import Query, of, per_second, quantile, ratio, total
from grafana_foundation_sdk.models.dashboard import Dashboard
from layout import Section, board, choice
from panels import BAD, GOOD, Level, Panel, below, figure, lines

EXPERIMENT = 'experiment=~"$experiment"'
BY = "experiment, variant"
LEGEND = "{{experiment}} {{variant}}"
# Exposures, rankings and shadows name a variant together with its experiment.
JOINED = 'variant=~"($experiment):.*"'


def experiments() -> Dashboard:
    return board(
        "podium-experiments",
        "Podium / Experiments",
        "Shares, exposures and clicks by variant. Figures about clicks are what the event server "
        "has counted, the same whichever instance tells them. The report of an experiment "
        "(`podium experiment report`) has intervals and decisions.",
        (
            Section("Can it be trusted", _trust()),
            Section("Who sees what", _shares()),
            Section("What it did", _effects()),
            Section("Shadow variants", _shadow()),
            Section("Events on their way", _events()),
        ),
        choice(
            "experiment",
            "Experiment",
            'label_values(podium_assignments_total{job="$job"}, experiment)',
        ),
    )


def _told(metric: str, by: str = BY) -> str:
    """A figure that several instances may tell of the same thing."""
    return f"max by ({by}) ({of(metric, EXPERIMENT)})"


def _trust() -> tuple[Panel, ...]:
    return (
        figure(
            "Smallest SRM p-value",
            "How probable shares as uneven as those observed are if the planned ones were kept. "
            "Below 0.001 the result is not to be trusted.",
            "none",
            Query(f"min({of('podium_srm_pvalue', EXPERIMENT)})", "p"),
            levels=(Level(None, BAD), Level(0.001, "orange"), Level(0.01, GOOD)),
            width=6,
        ),
        figure(
            "Configuration in force",
            "1: the newest file of experiments is in force. 0: it was refused and the last good "
            "one goes on.",
            "none",
            Query(f"min({of('podium_config_last_reload_successful')})", "in force"),
            levels=(Level(None, BAD), Level(1, GOOD)),
            width=6,
        ),
        figure(
            "Assigning nobody",
            "Experiments that should assign units and do not, for a deployment of theirs is not "
            "ready.",
            "none",
            Query(
                f"sum(max by (experiment) ({of('podium_experiment_unready', EXPERIMENT)}))",
                "unready",
            ),
            levels=below(1, 1),
            width=6,
        ),
        figure(
            "Events not counted yet",
            "Entries of the event stream that wait to be counted.",
            "none",
            Query(f"max({of('podium_aggregation_backlog')})", "waiting"),
            levels=below(1000, 10_000),
            width=6,
        ),
        lines(
            "SRM p-value",
            "By experiment.",
            "none",
            Query(f"min by (experiment) ({of('podium_srm_pvalue', EXPERIMENT)})", "{{experiment}}"),
            width=12,
            most=1,
        ),
        lines(
            "Units",
            "Users or sessions that were served by a variant, each counted once.",
            "none",
            Query(_told("podium_units"), LEGEND),
            width=12,
        ),
        lines(
            "State",
            "The state that each experiment is in; its name is the legend.",
            "none",
            Query(
                f"max by (experiment, state) ({of('podium_experiment_state', EXPERIMENT)}) == 1",
                "{{experiment}} {{state}}",
            ),
        ),
        lines(
            "Phase",
            "A changed definition starts a new phase, whose figures begin at nothing.",
            "none",
            Query(_told("podium_experiment_phase", "experiment"), "{{experiment}}"),
        ),
        lines(
            "Changes",
            "How often the standing of an experiment was changed. Instances that differ for long "
            "do not hear of changes.",
            "none",
            Query(
                f"min by (instance, experiment) ({of('podium_config_generation', EXPERIMENT)})",
                "{{instance}} {{experiment}}",
            ),
        ),
    )


def _shares() -> tuple[Panel, ...]:
    return (
        lines(
            "Planned share",
            "Of the experiment's traffic, as the rollout has it now.",
            "percentunit",
            Query(_told("podium_variant_share_ratio"), LEGEND),
            most=1,
            width=6,
        ),
        lines(
            "Traffic and stage",
            "Share of all traffic that takes part, and the stage of a rollout.",
            "none",
            Query(_told("podium_experiment_traffic_ratio", "experiment"), "{{experiment}} traffic"),
            Query(_told("podium_rollout_stage", "experiment"), "{{experiment}} stage"),
            Query(_told("podium_rollout_stages", "experiment"), "{{experiment}} stages"),
            width=6,
        ),
        lines(
            "Assignments",
            "Decisions about requests, by the variant and why.",
            "reqps",
            Query(
                per_second("podium_assignments_total", EXPERIMENT, by=f"{BY}, reason"),
                LEGEND + " {{reason}}",
            ),
            width=6,
        ),
        lines(
            "Exposures",
            "Rankings that a variant served.",
            "reqps",
            Query(per_second("podium_exposures_total", JOINED, by="variant"), "{{variant}}"),
            width=6,
        ),
    )


def _effects() -> tuple[Panel, ...]:
    clicks, impressions = (
        f"max by ({BY}) (increase({of(metric, EXPERIMENT)}[$__range]))"
        for metric in ("podium_clicks_total", "podium_impressions_total")
    )
    return (
        lines(
            "CTR",
            "Clicks on impressions, divided by impressions, of the chosen time. Whether variants "
            "differ is the report's to say.",
            "percentunit",
            Query(ratio(clicks, impressions), LEGEND),
        ),
        lines(
            "Clicks",
            "Clicks a second that were counted.",
            "cps",
            Query(
                f"max by ({BY}) (rate({of('podium_clicks_total', EXPERIMENT)}[$__rate_interval]))",
                LEGEND,
            ),
        ),
        lines(
            "Impressions",
            "Impressions a second that were counted.",
            "cps",
            Query(
                f"max by ({BY}) (rate({of('podium_impressions_total', EXPERIMENT)}"
                "[$__rate_interval]))",
                LEGEND,
            ),
        ),
        lines(
            "Ranking time p99",
            "By variant, whatever the cache gave. Points are traced requests.",
            "s",
            Query(quantile(0.99, "podium_request_seconds", JOINED, by="variant"), "{{variant}}"),
            exemplars=True,
        ),
        lines(
            "Ranking time p99, engine asked",
            "Only rankings that an engine had to score: what differs between models, and not "
            "between the caches of a large and a small variant.",
            "s",
            Query(
                quantile(
                    0.99,
                    "podium_request_seconds",
                    JOINED,
                    'cache=~"miss|partial|bypass"',
                    by="variant",
                ),
                "{{variant}}",
            ),
            exemplars=True,
        ),
        lines(
            "Whole slates from the cache",
            "Share of a variant's rankings. Arms whose shares differ are not to be compared by "
            "their latency.",
            "percentunit",
            Query(
                ratio(
                    total(
                        "rate("
                        + of("podium_request_seconds_count", JOINED, 'cache=~"hit|stale"')
                        + "[$__rate_interval])",
                        "variant",
                    ),
                    per_second("podium_request_seconds_count", JOINED, by="variant"),
                ),
                "{{variant}}",
            ),
            most=1,
        ),
    )


def _shadow() -> tuple[Panel, ...]:
    return (
        lines(
            "Copies",
            "Requests scored by a variant that did not serve them, by what became of them.",
            "ops",
            Query(per_second("podium_shadow_total", by="result"), "{{result}}"),
            width=6,
        ),
        lines(
            "Overlap",
            "Share of a served slate that the variant would have served as well; median.",
            "percentunit",
            Query(quantile(0.5, "podium_shadow_overlap", by="variant"), "{{variant}}"),
            most=1,
            width=6,
        ),
        lines(
            "Same order",
            "Kendall's tau-b of the two orders of the candidates; median. 1: the same.",
            "none",
            Query(quantile(0.5, "podium_shadow_kendall_tau", by="variant"), "{{variant}}"),
            least=-1,
            most=1,
            width=6,
        ),
        lines(
            "Score drift",
            "Largest difference of two scores in a request, p95. fp16 has about 1e-5, int8 1e-3.",
            "none",
            Query(quantile(0.95, "podium_shadow_score_drift", by="variant"), "{{variant}}"),
            width=6,
        ),
    )


def _events() -> tuple[Panel, ...]:
    return (
        lines(
            "Events reported",
            "Impressions and clicks by what became of them. orphan: of a slate nobody knows.",
            "cps",
            Query(per_second("podium_events_total", by="type, status"), "{{type}} {{status}}"),
        ),
        lines(
            "Where events were kept",
            "appended: on the event server. spooled: on disk. refused: nowhere, and the caller "
            "was told.",
            "cps",
            Query(per_second("podium_events_kept_total", by="where"), "{{where}}"),
        ),
        lines(
            "Counting",
            "Entries of the event stream that were counted, and steps that failed.",
            "cps",
            Query(per_second("podium_aggregation_total", by="result"), "{{result}}"),
        ),
        lines(
            "Spool",
            "Bytes of events that wait on disk, and the most that may.",
            "bytes",
            Query(f"max by (instance) ({of('podium_spool_bytes')})", "{{instance}}"),
            Query(f"max by (instance) ({of('podium_spool_limit_bytes')})", "{{instance}} limit"),
        ),
        lines(
            "Spool by what it did",
            "appended: kept on disk. failed: it could not be. damaged: a segment is unreadable.",
            "cps",
            Query(per_second("podium_spool_total", by="result"), "{{result}}"),
        ),
        lines(
            "Exposures kept",
            "Exposures wait in memory and are dropped, not waited for, when there are too many.",
            "cps",
            Query(per_second("podium_exposures_kept_total", by="result"), "{{result}}"),
        ),
    )
