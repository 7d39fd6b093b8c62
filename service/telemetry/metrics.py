"""What is counted and measured: one method for each thing that happens.

Recording is a dictionary look-up and an addition. What happens to requests is
told on the event loop's thread, the rest from any.
"""

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import get_args

from prometheus_client.registry import Collector

from service.messages import EngineStatus, EventResult, ExperimentRef, FeedbackEvent, RankReply
from service.telemetry import names
from service.telemetry.instruments import Counts, Instruments, Rows
from service.telemetry.merging import FamilySnapshot, family_snapshot
from service.telemetry.plain import PlainCounts
from service.telemetry.records import BatchRecord, EngineCall
from service.telemetry.triton import TritonNames

Exemplar = dict[str, str] | None


class Metrics:
    """The figures of the service, and the page that shows them."""

    def __init__(
        self,
        surfaces: Iterable[str],
        *,
        version: str,
        triton_names: bool = False,
    ) -> None:
        """Make all metrics.

        Args:
            surfaces: The configured ones; any other counts as ``other``.
            version: Of the service.
            triton_names: Whether Triton's names for the same are shown as well.
        """
        self._surfaces = frozenset(surfaces)
        self._to = Instruments()
        for surface in (*self._surfaces, names.OTHER, names.NONE):
            for outcome in names.LOST:
                self._to.requests[surface, names.NONE, names.NONE, outcome]
        self._padded: dict[tuple[str, str, str], Sequence[int]] = {}
        self._triton = TritonNames(self._to.registry) if triton_names else None
        self.gauges(
            names.M_BUILD_INFO,
            "1 for the release that runs and the Python that runs it",
            ("version", "python"),
            lambda: {(version, platform.python_version()): 1.0},
        )

    def gauges(self, name: str, meaning: str, labels: Sequence[str], rows: Rows) -> None:
        """Show how something is; asked with the page.

        Args:
            name: One of the M_ names of `names`.
            meaning: Its help text.
            labels: Their names.
            rows: Gives the values of the labels with their figure.
        """
        self._to.gauges(name, meaning, labels, rows)

    def counters(self, name: str, meaning: str, labels: Sequence[str], rows: Rows) -> None:
        """Show what somebody else counts; asked with the page. Arguments as of `gauges`."""
        self._to.counters(name, meaning, labels, rows)

    def collect_from(self, collector: Collector) -> None:
        """Show what a collector has."""
        self._to.registry.register(collector)

    def families(self) -> Iterator[FamilySnapshot]:
        """All figures of this process, metric by metric; `merging` makes the page of them."""
        return map(family_snapshot, self._to.registry.collect())

    # --- HTTP ---------------------------------------------------------------------

    def http_started(self, method: str, scheme: str) -> None:
        self._to.http_active[method, scheme].inc()

    def http_ended(
        self,
        *,
        method: str,
        scheme: str,
        route: str,
        status: str,
        seconds: float,
        exemplar: Exemplar,
    ) -> None:
        self._to.http_active[method, scheme].dec()
        self._to.http_seconds[method, scheme, route, status].observe(seconds, exemplar)

    def plain(self, scheme: str, route: str, surface: str) -> PlainCounts:
        """What counts plain rankings; ``surface`` is a label."""
        return PlainCounts(self._to, scheme, route, surface)

    # --- rankings -----------------------------------------------------------------

    def surface(self, name: str | None) -> str:
        """The label of a surface: callers may send any text, series must not grow by it."""
        if name is None:
            return names.NONE
        return name if name in self._surfaces else names.OTHER

    def ranking_started(self) -> None:
        self._to.inflight.inc()

    def ranking_ended(
        self,
        *,
        surface: str,
        variant: str,
        reply: RankReply | None,
        outcome: names.Outcome,
        seconds: float,
        exemplar: Exemplar,
    ) -> None:
        to = self._to
        to.inflight.dec()
        engine, cache = names.NONE, names.NONE
        if reply is not None:
            engine, cache = reply.model.engine, reply.cache.result
            self._answered(reply)
        to.requests[surface, variant, engine, outcome].inc()
        to.request_seconds[variant, cache].observe(seconds, exemplar)

    def _answered(self, reply: RankReply) -> None:
        to, cache = self._to, reply.cache
        to.cache[cache.result,].inc()
        if cache.level is not None:
            to.cache_found[cache.level,].inc()
            to.cache_age_seconds.observe((cache.age_ms or 0) / 1000)
        if cache.result != "bypass":
            to.cache_hits.value += cache.hits
            to.cache_misses.value += cache.misses
            to.cache_seconds.observe(reply.timing_ms.cache / 1000)
        if reply.degraded is not None:
            to.degraded[reply.degraded,].inc()
        if self._triton is not None:
            self._triton.answered(reply)

    def shed(self, reason: str) -> None:
        """A ranking was refused because of load; ``reason`` is the code of its problem."""
        self._to.shed[reason,].inc()

    def deadline_exceeded(self) -> None:
        """An admitted ranking was not scored in time, whatever it was answered with."""
        self._to.deadline_exceeded.inc()

    # --- batches and engines ----------------------------------------------------------

    def batch(self, batch: BatchRecord) -> None:
        to, model = self._to, batch.model
        to.batch_rows.observe(batch.rows)
        to.batch_reason[batch.reason,].inc()
        if batch.fallback is not None:
            to.fallbacks[model, batch.fallback].inc()
        taken_at = batch.taken_at
        to.queue_seconds.observe_all([taken_at - member.arrived_at for member in batch.members])
        for call in batch.calls:
            if call.error_type is not None:
                to.engine_failures[model, call.engine].inc()
                continue
            to.batches[model, call.engine].inc()
            to.rows_scored[model, call.engine].inc(call.rows)
            to.engine_seconds[call.engine,].observe(call.finished_at - call.started_at)
            self._pad(batch, call)
        if self._triton is not None:
            self._triton.batch(batch)

    def _pad(self, batch: BatchRecord, call: EngineCall) -> None:
        sizes = self._padded.get((batch.model, batch.version, call.engine), ())
        place = bisect_left(sizes, call.rows)
        if place < len(sizes):
            self._to.batch_padding[call.engine,].observe(1 - call.rows / sizes[place])

    def engine_pads(self, model: str, version: str, engine: str, sizes: Sequence[int]) -> None:
        """An engine fills each call up to the next of these rows, which rise."""
        self._padded[model, version, engine] = sizes

    def engine_process_ended(self) -> None:
        """Unasked; it is started again. From any thread."""
        self._to.engine_process_restarts.inc()

    def model_loaded(
        self, model: str, version: str, precision: str, engines: Iterable[str] = ()
    ) -> None:
        """It serves, by one of these engines. What they may fail at begins at 0, for whoever
        watches its increase."""
        self._to.model_info[model, version, precision].set(1)
        for reason in get_args(names.FallbackReason):
            self._to.fallbacks[model, reason]
        for engine in engines:
            self._to.engine_failures[model, engine]

    def forget_models(self) -> None:
        """Show no model, queue or engine: others are there now."""
        to = self._to
        self._padded.clear()
        if self._triton is not None:
            self._triton.forget_models()
        for gauges in (to.model_info, to.queue_depth_rows, to.engine_state, to.engine_status):
            gauges.clear()
        for gauges in (to.row_lookup_seconds, to.row_scoring_seconds, to.rows_fetched):
            gauges.clear()

    def watch_queue(
        self,
        model: str,
        precision: str,
        waiting_rows: Callable[[], float],
        waiting_jobs: Callable[[], float],
    ) -> None:
        """Show the depth of a queue; asked with the page."""
        self._to.queue_depth_rows[model, precision].set_function(waiting_rows)
        if self._triton is not None:
            self._triton.watch_queue(model, precision, waiting_jobs)

    def watch_engine(
        self, model: str, precision: str, engine: str, condition: Callable[[], names.Condition]
    ) -> None:
        """Show how an engine is; asked with the page."""
        self._to.engine_state[model, precision, engine].set_function(
            lambda: names.CONDITION_VALUES[condition()]
        )

    def watch_engine_status(
        self, model: str, precision: str, engine: str, status: Callable[[], EngineStatus]
    ) -> None:
        """Show which status an engine has; asked with the page."""

        def has(asked: EngineStatus) -> float:
            return float(status() == asked)

        for one in get_args(EngineStatus):
            self._to.engine_status[model, precision, engine, one].set_function(partial(has, one))

    # --- Redis ------------------------------------------------------------------------

    def store_called(self, store: str, operation: str, error_type: str, seconds: float) -> None:
        self._to.store_seconds["redis", store, operation, error_type].observe(seconds)

    def watch_store(self, store: str, condition: Callable[[], names.Condition]) -> None:
        """Show whether a Redis server is used or left alone; asked with the page."""
        self._to.store_state[store,].set_function(lambda: names.CONDITION_VALUES[condition()])

    def watch_cache_failures(self, counts: Counts) -> None:
        """Show how often the cache could not do its part, by reason; asked with the page."""
        self._to.mirror(
            names.M_CACHE_FAILURES, "Times the cache could not do its part", "reason", counts
        )

    def watch_cache_renewals(self, counts: Counts) -> None:
        """Show what became of slates that were to be computed anew; asked with the page."""
        self._to.mirror(
            names.M_CACHE_RENEWALS, "Slates to be computed anew behind a reply", "result", counts
        )

    def watch_score_rows(self, counts: Counts) -> None:
        """Show what became of score rows; asked with the page."""
        self._to.mirror(
            names.M_CACHE_ROWS,
            "Score rows by what became of them, and lookups of them that Redis was spared",
            "result",
            counts,
        )

    def watch_row_worth(
        self,
        deployment: str,
        lookup_s: Callable[[], float],
        scoring_s: Callable[[], float],
        fetched: Callable[[], float],
    ) -> None:
        """Show whether fetching score rows pays for a deployment; asked with the page."""
        self._to.row_lookup_seconds[deployment,].set_function(lookup_s)
        self._to.row_scoring_seconds[deployment,].set_function(scoring_s)
        self._to.rows_fetched[deployment,].set_function(fetched)

    def watch_slate_worth(
        self,
        deployment: str,
        lookup_s: Callable[[], float],
        scoring_s: Callable[[], float],
        declined: Callable[[], float],
    ) -> None:
        """Show whether asking for the slates of rank requests pays for a deployment; asked with the
        page."""
        self._to.slate_lookup_seconds[deployment,].set_function(lookup_s)
        self._to.slate_scoring_seconds[deployment,].set_function(scoring_s)
        self._to.slates_declined[deployment,].set_function(declined)

    def watch_cache_in_process(
        self, taken_bytes: Callable[[], float], entries: Callable[[], float]
    ) -> None:
        """Show what this process itself keeps of the cache; asked with the page."""
        self._to.cache_process_bytes.set_function(taken_bytes)
        self._to.cache_process_entries.set_function(entries)

    # --- feedback ---------------------------------------------------------------------

    def external_ignored(self, decisions: int) -> None:
        """Another system's decisions that name no experiment or variant of ours."""
        self._to.external_ignored.inc(decisions)

    def assigned(self, experiments: Sequence[ExperimentRef]) -> None:
        """Experiments decided about a request; those that keep it out are among them."""
        assignments = self._to.assignments
        for decided in experiments:
            assignments[decided.key, decided.variant, decided.reason.lower()].value += 1.0

    def exposed(self, experiments: Sequence[ExperimentRef]) -> None:
        """A unit was served by these variants."""
        for experiment in experiments:
            self._to.exposures[variant_label(experiment),].inc()

    def events(
        self, reported: Sequence[FeedbackEvent | EventResult], results: Sequence[EventResult]
    ) -> None:
        """Events were reported and answered.

        Args:
            reported: What came, in order; a result stands for what was no event.
            results: What became of each.
        """
        for event, result in zip(reported, results, strict=True):
            kind = event.type if isinstance(event, FeedbackEvent) else names.OTHER
            self._to.events[kind, result.status].inc()

    def watch_events_kept(self, counts: Counts) -> None:
        """Show where events and exposures were kept or lost; asked with the page."""
        self._to.mirror(
            names.M_EVENTS_KEPT, "Events and exposures by where they were kept", "where", counts
        )

    def watch_exposures_kept(self, counts: Counts) -> None:
        """Show how many exposures were kept or dropped; asked with the page."""
        self._to.mirror(
            names.M_EXPOSURES_KEPT,
            "Exposures recorded, and of them those kept and those dropped",
            "result",
            counts,
        )

    def watch_spool(
        self,
        waiting_events: Callable[[], float],
        waiting_bytes: Callable[[], float],
        limit_bytes: int,
        counts: Counts,
    ) -> None:
        """Show how much waits on disk, and what the disk did; asked with the page."""
        self._to.events_spooled.set_function(waiting_events)
        self.gauges(
            names.M_SPOOL_BYTES,
            "Bytes of the spool on disk, of all processes that share it",
            (),
            lambda: {(): waiting_bytes()},
        )
        self.gauges(
            names.M_SPOOL_LIMIT_BYTES,
            "Bytes that the spool may take; beyond it events are refused",
            (),
            lambda: {(): float(limit_bytes)},
        )
        self._to.mirror(
            names.M_SPOOL,
            "Records that the spool kept or could not keep, and segments found damaged",
            "result",
            counts,
        )

    def watch_aggregation(self, counts: Counts) -> None:
        """Show what became of the entries of the event stream; asked with the page."""
        self._to.mirror(
            names.M_AGGREGATION,
            "Entries of the event stream that were applied, of them adopted or unreadable, "
            "and steps that failed",
            "result",
            counts,
        )

    # --- shadow -----------------------------------------------------------------------

    def compared(
        self, variant: str, *, overlap: float, kendall_tau: float | None, drift_max: float
    ) -> None:
        """A copy of a request was scored by a variant that did not serve it.

        Args:
            variant: As `variant_label` has it.
            overlap: Share of the served slate that it would have served as well.
            kendall_tau: Of the two orders; None where there is none.
            drift_max: Largest difference of two scores.
        """
        to = self._to
        to.shadow_overlap[variant,].observe(overlap)
        if kendall_tau is not None:
            to.shadow_tau[variant,].observe(kendall_tau)
        to.shadow_drift[variant,].observe(drift_max)

    def watch_shadow(self, counts: Counts) -> None:
        """Show what became of the copies; asked with the page."""
        self._to.mirror(
            names.M_SHADOW,
            "Copies of requests for variants that did not serve them, by what became of them",
            "result",
            counts,
        )

    # --- workers --------------------------------------------------------------------------

    def watch_handover(self, counts: Counts) -> None:
        """Show how many requests were answered by another worker than theirs."""
        self._to.mirror(
            names.M_HANDED_OVER,
            "Requests given to another worker, taken from one, or lost with one and answered here",
            "what",
            counts,
        )

    # --- telemetry itself ---------------------------------------------------------------

    def spans_dropped(self, reason: names.DropReason, spans: int) -> None:
        self._to.telemetry_dropped[reason,].inc(spans)


def variant_label(experiment: ExperimentRef) -> str:
    """``experiment:variant``; both come from the experiments file, never from a request."""
    return f"{experiment.key}:{experiment.variant}"
