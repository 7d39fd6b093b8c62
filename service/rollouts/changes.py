"""Changes of running experiments, by a person or by the rule: each one step, and on record."""

import asyncio
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from experiments.decisions import Action, DecisionRecord
from experiments.definition import Experiment
from experiments.standing import Change, ChangeRefused, Standing, after, digest_of_split, in_force
from experiments.together import check_together
from service.clock import Clock
from service.errors import (
    DefinitionDiffers,
    ExperimentChangeRefused,
    GenerationConflict,
    StoreUnavailable,
    UnknownExperiment,
)
from service.rollouts.live import LiveExperiments
from service.rollouts.store import StandingStore

CHANGE_LIMIT_S = 10.0
"""Longest a change is tried again because others come before it."""
_WITHOUT_DEFINITION = ("pause", "rollback", "stop")
"""Changes that any replica can make, whichever definition it has."""


class Author(Struct, frozen=True, kw_only=True):
    """Who changes something, why, and on which grounds."""

    by: str
    """As `DecisionRecord.by`."""
    reason: str = ""
    evidence: Struct | None = None
    """What the rule found; None for a person."""


class ExperimentChanges:
    """Changes standings on the event server. For one event loop.

    Args:
        live: This worker's experiments; a change is in force here when it returns,
            and everywhere else after their next look.
        store: The standings of all replicas.
        clock: The service's.
    """

    def __init__(self, live: LiveExperiments, store: StandingStore, clock: Clock) -> None:
        self._live, self._store, self._clock = live, store, clock
        self._changing = asyncio.Lock()

    async def change(
        self, key: str, change: Change, author: Author, *, if_generation: int | None = None
    ) -> Standing:
        """Make a change, upon whatever others made before it; changing nothing leaves no record.

        Args:
            key: The experiment.
            change: What is wanted.
            author: Who wants it, and why.
            if_generation: Refuse the change if the standing has another generation.

        Returns:
            The standing that is in force now.

        Raises:
            UnknownExperiment: there is none.
            GenerationConflict: it has another generation.
            ExperimentChangeRefused: the change does not fit.
            DefinitionDiffers: other replicas have another definition of it.
            StoreUnavailable: whether it was made is not known.
        """
        definition = self._definition(key)
        try:
            # One at a time in this process; what is left to contend with are other processes.
            async with asyncio.timeout(CHANGE_LIMIT_S), self._changing:
                while True:
                    before = await self._present(key, if_generation)
                    changed = self._changed(definition, before, change)
                    if changed is before:
                        return before
                    record = self._record(before, changed, change.action, author)
                    if await self._store.write(record, generation=before.generation):
                        self._live.put(changed)
                        return changed
        except TimeoutError:
            raise StoreUnavailable("others change this experiment all the time") from None

    async def note(
        self, standing: Standing, action: Action, author: Author, *, dry_run: bool = False
    ) -> bool:
        """Put a decision on record that changes nothing.

        Args:
            standing: What it was decided upon.
            action: What was decided.
            author: Who decided, and why.
            dry_run: Whether it would have been changed but for that.

        Returns:
            Whether it is on record; not where the standing has changed meanwhile.

        Raises:
            StoreUnavailable: whether it is on record is not known.
        """
        record = replace(self._record(standing, standing, action, author), dry_run=dry_run)
        return await self._store.write(record, generation=standing.generation)

    async def decisions(self, key: str, limit: int) -> tuple[DecisionRecord, ...]:
        """The last decisions about an experiment, newest first; also of one that was removed.

        Raises:
            UnknownExperiment: nothing was ever decided about it.
            StoreUnavailable: the audit log cannot be read.
        """
        found = await self._store.decisions(key, limit)
        if not found:
            self._definition(key)
        return found

    def _definition(self, key: str) -> Experiment:
        known = {definition.key: definition for definition in self._live.definitions}
        if key not in known:
            raise UnknownExperiment(key, tuple(known))
        return known[key]

    async def _present(self, key: str, if_generation: int | None) -> Standing:
        found = await self._store.standing(key)
        if found is None:
            await self._live.look()  # which makes it known again
            found = await self._store.standing(key)
        if found is None:
            raise StoreUnavailable(f"the event server does not know {key!r} yet")
        if if_generation is not None and if_generation != found.generation:
            raise GenerationConflict(key, if_generation, found.generation)
        return found

    def _changed(self, definition: Experiment, before: Standing, change: Change) -> Standing:
        differs = digest_of_split(definition) != before.definition
        if differs and change.action not in _WITHOUT_DEFINITION:
            raise DefinitionDiffers(
                f"this replica has another definition of {definition.key!r} than the one that "
                "is in force: give all replicas the same file; pause, rollback and stop work"
            )
        try:
            changed = after(definition, before, change, self._clock.wall())
            if changed is not before:
                self._check_beside_others(definition, changed)
        except ChangeRefused as refused:
            raise ExperimentChangeRefused(str(refused)) from None
        return changed

    def _check_beside_others(self, definition: Experiment, changed: Standing) -> None:
        others = [e for e in self._live.current().experiments if e.key != definition.key]
        try:
            check_together([*others, in_force(definition, changed)])
        except ValueError as problem:
            raise ChangeRefused(str(problem)) from None

    def _record(
        self, before: Standing, changed: Standing, action: Action, author: Author
    ) -> DecisionRecord:
        goes_on = before.state == "paused" and before.counted is not None
        resumed = action == "start" and goes_on and changed.phase == before.phase
        evidence: Any = None if author.evidence is None else msgspec.to_builtins(author.evidence)
        return DecisionRecord(
            at=self._clock.wall(),
            key=before.key,
            action="resume" if resumed else action,
            by=author.by,
            reason=author.reason,
            before=before,
            after=changed,
            config_digest=self._live.current().digest,
            evidence=evidence,
        )
