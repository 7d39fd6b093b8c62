"""Which deployment serves a request: its surface's own, or an experiment's choice."""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

from experiments.assignment import Assigner, Assignment, ForceRefused, Units
from experiments.definition import INTERLEAVED, CacheMode, Experiment
from experiments.source import ExperimentSource
from experiments.targeting import Context
from service.errors import InvalidRequest
from service.messages import ExperimentRef

DEFAULT_SURFACE = "default"


class Caching(Struct, frozen=True):
    """How a request may use the score cache."""

    mode: CacheMode | None = None
    """None: as the deployment that serves it does."""
    arm: str = ""
    """Whose entries it shares with nobody else; empty: everybody's."""


AS_CONFIGURED = Caching()


class Interleave(Struct, frozen=True):
    """Two rankers that make the slate together."""

    key: str
    """Of the experiment."""
    teams: tuple[tuple[str, str], tuple[str, str]]
    """Variant and deployment, the control's first."""
    caching: tuple[Caching, Caching] = (AS_CONFIGURED, AS_CONFIGURED)
    """Of each team."""


class Routed(Struct, frozen=True, kw_only=True):
    """The outcome of routing: what serves, and every decision that was taken."""

    deployment: str
    assignments: tuple[Assignment, ...]
    config_digest: str = ""
    """Of the experiments' definitions; empty where no experiment runs."""
    external_ignored: tuple[str, ...] = ()
    """External decisions that name no experiment or variant of ours."""
    experiments: tuple[Experiment, ...] = ()
    """The definitions that decided, in the order of the assignments."""
    own: str = ""
    """The surface's own deployment, whoever serves."""
    interleave: Interleave | None = None
    """None: one deployment serves alone."""
    caching: Caching = AS_CONFIGURED
    """Of that one."""

    def alone(self, variant: str) -> "Routed":
        """What became of an interleaved slate that only one ranker could make: nobody counts it."""
        assert self.interleave is not None
        key = self.interleave.key
        return msgspec.structs.replace(
            self,
            interleave=None,
            assignments=tuple(
                msgspec.structs.replace(a, variant=variant, reason="ERROR") if a.key == key else a
                for a in self.assignments
            ),
        )

    def references(self) -> tuple[ExperimentRef, ...]:
        """The decisions as the reply tells them."""
        if not self.assignments:
            return ()
        return _references(self.assignments)

    def serving(self) -> tuple[ExperimentRef, ...]:
        """Those of the decisions that picked a variant, the one that decides the deployment first.

        The others only kept the unit out: it is served as if they were not there.
        """
        if not self.assignments:
            return ()
        picked = [a for a in self.assignments if a.picked]
        return _references(sorted(picked, key=lambda a: a.deployment is None))


def _references(assignments: Iterable[Assignment]) -> tuple[ExperimentRef, ...]:
    return tuple(
        ExperimentRef(key=a.key, phase=a.phase, variant=a.variant, reason=a.reason)
        for a in assignments
    )


class Router:
    """Routes one request: pure and repeatable, no I/O."""

    def __init__(self, source: ExperimentSource, surfaces: Mapping[str, str], default: str) -> None:
        self._source = source
        self._surfaces = dict(surfaces)
        self._default = self._surfaces.get(DEFAULT_SURFACE, default)
        own = {*self._surfaces.values(), self._default}
        self._alone = {name: Routed(deployment=name, assignments=()) for name in own}
        self._looked_at: Assigner | None = None
        self._interleaves = self._speaks_of_caches = False

    def _interleaves_of(self, assigner: Assigner) -> bool:
        if assigner is not self._looked_at:
            self._looked_at = assigner
            self._interleaves = any(e.method == "interleave" for e in assigner.experiments)
            self._speaks_of_caches = any(map(_speaks_of_caches, assigner.experiments))
        return self._interleaves

    def alone(self, surface: str | None) -> Routed | None:
        """What serves a surface while no experiment runs; None if one does."""
        if self._source.current().experiments:
            return None
        return self._alone[self._surfaces.get(surface or DEFAULT_SURFACE, self._default)]

    def own(self, surface: str | None) -> str:
        """The deployment of a surface where no experiment decides."""
        return self._surfaces.get(surface or DEFAULT_SURFACE, self._default)

    def route(
        self,
        units: Units,
        surface: str | None,
        *,
        context: Context,
        force: Mapping[str, str],
        external: Mapping[str, str],
    ) -> Routed:
        """Pick a variant of every experiment and the deployment that follows.

        Raises:
            InvalidRequest: ``force`` names an experiment or variant that does not exist.
        """
        # One look at the source: a reload cannot mix two generations in a request.
        assigner = self._source.current()
        own = self._surfaces.get(surface or DEFAULT_SURFACE, self._default)
        if not (assigner.experiments or force or external):
            return self._alone[own]
        try:
            decision = assigner.decide(units, context=context, forced=force, external=external)
        except ForceRefused as error:
            raise InvalidRequest(str(error), f"$.force.{error.key}") from None
        routed = Routed(
            deployment=decision.deployment or own,
            assignments=decision.assignments,
            config_digest=assigner.digest,
            external_ignored=decision.external_ignored,
            experiments=assigner.experiments,
            own=own,
        )
        if self._interleaves_of(assigner):
            routed = _interleaved(routed)
        return _with_caching(routed) if self._speaks_of_caches else routed


def _speaks_of_caches(experiment: Experiment) -> bool:
    return experiment.isolate_cache or any(v.cache is not None for v in experiment.variants)


def _with_caching(routed: Routed) -> Routed:
    """With what the variants say of the cache that serve the request."""
    interleave = routed.interleave
    if interleave is not None:
        one, other = (_caching(routed, {interleave.key: name}) for name, _ in interleave.teams)
        interleave = msgspec.structs.replace(interleave, caching=(one, other))
    return msgspec.structs.replace(routed, caching=_caching(routed, {}), interleave=interleave)


def _caching(routed: Routed, instead: Mapping[str, str]) -> Caching:
    """Of the variants that were picked.

    Args:
        routed: With all assignments.
        instead: Experiment key to the variant that is meant, whatever was assigned.
    """
    mode: CacheMode | None = None
    arms = []
    for experiment, assignment in zip(routed.experiments, routed.assignments, strict=True):
        name = instead.get(experiment.key, assignment.variant)
        # An A/A phase leaves everything as the surface has it, unless a person forces a variant.
        untouched = experiment.state == "aa" and assignment.reason != "FORCED"
        if untouched or not assignment.picked or name == INTERLEAVED:
            continue
        (variant,) = (v for v in experiment.variants if v.name == name)
        mode = mode or variant.cache
        if experiment.isolate_cache:
            arms.append(f"{experiment.key}/{name}")
    return Caching(mode, ",".join(sorted(arms)))


def _interleaved(routed: Routed) -> Routed:
    """Where an assignment says so, both its variants make the slate, and it is counted for both."""
    for experiment, assignment in zip(routed.experiments, routed.assignments, strict=True):
        if assignment.interleaves:
            control, treatment = experiment.variants
            teams = (
                (control.name, control.deployment or routed.own),
                (treatment.name, treatment.deployment or routed.own),
            )
            return msgspec.structs.replace(
                routed,
                interleave=Interleave(experiment.key, teams),
                assignments=tuple(
                    msgspec.structs.replace(a, variant=INTERLEAVED) if a is assignment else a
                    for a in routed.assignments
                ),
            )
    return routed
