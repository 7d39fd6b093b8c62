"""How rows become batches, and what the engines make of them."""

from expressions import Query, of, per_second, quantile, quantiles, ratio, total
from grafana_foundation_sdk.models.dashboard import Dashboard
from layout import Section, board, choice
from panels import BAD, GOOD, WARN, Panel, below, figure, heat, lines, states

ENGINE = 'engine=~"$engine"'


def engines() -> Dashboard:
    return board(
        "podium-engines",
        "Podium / Batcher and engines",
        "Batches, the wait for them, and the engines that score them. A row is one candidate.",
        (
            Section("Batches", _batches()),
            Section("Queue", _queue()),
            Section("Engines", _calls()),
            Section("Health", _health()),
        ),
        choice("engine", "Engine", 'label_values(podium_batches_total{job="$job"}, engine)'),
    )


def _batches() -> tuple[Panel, ...]:
    rows = per_second("podium_rows_scored_total", ENGINE)
    batches = per_second("podium_batches_total", ENGINE)
    return (
        lines(
            "Rows scored",
            "Rows a second that engines gave scores for.",
            "rowsps",
            Query(
                per_second("podium_rows_scored_total", ENGINE, by="model, engine"),
                "{{model}} {{engine}}",
            ),
            stacked=True,
        ),
        lines(
            "Batches",
            "Engine calls a second that gave scores.",
            "ops",
            Query(
                per_second("podium_batches_total", ENGINE, by="model, engine"),
                "{{model}} {{engine}}",
            ),
            stacked=True,
        ),
        lines(
            "Rows in a batch",
            "The mean of engine calls, and quantiles of batches as they left the queue.",
            "none",
            Query(ratio(rows, batches), "mean"),
            Query(quantile(0.5, "podium_batch_rows"), "p50"),
            Query(quantile(0.95, "podium_batch_rows"), "p95"),
        ),
        heat(
            "Rows in a batch, all of them",
            "How many batches had how many rows.",
            "none",
            "podium_batch_rows",
            width=8,
        ),
        lines(
            "Why batches left the queue",
            "idle: an engine was free and company would not have paid. Any other reason says what "
            "ended the wait.",
            "ops",
            Query(per_second("podium_batch_reason_total", by="reason"), "{{reason}}"),
            stacked=True,
        ),
        lines(
            "Padding",
            "Share of the rows of engine calls that are there only to fill a prepared batch size.",
            "percentunit",
            Query(
                ratio(
                    per_second("podium_batch_padding_ratio_sum"),
                    per_second("podium_batch_padding_ratio_count"),
                ),
                "mean",
            ),
        ),
    )


def _queue() -> tuple[Panel, ...]:
    return (
        lines(
            "Queue wait",
            "From the arrival of a job in the queue to its batch. The dashed line is the longest "
            "that a job waits for company while an engine is free; more means that engines are "
            "too slow or too few.",
            "s",
            *quantiles("podium_queue_seconds"),
            levels=below(0.005, 0.02),
        ),
        heat(
            "Queue wait, all of it",
            "How many jobs waited how long.",
            "s",
            "podium_queue_seconds",
            width=8,
        ),
        lines(
            "Rows waiting",
            "Beyond `batching.max_waiting_rows` new rankings are refused with 429.",
            "none",
            Query(
                total(of("podium_queue_depth_rows"), "model, precision"), "{{model}} {{precision}}"
            ),
        ),
    )


def _calls() -> tuple[Panel, ...]:
    seconds = "podium_engine_seconds"
    return (
        lines(
            "Engine call p50",
            "Duration of calls that gave scores.",
            "s",
            Query(quantile(0.5, seconds, ENGINE, by="engine"), "{{engine}}"),
        ),
        lines(
            "Engine call p99",
            "Duration of calls that gave scores.",
            "s",
            Query(quantile(0.99, seconds, ENGINE, by="engine"), "{{engine}}"),
        ),
        lines(
            "Engine busy",
            "Engine seconds per second: how many engines are at work on average.",
            "none",
            Query(per_second(f"{seconds}_sum", ENGINE, by="engine"), "{{engine}}"),
        ),
    )


def _breakers() -> str:
    is_open, is_tried = (
        f"({of('podium_breaker_state', matcher)} > bool 0)"
        for matcher in ('state="open"', 'state="half_open"')
    )
    return f"max by (instance, part) (2 * {is_open} or {is_tried})"


def _health() -> tuple[Panel, ...]:
    return (
        lines(
            "Fallbacks",
            "Batches that the first engine of a chain did not score, or not wholly, by why.",
            "ops",
            Query(per_second("podium_fallbacks_total", by="model, reason"), "{{model}} {{reason}}"),
        ),
        lines(
            "Failed engine calls",
            "A failed batch is scored by the next engine of the chain.",
            "ops",
            Query(
                per_second("podium_engine_failures_total", by="model, engine"),
                "{{model}} {{engine}}",
            ),
        ),
        lines(
            "Restarts of the engine process",
            "Of the process that scores for all workers, where there is one.",
            "cps",
            Query(per_second("podium_engine_process_restarts_total"), "restarts"),
        ),
        states(
            "Engines",
            "An engine is failing if its last call failed or it gets none, in one instance at "
            "least.",
            Query(
                f"min by (instance, model, engine) ({of('podium_engine_state', ENGINE)})",
                "{{instance}} {{model}} {{engine}}",
            ),
            {"0": ("failing", BAD), "1": ("well", GOOD)},
        ),
        states(
            "Breakers",
            "closed: calls pass. open: what fails is left alone. half-open: it is being tried. The "
            "worst of the workers.",
            Query(_breakers(), "{{instance}} {{part}}"),
            {"0": ("closed", GOOD), "1": ("half-open", WARN), "2": ("open", BAD)},
        ),
        figure(
            "Engines that are not well",
            "Of all chosen instances.",
            "none",
            Query(f"count({of('podium_engine_state')} < 1) or vector(0)", "failing"),
            levels=below(1, 1),
            width=6,
        ),
        figure(
            "Models loaded",
            "By version.",
            "none",
            Query(f"count(count by (model, version) ({of('podium_model_info')}))", "models"),
            width=6,
        ),
        figure(
            "Rows waiting now",
            "Of all chosen instances.",
            "none",
            Query(total(of("podium_queue_depth_rows")), "rows"),
            width=6,
        ),
        figure(
            "Breakers opened",
            "In the chosen time.",
            "none",
            Query(total(f"increase({of('podium_breaker_opened_total')}[$__range])"), "opened"),
            levels=below(1, 10),
            decimals=0,
            width=6,
        ),
    )
