"""Judges rollouts and moves bandits: one leader of all processes, every few seconds.

The rule is pure (`experiments.rollout`, `experiments.bandit`); this shell reads figures,
asks, and does what it is told through the same compare-and-set as people do. A person's
change is the state of affairs that the next judgement starts from; a paused experiment is
not judged. A rollback is in force everywhere after the other replicas' next look
(`service.rollouts.live.LOOK_S`).

On record is every decision that changes something, and every change of one that does not:
"held for a mismatch" is written when it begins, and not again every few seconds.
"""

import asyncio
import contextlib
import logging
from math import inf

from msgspec import Struct

from experiments.bandit import Allocated, Allocation, reallocated, shares_by_phase
from experiments.definition import Experiment
from experiments.rollout import Judgement, PhaseFigures, judge
from experiments.standing import Change, Standing, in_force
from service.clock import Clock
from service.errors import (
    DefinitionDiffers,
    ExperimentChangeRefused,
    GenerationConflict,
    RankingError,
    ReportUnavailable,
    StoreUnavailable,
    UnknownExperiment,
)
from service.events.statistics import ReadStatistics
from service.rollouts.changes import Author, ExperimentChanges
from service.rollouts.lease import Lease
from service.rollouts.live import LiveExperiments

REALLOCATE_EVERY_S = 600.0
"""Between two allocations of a bandit. Each one that moves shares begins a phase, whose
figures take room on the event server for as long as they are kept."""
SAID_AGAIN_S = 600.0
"""What changes to and fro, such as a rate about its limit, is on record this often at most: the
audit log is never trimmed."""
_MOST_RECORDS = 200
"""Decisions that are looked through for the phases that a bandit learns from."""

_RULE = "rule"
_log = logging.getLogger(__name__)


class _Seen(Struct, frozen=True):
    """When a standing was first seen, on the clock that never jumps."""

    since: float
    at: float
    from_its_start: bool
    """Whether the one before it was seen as well."""


class _Said(Struct):
    """What was put on record of a generation that the rule left as it is."""

    generation: int
    last: tuple[str, str] | None = None
    """Action and ground."""
    at: dict[tuple[str, str], float] = {}
    """When each was, on the clock that never jumps."""


class RolloutController:
    """The loop around the rule. For one event loop; `start` before, `stop` after use.

    Args:
        live: The experiments that are in force in this process.
        changes: The way to change them.
        statistics: The figures.
        lease: Held by one process at a time.
        clock: The service's.
        every_s: Between two judgements of all experiments.
    """

    def __init__(
        self,
        live: LiveExperiments,
        changes: ExperimentChanges,
        statistics: ReadStatistics,
        lease: Lease,
        clock: Clock,
        *,
        every_s: float,
    ) -> None:
        self._live, self._changes, self._statistics = live, changes, statistics
        self._lease, self._clock, self._every_s = lease, clock, every_s
        self._seen: dict[str, _Seen] = {}
        self._said: dict[str, _Said] = {}
        self._allocated: dict[str, float] = {}
        self._troubles: dict[str, str] = {}
        self._stopping = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._leads = False

    @property
    def leads(self) -> bool:
        """Whether this process judged when all were judged last."""
        return self._leads

    async def start(self) -> None:
        self._worker = asyncio.create_task(self._work(), name="rollouts")

    async def stop(self) -> None:
        """Finish the round under way, and let another process lead."""
        self._stopping.set()
        if self._worker is not None:
            await self._worker
        self._leads = False
        await self._lease.give_up()

    async def _work(self) -> None:
        while not self._stopping.is_set():
            self._leads = await self.step()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._every_s)

    async def step(self) -> bool:
        """Judge everything once, if this process leads; says whether it does."""
        if not await self._lease.held():
            # Who led meanwhile has said what there was to say.
            self._seen.clear()
            self._said.clear()
            return False
        for definition in self._live.definitions:
            standing = self._live.standing(definition.key)
            if standing is None or standing.state != "running":
                continue
            try:
                await self._look_after(definition, standing)
            except Exception:
                # One that fails in a way nobody thought of must not keep the rule from the
                # others, nor this round be the last one.
                _log.exception("judging %s failed", definition.key)
        return True

    async def _look_after(self, definition: Experiment, standing: Standing) -> None:
        key, now = definition.key, self._now(standing)
        try:
            rollout = definition.rollout
            if rollout is not None and (rollout.automatic or rollout.dry_run):
                standing = await self._judge(definition, standing, now)
            if definition.policy == "thompson" and standing.state == "running":
                await self._reallocate(definition, standing, now)
        except GenerationConflict:
            return  # somebody was faster; the next round begins with what they made of it
        except (
            StoreUnavailable,
            ReportUnavailable,
            DefinitionDiffers,
            ExperimentChangeRefused,
            UnknownExperiment,
        ) as trouble:
            self._tell_once(key, trouble)
        else:
            self._troubles.pop(key, None)

    def _tell_once(self, key: str, trouble: RankingError) -> None:
        if self._troubles.get(key) != trouble.code:
            _log.warning("the rollout of %s stands still: %s", key, trouble)
        self._troubles[key] = trouble.code

    # --- time ------------------------------------------------------------------------

    def _now(self, standing: Standing) -> float:
        """The wall clock, but no further ahead than the time that was seen to pass.

        A clock that was wrong when a stage began, or is wrong now, must not end the stage
        early. Who leads since its beginning knows how long it lasts; who took over later
        has only the wall clock.
        """
        seen, now = self._seen.get(standing.key), self._clock.now()
        if seen is None or seen.since != standing.since:
            seen = _Seen(standing.since, now, from_its_start=seen is not None)
            self._seen[standing.key] = seen
        wall = self._clock.wall()
        return min(wall, standing.since + now - seen.at) if seen.from_its_start else wall

    # --- rollouts --------------------------------------------------------------------

    async def _judge(self, definition: Experiment, standing: Standing, now: float) -> Standing:
        """Do what the rule says; the standing after it."""
        figures = await self._figures(definition, standing)
        judgement = judge(definition, standing, figures, now)
        rollout = definition.rollout
        author = Author(by=_RULE, reason=judgement.reason, evidence=judgement.evidence)
        dry_run = rollout is not None and rollout.dry_run
        match judgement.action:
            case "promote" | "advance" | "rollback" as action if not dry_run:
                change = Change(action=action, variant=judgement.variant)
                after = await self._changes.change(
                    definition.key, change, author, if_generation=standing.generation
                )
                _log.info("%s %s", definition.key, judgement.reason)
                return after
            case _:
                await self._note(standing, judgement, author, dry_run=dry_run)
                return standing

    async def _figures(self, definition: Experiment, standing: Standing) -> PhaseFigures:
        unready = self._live.unready.get(definition.key)
        if unready is not None:
            return PhaseFigures(
                phase=standing.phase, statistics={}, unreadable=f"nobody is assigned: {unready}"
            )
        try:
            return PhaseFigures(
                phase=standing.phase,
                statistics=await self._statistics.read(definition, standing.phase),
                backlog=await self._statistics.backlog(),
            )
        except ReportUnavailable as why:
            return PhaseFigures(phase=standing.phase, statistics={}, unreadable=str(why))

    async def _note(
        self, standing: Standing, judgement: Judgement, author: Author, *, dry_run: bool
    ) -> None:
        said = self._said.get(standing.key)
        if said is None or said.generation != standing.generation:
            said = self._said[standing.key] = _Said(standing.generation)
        what, now = (judgement.action, judgement.ground), self._clock.now()
        if what == said.last or now < said.at.get(what, -inf) + SAID_AGAIN_S:
            return
        if await self._changes.note(standing, judgement.action, author, dry_run=dry_run):
            said.last, said.at[what] = what, now
            _log.info("%s %s", standing.key, judgement.reason)

    # --- bandits ---------------------------------------------------------------------

    async def _reallocate(self, definition: Experiment, standing: Standing, now: float) -> None:
        """Move the shares of a bandit, if it is time and the figures ask for it."""
        due = max(standing.since, self._allocated.get(definition.key, 0.0)) + REALLOCATE_EVERY_S
        if now < due:
            return
        experiment = in_force(definition, standing)
        found = reallocated(experiment, await self._phases(definition, standing))
        self._allocated[definition.key] = now
        if found is None or not found.moves:
            return
        author = Author(by=_RULE, reason=_why(found), evidence=found)
        if definition.rollout is not None and definition.rollout.dry_run:
            await self._changes.note(standing, "allocate", author, dry_run=True)
            return
        change = Change(action="allocate", shares_bp=found.shares_bp)
        await self._changes.change(
            definition.key, change, author, if_generation=standing.generation
        )

    async def _phases(self, definition: Experiment, standing: Standing) -> tuple[Allocated, ...]:
        """The last phases of this split with the shares that they had."""
        records = await self._changes.decisions(definition.key, _MOST_RECORDS)
        shares = shares_by_phase(definition, standing, records)
        sums = await self._statistics.read_phases(definition, tuple(shares))
        return tuple(
            Allocated(shares_bp=had, statistics=sums[phase]) for phase, had in shares.items()
        )


def _why(allocation: Allocation) -> str:
    moved = ", ".join(
        f"{arm.variant!r} {arm.before_bp / 100:g} to {arm.share_bp / 100:g} %"
        for arm in allocation.arms
    )
    return f"allocated: by the chance of each variant to be the best, {moved}"
