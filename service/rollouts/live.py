"""The experiments in force: a file's definitions, the event server's standings, fit engines.

Every look makes at most one new `Assigner`, whole, and puts it in place of the
old one; a request takes it once and so never sees half a change. What cannot
be read leaves what was in force as it was.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Literal

from msgspec.structs import replace

from experiments.assignment import Assigner
from experiments.decisions import DecisionRecord
from experiments.definition import Experiment
from experiments.source import ExperimentInvalid
from experiments.standing import (
    Standing,
    digest_of_split,
    first_standing,
    in_force,
    kept_by,
    newest,
    taken_up,
    why_defined,
)
from service.clock import Clock
from service.errors import StartupError, StoreUnavailable
from service.messages import SourceStatus, SourceTrouble
from service.rollouts.apart import kept_apart
from service.rollouts.copy import StandingCopy
from service.rollouts.fitness import Fitness
from service.rollouts.last_good import LastGood
from service.rollouts.store import MOST_STANDINGS, Standings, StandingStore
from service.rollouts.watch import FileWatch

LOOK_S = 0.5
"""Between two looks: a change elsewhere is in force after this and one small read."""
_ATTEMPTS = 20
"""Replicas that read one edit at the same time settle it in as many rounds as there are of them;
what is left over is tried again at the next look."""
_SERVES = ("running", "promoted")
"""States in which variants serve; in the others their deployments need not be fit."""
_log = logging.getLogger(__name__)

Read = Callable[[], tuple[Experiment, ...]]


class LiveExperiments:
    """An `ExperimentSource` that follows its file and the event server. For one event loop.

    `start` before, `stop` after use. Without a file it has no experiments and does nothing.

    Args:
        watch: Tells when the definitions were written; None where there is no file.
        read: Reads and checks the definitions.
        fitness: Of the deployments that variants name.
        store: The standings of all replicas.
        copy: The last known ones.
        clock: The service's.
        last_good: What another process of this service has read well; None if there is none.

    Raises:
        StartupError, ExperimentInvalid: there are no definitions to begin with.
    """

    def __init__(
        self,
        watch: FileWatch | None,
        read: Read,
        fitness: Fitness,
        *,
        store: StandingStore,
        copy: StandingCopy,
        clock: Clock,
        last_good: LastGood | None = None,
    ) -> None:
        self._watch, self._read, self._fitness = watch, read, fitness
        self._last_good = last_good
        self._store, self._copy, self._clock = store, copy, clock
        self._edited: tuple[Experiment, ...] | None = None  # read, and waiting for phases
        self._held: Standings | None = None  # what the server had when it was last read
        self._kept: Mapping[str, Standing] | None = None  # what the copy holds
        self._own: dict[str, Standing] = {}  # the newest that belongs to our own definition
        self._models: dict[str, dict[str, str]] = {}  # what served each at the last look
        self._lost: set[str] = set()  # known here, and older or missing on the server
        self._unready: Mapping[str, str] = {}
        self._troubles: dict[SourceTrouble, str] = {}
        self._looking = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._standings: dict[str, Standing] = dict(copy.read()) if watch else {}
        self._take(self._first())
        self._assigner = Assigner(())
        self._status = SourceStatus(status="ok", since=clock.wall())
        self.refresh()

    async def start(self) -> None:
        """Ask the event server once, then look on until `stop`."""
        if self._watch is None:
            return
        await self.look()
        self._worker = asyncio.create_task(self._work(), name="experiments")

    async def stop(self) -> None:
        self._stopping.set()
        if self._worker is not None:
            await self._worker

    # --- what is in force ------------------------------------------------------------

    def current(self) -> Assigner:
        """The compiled experiments; one object per generation of all of them together."""
        return self._assigner

    @property
    def definitions(self) -> tuple[Experiment, ...]:
        """As they are written in the file that is in force, without standings."""
        return self._definitions

    def standing(self, key: str) -> Standing | None:
        """What this replica goes by; None where the experiment is not known, or its standing."""
        definition = next((d for d in self._definitions if d.key == key), None)
        return None if definition is None else self._goes_by(definition)

    @property
    def unready(self) -> Mapping[str, str]:
        """Experiment to why it assigns nobody now although it should."""
        return self._unready

    def status(self) -> SourceStatus:
        """Whether the newest definitions and standings are in force; no I/O."""
        return self._status

    @property
    def troubles(self) -> Mapping[SourceTrouble, str]:
        """All that is wrong now, of which `status` names the first."""
        return self._troubles

    # --- looking ---------------------------------------------------------------------

    async def look(self) -> None:
        """Look at the file, the event server and the engines once."""
        async with self._looking:
            self._look_at_file()
            self._look_at_models()
            try:
                await self._ask_the_server()
            except StoreUnavailable as problem:
                waits = "; the edited file waits for it" if self._edited is not None else ""
                self._troubles["store_unavailable"] = f"{problem}{waits}"
            else:
                self._troubles.pop("store_unavailable", None)
            await self._keep_copy()
            self.refresh()

    def put(self, standing: Standing) -> None:
        """Go by a standing that was just written to the event server."""
        self._standings[standing.key] = standing
        self.refresh()

    def refresh(self) -> None:
        """Compile what is in force, if it is another than before."""
        unready: dict[str, str] = {}
        unfit: dict[tuple[str, str], str] = {}
        found: list[Experiment] = []
        for definition in self._definitions:
            standing = self._goes_by(definition)
            experiment = in_force(definition, standing)
            why = self._why_unready(experiment, standing)
            if why is not None:
                unready[experiment.key] = why
            unfit |= self._fitness.unfit(experiment)
            found.append(experiment)
        began = {key: standing.since for key, standing in self._standings.items()}
        experiments, overlap = kept_apart(found, began)
        self._note("overlapping", overlap)
        self._fitness.forget(frozenset((e.key, e.phase) for e in experiments))
        self._note_differences()
        self._tell_status()
        assigner = self._assigner
        if (experiments, unready, unfit) != (assigner.experiments, self.unready, assigner.unfit):
            self._assigner = Assigner(experiments, unready, unfit)
            self._unready = unready

    async def _work(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), LOOK_S)
            try:
                await self.look()
            except Exception:
                # A look that fails in a way nobody thought of must not be the last one:
                # a rollback still has to arrive.
                _log.exception("a look at the experiments failed; what is in force stays")

    def _first(self) -> tuple[Experiment, ...]:
        try:
            found = self._read()
        except (ExperimentInvalid, StartupError) as problem:
            known = None if self._last_good is None else self._last_good.read()
            if known is None:
                raise
            self._note_invalid(problem)
            return known
        self._keep(found)
        return found

    def _keep(self, definitions: tuple[Experiment, ...]) -> None:
        if self._watch is not None and self._last_good is not None:
            self._last_good.keep(definitions)

    def _note_invalid(self, problem: Exception) -> None:
        self._troubles["invalid_file"] = f"the last good definitions stay: {problem}"
        _log.warning("the last good experiments stay in force: %s", problem)

    def _look_at_file(self) -> None:
        if self._watch is None:
            return
        try:
            found = self._watch.changed(self._read)
        except (ExperimentInvalid, StartupError) as problem:
            self._note_invalid(problem)
            return
        if found is not None:
            self._troubles.pop("invalid_file", None)
            self._keep(found)
            self._edited = found
            self._due = {definition.key for definition in found}

    def _look_at_models(self) -> None:
        """Find experiments whose variants another version of a model serves since the last look,
        or whose phase has no versions on record yet."""
        found = {d.key: self._fitness.models(d) for d in self._newest_definitions}
        for key, now in found.items():
            standing = self._standings.get(key)
            # Where another definition is in force, ours must not take its place for this.
            if standing is None or standing.definition != self._splits.get(key):
                continue
            unknown = bool(now) and not standing.models and standing.state in ("running", "aa")
            if unknown or self._models.get(key, now) != now:
                self._due.add(key)
        self._models = found

    def _take(self, definitions: tuple[Experiment, ...]) -> None:
        """Go by these definitions."""
        self._definitions = definitions
        self._splits = {d.key: digest_of_split(d) for d in definitions}
        self._due = {definition.key for definition in definitions}

    async def _ask_the_server(self) -> None:
        version = await self._store.version()
        # No version at all is no news only as long as nobody has written one.
        if version is None or self._held is None or version != self._held.version:
            await self._read_standings()
        for key in sorted(self._lost):
            await self._put_back(key)
        for definition in self._newest_definitions:
            if definition.key in self._due:
                await self._define(definition)
        if self._edited is not None and not self._due:
            self._take(self._edited)
            self._edited, self._due = None, set()
            _log.info("the experiments were read again: %s", ", ".join(self._splits) or "none")

    async def _read_standings(self) -> None:
        self._held = held = await self._store.read()
        for definition in self._definitions:
            key = definition.key
            known, now = self._standings.get(key), held.by_key.get(key)
            if now is not None and (known is None or now.generation >= known.generation):
                self._standings[key] = now
            elif known is not None:
                self._lost.add(key)

    async def _put_back(self, key: str) -> None:
        """The server has lost what was decided, such as by a restart without its newest data:
        a rollback is not undone by that."""
        held, known = self._on_the_server(key), self._standings[key]
        if held is None or held.generation < known.generation:
            await self._write(known, held, "put back as it was last known")
        self._lost.discard(key)

    async def _define(self, definition: Experiment) -> None:
        """Have the event server know the definition; whoever reads an edit first decides its phase.

        Only once per edit, and per activated version of a model: two replicas that have
        different ones must not undo each other.
        """
        key = definition.key
        for _ in range(_ATTEMPTS):
            held = self._on_the_server(key)
            known = newest(held, self._standings.get(key)) or await self._recorded(key)
            now, models = self._clock.wall(), self._models.get(key)
            standing = (
                first_standing(definition, now, models)
                if known is None
                else taken_up(definition, known, now, models)
            )
            if standing == held or await self._write(standing, held, why_defined(known, standing)):
                self._standings[key] = standing
                self._due.discard(key)
                return
            await self._read_standings()

    async def _write(self, standing: Standing, held: Standing | None, reason: str) -> bool:
        record = DecisionRecord(
            at=self._clock.wall(),
            key=standing.key,
            action="define",
            by="file",
            reason=reason,
            before=held,
            after=standing,
            config_digest=self._assigner.digest,
        )
        generation = 0 if held is None else held.generation
        return await self._store.write(record, generation=generation, forget=self._forgettable())

    def _on_the_server(self, key: str) -> Standing | None:
        return None if self._held is None else self._held.by_key.get(key)

    def _forgettable(self) -> list[str]:
        """The oldest standings that no definition of ours needs, if the server holds too many."""
        by_key = {} if self._held is None else self._held.by_key
        others = [s for key, s in by_key.items() if key not in self._due | self._splits.keys()]
        too_many = max(0, len(by_key) + 1 - MOST_STANDINGS)
        return [s.key for s in sorted(others, key=lambda s: s.since)[:too_many]]

    async def _recorded(self, key: str) -> Standing | None:
        """How an experiment stood when it was last decided about."""
        last = await self._store.decisions(key, 1)
        return last[0].after if last else None

    @property
    def _newest_definitions(self) -> tuple[Experiment, ...]:
        """Those of the file as it was last read well."""
        return self._definitions if self._edited is None else self._edited

    # --- putting together ------------------------------------------------------------

    def _goes_by(self, definition: Experiment) -> Standing | None:
        key = definition.key
        newest = self._standings.get(key)
        if newest is None:
            return None
        if newest.definition == self._splits[key]:
            self._own[key] = newest
            return self._braked(newest)
        own = self._own.get(key)
        return None if own is None else self._braked(kept_by(own, newest))

    def _braked(self, standing: Standing) -> Standing:
        """A file that takes an experiment off is obeyed at once, also without the event server."""
        definitions = self._newest_definitions
        asked = next((d.state for d in definitions if d.key == standing.key), standing.asked)
        if standing.key in self._due and asked != standing.asked and asked not in ("running", "aa"):
            return replace(standing, state=asked, promoted=None)
        return standing

    def _why_unready(self, experiment: Experiment, standing: Standing | None) -> str | None:
        if standing is None:
            return "its standing is not known: the event server is away, or has another definition"
        return self._fitness.problem(experiment) if experiment.state in _SERVES else None

    def _note_differences(self) -> None:
        other = [
            key
            for key, split in self._splits.items()
            if key in self._standings and self._standings[key].definition != split
        ]
        told = other and self._edited is None
        self._note(
            "other_definition",
            f"another replica has another definition of {', '.join(sorted(other))}: "
            "give all replicas the same file"
            if told
            else None,
        )

    def _note(self, trouble: SourceTrouble, problem: str | None) -> None:
        """Remember what is wrong; None: it is well."""
        if problem is None:
            self._troubles.pop(trouble, None)
        else:
            self._troubles[trouble] = problem

    def _tell_status(self) -> None:
        status: Literal["ok"] | SourceTrouble = next(iter(self._troubles), "ok")
        problem = "; ".join(self._troubles.values()) or None
        since = self._status.since if status == self._status.status else self._clock.wall()
        self._status = SourceStatus(status=status, problem=problem, since=since)

    async def _keep_copy(self) -> None:
        wanted = {key: self._standings[key] for key in self._splits if key in self._standings}
        if wanted == self._kept:
            return
        try:
            await asyncio.to_thread(self._copy.keep, wanted)
        except OSError as error:
            problem = f"{self._copy.file} cannot be written: {error.strerror}"
            if self._troubles.get("no_copy") != problem:
                _log.warning("a start without the event server would know less: %s", problem)
            self._troubles["no_copy"] = problem
        else:
            self._kept = wanted
            self._troubles.pop("no_copy", None)
