"""Which requests are copied, and who is to score the copy: pure and repeatable."""

from hashlib import blake2b

from msgspec import Struct

from experiments.assignment import Assignment
from experiments.definition import WHOLE_BP, Experiment
from experiments.events import unit_digest
from experiments.targeting import Fits, compiled
from ranking_models.schema import Float32
from service.messages import RankRequest
from service.routing import Routed
from service.scoring import SlateScores

_BEFORE_OR_WITH_TRAFFIC = ("draft", "aa", "running")
_SEEN = ("SPLIT", "EXTERNAL", "TRAFFIC", "TARGETING_KEY_MISSING", "DRAFT", "NOT_READY")
"""Reasons with which an experiment has seen a request: whoever is held out, belongs to another
experiment, is not targeted or was forced is none of its requests."""


class Pair(Struct, frozen=True, kw_only=True):
    """A variant that did not serve, and the one that did."""

    experiment: str
    phase: int
    variant: str
    reference: str
    deployment: str
    """The variant's."""
    unit: str
    """As `experiments.comparison.Comparison` has it."""


class Copy(Struct, frozen=True, kw_only=True):
    """A request whose slate has been served."""

    request: RankRequest
    scores: Float32
    """That made the slate, in the order of the candidates."""
    engine_s: float | None
    """None where the cache had them."""
    pairs: tuple[Pair, ...]


class _Shadowed(Struct, frozen=True):
    """An experiment that wants copies."""

    place: int
    """Among the assignments."""
    experiment: Experiment
    rules: tuple[Fits, ...]

    def sees(self, assignment: Assignment, request: RankRequest, slate_id: str) -> bool:
        """Whether a slate is one of its requests, and in its sample."""
        return (
            assignment.reason in _SEEN
            and is_sampled(slate_id, self.experiment.key, self.experiment.shadow_bp)
            # A draft looks at no request itself.
            and all(fits(request.context) for fits in self.rules)
        )


class Sampler:
    """Picks the requests to copy. For one event loop."""

    def __init__(self) -> None:
        self._looked_at: tuple[Experiment, ...] = ()
        self._shadowed: tuple[_Shadowed, ...] = ()

    def copy_of(
        self, request: RankRequest, routed: Routed, scored: SlateScores, slate_id: str
    ) -> Copy | None:
        """The copy of a request; None for nearly all.

        A slate that its own engine did not score is nothing to compare with, and an
        interleaved one was scored by both.
        """
        if routed.experiments is not self._looked_at:  # other definitions are in force
            self._looked_at = routed.experiments
            self._shadowed = tuple(
                _Shadowed(at, e, tuple(compiled(rule) for rule in e.targeting))
                for at, e in enumerate(self._looked_at)
                if e.shadow_bp > 0 and e.state in _BEFORE_OR_WITH_TRAFFIC
            )
        if not self._shadowed or scored.degraded is not None or routed.interleave is not None:
            return None
        pairs = tuple(
            pair
            for shadowed in self._shadowed
            if shadowed.sees(routed.assignments[shadowed.place], request, slate_id)
            for pair in _pairs(shadowed, routed, slate_id)
        )
        if not pairs:
            return None
        engine_s = None if scored.batch is None else scored.batch.engine_s
        return Copy(request=request, scores=scored.scores, engine_s=engine_s, pairs=pairs)


def is_sampled(slate_id: str, experiment: str, share_bp: int) -> bool:
    """Whether a slate is in an experiment's sample. Ids of slates are random, so samples are; the
    same slate gives the same answer to whoever asks again."""
    drawn = blake2b(f"{experiment}.shadow/{slate_id}".encode(), digest_size=4).digest()
    return int.from_bytes(drawn, "big") * WHOLE_BP >> 32 < share_bp


def _pairs(shadowed: _Shadowed, routed: Routed, slate_id: str) -> tuple[Pair, ...]:
    experiment, assignment = shadowed.experiment, routed.assignments[shadowed.place]
    deployments = {v.name: v.deployment or routed.own for v in experiment.variants}
    reference = _served_by(assignment, deployments, routed.deployment)
    if reference is None:
        return ()
    return tuple(
        Pair(
            experiment=experiment.key,
            phase=assignment.phase,
            variant=name,
            reference=reference,
            deployment=deployment,
            unit=unit_digest(assignment.unit or slate_id),
        )
        for name, deployment in deployments.items()
        if deployment != routed.deployment
    )


def _served_by(assignment: Assignment, deployments: dict[str, str], deployment: str) -> str | None:
    """The variant that served; None if another experiment's did."""
    if assignment.picked and deployments[assignment.variant] == deployment:
        return assignment.variant
    return next((name for name, own in deployments.items() if own == deployment), None)
