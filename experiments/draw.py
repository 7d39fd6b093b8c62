"""One experiment, compiled: who it draws, for what, and why not.

Each decision draws from its own salt: holdout, layer, gate (traffic) and split.
Two draws from one hash would not be independent, and a rollout of 10 % would
then reach some variants only (Unleash node #533, GrowthBook swift #176).

All of it is on the path of every request, so what can be worked out is worked
out here once, and a draw that cannot decide anything is not made.
"""

from collections.abc import Callable, Sequence

from mmh3 import hash as murmur3

from experiments.definition import WHOLE_BP, Experiment, State
from experiments.hashing import layer_part, picker
from experiments.hashing.murmur import limit_of, seed_of
from experiments.hashing.terms import Inside, Pick
from experiments.outcome import Assignment, Reason
from experiments.targeting import Context, Fits, compiled
from experiments.validity import has_utf8

_KEPT_OUT: dict[State, Reason] = {
    "draft": "DRAFT",
    "paused": "DISABLED",
    "stopped": "STOPPED",
    "rolled_back": "ROLLED_BACK",
}

Unit = Callable[[str | None, str | None], str | None]
Decide = Callable[[str | None, str | None, Context], Assignment]


class Draw:
    """An experiment with its seeds and boundaries worked out. Never changes."""

    def __init__(self, experiment: Experiment, *, unready: str | None = None) -> None:
        """
        Args:
            unready: Why a deployment of it cannot serve; then nobody is assigned.
        """
        self._experiment = experiment
        self.unready = unready
        self.key, self.layer = experiment.key, experiment.layer
        self.overrides = experiment.overrides
        self.variants = {variant.name: variant for variant in experiment.variants}
        self.draws = experiment.state in ("running", "aa") and unready is None
        """Whether units are drawn, and pins of units count for anything."""
        self.takes_external = experiment.method == "split" and experiment.policy == "fixed"
        """Whether another system may decide. Not where a unit sees both variants at once, nor
        where a bandit weighs by probabilities, which are known of our own draws alone."""
        self.serves = self.draws or (experiment.state == "promoted" and unready is None)
        self._unit_of = _UNITS[experiment.unit]
        self.decide: Decide = _drawing(experiment, self._unit_of) if self.serves else self._closed()
        """The decision for user and session in a context, as far as nothing is pinned."""

    def unit(self, user: str | None, session: str | None) -> str | None:
        """The id that this experiment draws for; None if the request has none."""
        unit = self._unit_of(user, session)
        return unit if unit is not None and has_utf8(unit) else None

    def pick(self, variant: str, reason: Reason, unit: str | None) -> Assignment:
        """A variant that was not drawn."""
        e = self._experiment
        untouched = e.state == "aa" and reason != "FORCED"
        deployment = None if untouched else self.variants[variant].deployment
        return Assignment(e.key, e.phase, variant, deployment, reason, unit)

    def keep_out(self, reason: Reason, unit: str | None) -> Assignment:
        e = self._experiment
        return Assignment(e.key, e.phase, e.control.name, None, reason, unit)

    def _closed(self) -> Decide:
        reason: Reason = "NOT_READY" if self.unready is not None else "DISABLED"
        reason = _KEPT_OUT.get(self._experiment.state, reason)
        return lambda user, session, context: self.keep_out(reason, self.unit(user, session))


def _user(user: str | None, session: str | None) -> str | None:
    return user or None


def _session(user: str | None, session: str | None) -> str | None:
    return session or None


def _user_or_session(user: str | None, session: str | None) -> str | None:
    return user or session or None


_UNITS: dict[str, Unit] = {
    "user": _user,
    "session": _session,
    "user_or_session": _user_or_session,
}


def _drawing(experiment: Experiment, unit_of: Unit) -> Decide:
    key, phase, control = experiment.key, experiment.phase, experiment.control.name
    fits = _targeting(experiment)
    holdout, holdout_seed = limit_of(experiment.holdout_bp), seed_of(experiment.holdout_salt)
    inside, pick, outcomes = _layer(experiment), _pick(experiment), _outcomes(experiment)
    drawn: Reason = "PROMOTED" if experiment.state == "promoted" else "SPLIT"

    def decide(user: str | None, session: str | None, context: Context) -> Assignment:
        unit, raw = unit_of(user, session), b""
        try:
            raw = b"" if unit is None else unit.encode()
        except UnicodeEncodeError:
            # A lone surrogate: it has no bytes, and mmh3 5.3 crashes the process on such text.
            unit = None
        reason: Reason
        if unit is None:
            reason = "TARGETING_KEY_MISSING"
        elif fits is not None and not fits(context):
            reason = "NOT_TARGETED"
        elif holdout and murmur3(raw, holdout_seed, False) < holdout:
            reason = "HOLDOUT"
        elif inside is not None and not inside(unit, raw):
            reason = "LAYER"
        elif (at := pick(unit, raw)) < 0:
            reason = "TRAFFIC"
        else:
            variant, deployment, propensity, mixed = outcomes[at]
            return Assignment(key, phase, variant, deployment, drawn, unit, propensity, mixed)
        return Assignment(key, phase, control, None, reason, unit)

    return decide


def _targeting(experiment: Experiment) -> Fits | None:
    """None where everybody is meant."""
    rules = tuple(compiled(rule) for rule in experiment.targeting)
    if len(rules) < 2:
        return rules[0] if rules else None
    return lambda context: all(fits(context) for fits in rules)


def _layer(experiment: Experiment) -> Inside | None:
    """None where the experiment has the whole layer: a range that is everything needs no hash."""
    start, end = experiment.layer_range_bp
    if experiment.layer is None or end - start == WHOLE_BP:
        return None
    return layer_part(experiment.hash, experiment.layer, start, end)


def _pick(experiment: Experiment) -> Pick:
    if experiment.state == "promoted":
        return lambda unit, raw: 0
    return picker(experiment.hash, experiment.terms)


_Outcome = tuple[str, str | None, float, bool]
"""Variant, deployment, propensity, whether it is mixed."""


def _outcomes(experiment: Experiment) -> Sequence[_Outcome]:
    """What the places that a draw can pick stand for."""
    e, control = experiment, experiment.control
    if e.state == "promoted":
        (winner,) = (variant for variant in e.variants if variant.name == e.promoted)
        return [(winner.name, winner.deployment, 1.0, False)]
    untouched = e.state == "aa"
    if e.method == "interleave":
        deployment = None if untouched else control.deployment
        return [(control.name, deployment, 1.0, e.state == "running")] * len(e.variants)
    weights = e.terms.weights
    total = sum(weights)
    return [
        (variant.name, None if untouched else variant.deployment, weight / total, False)
        for variant, weight in zip(e.in_draw_order, weights, strict=True)
    ]
