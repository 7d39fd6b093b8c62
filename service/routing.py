"""Which deployment serves a request: its surface's own, or an experiment's choice."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from experiments.assignment import Assignment, ForceRefused, Units
from experiments.source import ExperimentSource
from service.errors import InvalidRequest
from service.messages import ExperimentRef

DEFAULT_SURFACE = "default"


class Routed(Struct, frozen=True, kw_only=True):
    """The outcome of routing: what serves, and every decision that was taken."""

    deployment: str
    assignments: tuple[Assignment, ...]
    config_digest: str = ""
    """Of the experiments' definitions; empty where no experiment runs."""
    external_ignored: tuple[str, ...] = ()
    """External decisions that name no experiment or variant of ours."""

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

    def route(
        self,
        units: Units,
        surface: str | None,
        *,
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
            decision = assigner.decide(units, forced=force, external=external)
        except ForceRefused as error:
            raise InvalidRequest(str(error), f"$.force.{error.key}") from None
        return Routed(
            deployment=decision.deployment or own,
            assignments=decision.assignments,
            config_digest=assigner.digest,
            external_ignored=decision.external_ignored,
        )
