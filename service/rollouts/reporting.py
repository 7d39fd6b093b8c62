"""Reports of experiments: everything that is known of one, read and put together."""

import asyncio
from collections.abc import Mapping

from msgspec import Struct

from experiments.bandit import shares_by_phase
from experiments.decisions import DecisionRecord
from experiments.definition import Experiment
from experiments.report import Beside, Report, build_report
from experiments.report.document import SelfChecked
from experiments.standing import Standing
from experiments.variant_statistics import VariantStatistics
from service.clock import Clock
from service.errors import StoreUnavailable, UnknownExperiment
from service.events.statistics import ReadStatistics
from service.rollouts.changes import ExperimentChanges
from service.rollouts.live import LiveExperiments

CHECKED_AGAIN_S = 60.0
"""A self-check makes thousands of tests and says the same for a while."""
MOST_PHASES = 8
"""Earlier phases that are read: each variant of each is some 8 000 sums."""
EARLIER_KEPT_S = 60.0
"""What is over changes by late events only, and reading it costs more than the rest of a report."""
_RECORDS = 200
"""Decisions that are read, to know the phases and to show the newest."""


class _Checked(Struct, frozen=True):
    phase: int
    at: float
    found: SelfChecked


class _Earlier(Struct, frozen=True):
    """The sums of phases that are over."""

    variants: tuple[str, ...]
    at: float
    sums: Mapping[int, Mapping[str, VariantStatistics]]


class ExperimentReports:
    """Makes reports. For one event loop, which is left to others while figures are computed.

    Args:
        live: What runs, and how it stands.
        changes: For the audit log.
        statistics: The sums.
        clock: The service's.
        price_per_hour: Of one engine; None leaves costs out.
    """

    def __init__(
        self,
        live: LiveExperiments,
        changes: ExperimentChanges,
        statistics: ReadStatistics,
        clock: Clock,
        *,
        price_per_hour: float | None,
    ) -> None:
        self._live, self._changes, self._statistics = live, changes, statistics
        self._clock, self._price_per_hour = clock, price_per_hour
        self._checked: dict[str, _Checked] = {}
        self._earlier: dict[str, _Earlier] = {}

    async def report(self, key: str, *, with_statistics: bool = False) -> Report:
        """The report of an experiment now.

        Args:
            key: The experiment.
            with_statistics: Whether the sums are to be in it.

        Raises:
            UnknownExperiment: there is none; names those that there are.
            ReportUnavailable: the event server does not answer.
        """
        experiment, definition = self._found(key)
        standing = self._live.standing(key)
        decisions, missing = await self._decisions(key)
        shares = _shares(definition, standing, decisions)
        # The backlog first: what is added up between the two reads is then told as
        # missing and is there, and not the other way round.
        backlog = await self._statistics.backlog()
        sums = await self._statistics.read(experiment)
        earlier = await self._sums_before(experiment, standing, shares)
        beside = Beside(
            definition=definition,
            standing=standing,
            unready=self._live.unready.get(key),
            decisions=decisions,
            decisions_missing=missing,
            shares=shares,
            earlier=earlier,
            price_per_hour=self._price_per_hour,
            self_check=self._self_check(experiment),
            with_statistics=with_statistics,
        )
        report = await asyncio.to_thread(
            build_report,
            experiment,
            sums,
            as_of=self._clock.wall(),
            backlog=backlog,
            beside=beside,
        )
        self._keep(report, beside)
        return report

    def _found(self, key: str) -> tuple[Experiment, Experiment]:
        """The experiment as it is in force, and as it is written."""
        known = {found.key: found for found in self._live.current().experiments}
        written = {found.key: found for found in self._live.definitions}
        if key not in known or key not in written:
            raise UnknownExperiment(key, tuple(known))
        return known[key], written[key]

    async def _decisions(self, key: str) -> tuple[tuple[DecisionRecord, ...], str | None]:
        try:
            return await self._changes.decisions(key, _RECORDS), None
        except StoreUnavailable as why:
            return (), str(why)

    async def _sums_before(
        self, experiment: Experiment, standing: Standing | None, shares: Mapping[int, object]
    ) -> Mapping[int, Mapping[str, VariantStatistics]]:
        """Of the earlier phases and the A/A phase before."""
        before = () if standing is None or standing.pre_phase is None else (standing.pre_phase,)
        phases = {*shares, *before} - {experiment.phase}
        variants = tuple(variant.name for variant in experiment.variants)
        kept, now = self._earlier.get(experiment.key), self._clock.now()
        if (
            kept is None
            or kept.variants != variants
            or not phases <= set(kept.sums)
            or now >= kept.at + EARLIER_KEPT_S
        ):
            sums = await self._statistics.read_phases(experiment, tuple(phases)) if phases else {}
            kept = self._earlier[experiment.key] = _Earlier(variants, now, sums)
        return {phase: kept.sums[phase] for phase in phases}

    # --- the self-check ----------------------------------------------------------------

    def _self_check(self, experiment: Experiment) -> SelfChecked | None:
        kept = self._checked.get(experiment.key)
        if kept is None or kept.phase != experiment.phase:
            return None
        return kept.found if self._clock.now() < kept.at + CHECKED_AGAIN_S else None

    def _keep(self, report: Report, beside: Beside) -> None:
        found = report.self_check
        if found is not None and found.check is not None and beside.self_check is None:
            self._checked[report.key] = _Checked(report.phase, self._clock.now(), found)


def _shares(
    definition: Experiment, standing: Standing | None, decisions: tuple[DecisionRecord, ...]
) -> Mapping[int, dict[str, int]]:
    """The newest phases of this split with the shares of their variants."""
    if standing is None:
        return {}
    found = shares_by_phase(definition, standing, decisions)
    return {phase: found[phase] for phase in sorted(found, reverse=True)[:MOST_PHASES]}
