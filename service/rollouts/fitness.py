"""Whether the deployments that variants name are fit for traffic."""

from collections.abc import Mapping

from experiments.definition import CacheMode, Experiment, Variant
from service.deployments import Deployment
from service.deployments.segment_rows import SEGMENT_MODES, no_segments


class Fitness:
    """Remembers which phases began: what fails later fails within its variant.

    A deployment must have an engine that scores before the first unit of a
    phase is assigned. Once the phase runs, units stay where they are when an
    engine fails: the fallback is a part of what the variant is, and moving its
    units to another would hide the failure (intention to treat). A failed gate
    counts always: it is a property of the model, and known beforehand.

    Args:
        deployments: By name; those that serve now.
    """

    def __init__(self, deployments: Mapping[str, Deployment]) -> None:
        self._deployments = deployments
        self._begun: set[tuple[str, int]] = set()

    def problem(self, experiment: Experiment) -> str | None:
        """Why nobody may be assigned; None if all variants that serve are fit."""
        begun = (experiment.key, experiment.phase)
        for variant in experiment.variants:
            if experiment.promoted not in (None, variant.name):
                continue
            why = self._why_unfit(variant, may_be_cold=begun in self._begun)
            if why is not None:
                return why
        self._begun.add(begun)
        return None

    def unfit(self, experiment: Experiment) -> dict[tuple[str, str], str]:
        """Experiment and variant to why it cannot be forced, of those that serve nobody else.

        Before it starts, after it ended, and beside one that was promoted. Where a variant
        serves, `problem` answers for it.
        """
        found: dict[tuple[str, str], str] = {}
        for variant in experiment.variants:
            if experiment.state == "running" or variant.name == experiment.promoted:
                continue
            why = self._why_unfit(variant, may_be_cold=False)
            if why is not None:
                found[experiment.key, variant.name] = why
        return found

    def models(self, experiment: Experiment) -> dict[str, str]:
        """Deployment to the version of its model, of those that may serve the variants."""
        named = {variant.deployment for variant in experiment.variants}
        # Whatever serves its surface serves a variant that names none.
        found = self._deployments if None in named else named
        manifests = {name: self._deployments[name].bundle.manifest for name in found if name}
        return {name: f"{m.name}@{m.version}" for name, m in sorted(manifests.items())}

    def _why_unfit(self, variant: Variant, *, may_be_cold: bool) -> str | None:
        if variant.deployment is None:
            # Whatever serves its surface serves it.
            problems = (cache_problem(d, variant.cache) for d in self._deployments.values())
            why = next(filter(None, problems), None)
            return why and f"variant {variant.name}: {why}"
        found = self._deployments[variant.deployment]
        why = gate_problem(found) or cache_problem(found, variant.cache)
        why = why or (None if may_be_cold else cold(found))
        return why and f"variant {variant.name}, deployment {variant.deployment}: {why}"

    def forget(self, running: frozenset[tuple[str, int]]) -> None:
        """Remember these phases only."""
        self._begun &= running


def gate_problem(deployment: Deployment) -> str | None:
    """The failed gate of a precision that the engines score in; None if all passed or were none."""
    if deployment.batcher is None:
        return None
    manifest = deployment.bundle.manifest
    for precision in dict.fromkeys(state.engine.precision for state in deployment.engines):
        entry = manifest.precisions.get(precision)
        if entry is not None and entry.gate is not None and not entry.gate.passed:
            return f"the bundle failed the gate of {precision}: {'; '.join(entry.gate.failures)}"
    lineage = manifest.lineage
    if lineage is not None and lineage.gate is not None and not lineage.gate.passed:
        return f"the bundle failed the gate against its parent: {'; '.join(lineage.gate.failures)}"
    return None


def cache_problem(deployment: Deployment, mode: CacheMode | None) -> str | None:
    """Why the deployment cannot serve in a cache mode; None if it can, or uses no engine."""
    if mode not in SEGMENT_MODES or deployment.batcher is None or deployment.segments is not None:
        return None
    return no_segments(mode, deployment.bundle)


def cold(deployment: Deployment) -> str | None:
    """Why no engine scores; None if one does, or popularity ranks, which needs none."""
    if deployment.batcher is None or any(state.is_well for state in deployment.engines):
        return None
    states = ", ".join(f"{state.engine.name} is {state.status}" for state in deployment.engines)
    return f"no engine is warm: {states}"
