"""How experiments stand and what they added up to, as the metrics show it."""

from collections.abc import Mapping
from functools import partial
from typing import get_args

from experiments.definition import WHOLE_BP, Experiment, State
from service.rollouts.live import LiveExperiments
from service.rollouts.totals import ReadTotals, Totals
from service.telemetry import names
from service.telemetry.metrics import Metrics

_Rows = Mapping[tuple[str, ...], float]


def show_experiments(metrics: Metrics, live: LiveExperiments) -> None:
    """Show how each experiment stands in this process; asked with the page."""
    experiment = ("experiment",)
    for name, meaning, labels, rows in (
        (
            names.M_EXPERIMENT_STATE,
            "1 for the state that an experiment is in",
            ("experiment", "state"),
            _states,
        ),
        (
            names.M_EXPERIMENT_PHASE,
            "The phase whose figures are being collected",
            experiment,
            _phases,
        ),
        (
            names.M_EXPERIMENT_UNREADY,
            "1 if it should assign units and assigns nobody",
            experiment,
            _unready,
        ),
        (
            names.M_EXPERIMENT_TRAFFIC,
            "Share of the eligible units that take part, 0 to 1",
            experiment,
            _traffic,
        ),
        (
            names.M_VARIANT_SHARE,
            "Share of the units that take part which a variant gets, 0 to 1",
            ("experiment", "variant"),
            _shares,
        ),
        (
            names.M_ROLLOUT_STAGE,
            "How many stages of its rollout an experiment has reached; 0: none",
            experiment,
            _stage,
        ),
        (
            names.M_ROLLOUT_STAGES,
            "How many stages its rollout has",
            experiment,
            _stages,
        ),
        (
            names.M_CONFIG_GENERATION,
            "How often the standing of an experiment was changed, all replicas alike",
            experiment,
            _generations,
        ),
    ):
        metrics.gauges(name, meaning, labels, partial(rows, live))
    metrics.gauges(
        names.M_CONFIG_RELOADED,
        "1 if the file of experiments was read well when it was last written, 0 if it was refused",
        (),
        lambda: {(): float("invalid_file" not in live.troubles)},
    )


def show_totals(metrics: Metrics, totals: ReadTotals) -> None:
    """Show what the variants added up to, where this process leads; asked with the page."""
    by_variant = ("experiment", "variant")
    metrics.counters(
        names.M_IMPRESSIONS,
        "Impressions that count for a variant in the present phase, as reports have them",
        by_variant,
        lambda: _of_variants(totals.newest, "impressions"),
    )
    metrics.counters(
        names.M_CLICKS,
        "Clicks that count for a variant in the present phase, as reports have them",
        by_variant,
        lambda: _of_variants(totals.newest, "clicks"),
    )
    metrics.gauges(
        names.M_UNITS,
        "Distinct units that were served by a variant in the present phase",
        by_variant,
        lambda: _of_variants(totals.newest, "users"),
    )
    metrics.gauges(
        names.M_SRM_PVALUE,
        "Chance of a split as uneven as the units', if it were the planned one; alarm below 0.001",
        ("experiment",),
        lambda: _split_p(totals.newest),
    )
    metrics.gauges(
        names.M_AGGREGATION_BACKLOG,
        "Entries of the event stream that are not added up yet",
        (),
        lambda: _backlog(totals.newest),
    )


def _of_variants(totals: Totals | None, what: str) -> _Rows:
    return {} if totals is None else {arm: sums[what] for arm, sums in totals.by_variant.items()}


def _split_p(totals: Totals | None) -> _Rows:
    return {} if totals is None else {(key,): p for key, p in totals.split_p.items()}


def _backlog(totals: Totals | None) -> _Rows:
    return {} if totals is None else {(): totals.backlog}


def _in_force(live: LiveExperiments) -> tuple[Experiment, ...]:
    return live.current().experiments


def _states(live: LiveExperiments) -> _Rows:
    return {
        (e.key, state): float(e.state == state)
        for e in _in_force(live)
        for state in get_args(State)
    }


def _phases(live: LiveExperiments) -> _Rows:
    return {(e.key,): e.phase for e in _in_force(live)}


def _unready(live: LiveExperiments) -> _Rows:
    return {(e.key,): float(e.key in live.unready) for e in _in_force(live)}


def _traffic(live: LiveExperiments) -> _Rows:
    return {(e.key,): e.traffic_bp / WHOLE_BP for e in _in_force(live)}


def _shares(live: LiveExperiments) -> _Rows:
    return {(e.key, v.name): v.share_bp / WHOLE_BP for e in _in_force(live) for v in e.variants}


def _generations(live: LiveExperiments) -> _Rows:
    standings = {e.key: live.standing(e.key) for e in _in_force(live)}
    return {(key,): found.generation for key, found in standings.items() if found is not None}


def _stage(live: LiveExperiments) -> _Rows:
    found: dict[tuple[str, ...], float] = {}
    for experiment in _in_force(live):
        standing = live.standing(experiment.key)
        if experiment.rollout is not None and standing is not None:
            found[experiment.key,] = 0 if standing.stage is None else standing.stage + 1
    return found


def _stages(live: LiveExperiments) -> _Rows:
    return {(e.key,): len(e.rollout.stages_bp) for e in _in_force(live) if e.rollout is not None}
