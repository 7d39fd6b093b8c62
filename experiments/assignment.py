"""Who gets which variant: pure, repeatable, no I/O.

Each decision draws from its own salt: holdout, layer, gate (traffic) and split.
Two draws from one hash would not be independent, and a rollout of 10 % would
then reach some variants only (Unleash node #533, GrowthBook swift #176).
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import accumulate
from types import MappingProxyType
from typing import Literal

import mmh3
import msgspec
from msgspec import Struct

from experiments.definition import Experiment, Variant, check_together, seed_of

BUCKETS = 10_000_000
_BUCKETS_PER_BP = 1_000

Reason = Literal[
    "SPLIT",  # drawn at random: counted
    "EXTERNAL",  # decided by another system, handed in with the request: counted
    "OVERRIDE",  # the definition pins this unit
    "FORCED",  # the request forces a variant, for QA
    "DEFAULT",  # the other system named a variant that there is not
    "HOLDOUT",  # kept out of all experiments of the namespace
    "LAYER",  # belongs to another experiment of the layer, or to none
    "TRAFFIC",  # outside the traffic share
    "DISABLED",  # the experiment is paused
    "TARGETING_KEY_MISSING",  # the request has no unit to draw for
]
"""Why a unit got what it got, in OpenFeature's spelling where it has a word for it."""

_NONE: Mapping[str, str] = MappingProxyType({})


class Units(Struct, frozen=True, gc=False):
    """Who a request is for. An empty id is no id."""

    user: str | None = None
    session: str | None = None


class Assignment(Struct, frozen=True, gc=False):
    """The variant of one experiment for one unit, and why."""

    key: str
    phase: int
    variant: str
    """The control's name where no variant was picked: `picked` tells."""
    deployment: str | None
    """What must serve the request; None leaves the surface's own deployment in place,
    always so where no variant was picked: who is not in an experiment is not touched by it."""
    reason: Reason
    unit: str | None
    """The id that was, or would have been, drawn for."""

    @property
    def picked(self) -> bool:
        """Whether the unit is served by the variant, and not only kept out."""
        return self.reason in ("SPLIT", "EXTERNAL", "OVERRIDE", "FORCED")

    @property
    def counts(self) -> bool:
        """Whether slates served under it are exposures: only undisturbed draws of known units."""
        return self.reason in ("SPLIT", "EXTERNAL") and self.unit is not None


class Decision(Struct, frozen=True, gc=False):
    """What all experiments together say about one request."""

    assignments: tuple[Assignment, ...]
    """One per experiment, in the order of their definition."""
    deployment: str | None = None
    """What must serve it; None leaves the surface's own deployment in place."""
    external_ignored: tuple[str, ...] = ()
    """Keys of external decisions that name no experiment or variant of ours, to be counted."""


class ForceRefused(ValueError):
    """The request forces something that does not exist or cannot be; the caller's mistake."""

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        """The entry of the request's ``force`` that is wrong."""
        super().__init__(message)


def bucket(unit: str, salt: str) -> int:
    """The slot, 0 to 9 999 999, that a unit hashes to under a salt (hash id ``m3x32-v1``).

    ``h`` is murmur3 x86_32 of the unit id's UTF-8 bytes as given (no case
    folding, no trimming, no numbers: "12345" is text), seeded with the murmur3
    x86_32 of the salt under seed 0. The slot is ``(h * 10_000_000) >> 32`` with
    ``h`` unsigned: multiplying keeps the high bits and has no modulo bias.

    Raises:
        UnicodeEncodeError: the id holds a lone surrogate and has no UTF-8 form.
    """
    return _slot(unit.encode(), seed_of(salt))


class Assigner:
    """A fixed set of experiments, compiled for deciding. Safe to share: it never changes."""

    def __init__(self, experiments: Sequence[Experiment]) -> None:
        """
        Raises:
            ValueError: the experiments cannot run side by side.
        """
        check_together(experiments)
        self.experiments = tuple(experiments)
        self.digest = sha256(msgspec.json.encode(self.experiments)).hexdigest()[:16]
        """Names these definitions; equal definitions have equal digests."""
        self._draws = tuple(_Draw(experiment) for experiment in experiments)
        self._by_key = {draw.key: draw for draw in self._draws}
        self._overridden = frozenset(unit for e in experiments for unit in e.overrides)

    def decide(
        self,
        units: Units,
        *,
        forced: Mapping[str, str] = _NONE,
        external: Mapping[str, str] = _NONE,
    ) -> Decision:
        """Decide every experiment for one request.

        What is not drawn comes first: forced, then overridden, then external;
        it also takes its layer, so that the layer still decides once.

        Args:
            forced: Experiment key to variant name, for QA; works on a paused experiment too.
            external: The same, decided by another system; unknown names are
                ignored and reported, because the slate is worth more.

        Raises:
            ForceRefused: `forced` names no experiment or variant of ours, or
                two experiments of one layer.
        """
        user, session = units.user, units.session
        if forced or external or user in self._overridden or session in self._overridden:
            return self._decide_pinned(units, forced, external)
        assignments = tuple([draw.draw(user, session) for draw in self._draws])
        return Decision(assignments, _deployment(assignments))

    def _decide_pinned(
        self, units: Units, forced: Mapping[str, str], external: Mapping[str, str]
    ) -> Decision:
        pins = self._pins(units, self._checked(forced), external)
        layers = {self._by_key[key].layer for key in pins} - {None}
        unknown = tuple(key for key, name in external.items() if not self._knows(key, name))
        assignments: list[Assignment] = []
        for draw in self._draws:
            unit = draw.unit(units.user, units.session)
            if draw.key in pins:
                assignments.append(draw.pick(*pins[draw.key], unit))
            elif draw.paused or (draw.key not in unknown and draw.layer not in layers):
                assignments.append(draw.draw(units.user, units.session))
            else:
                assignments.append(
                    draw.keep_out("DEFAULT" if draw.key in unknown else "LAYER", unit)
                )
        return Decision(tuple(assignments), _deployment(assignments), unknown)

    def _pins(
        self, units: Units, forced: Mapping[str, str], external: Mapping[str, str]
    ) -> dict[str, tuple[str, Reason]]:
        """Experiment key to what is not drawn; at most one experiment of each layer."""
        pins: dict[str, tuple[str, Reason]] = {}
        taken: set[str] = set()

        def pin(draw: "_Draw", variant: str | None, reason: Reason) -> None:
            if variant is not None and draw.key not in pins and draw.layer not in taken:
                pins[draw.key] = (variant, reason)
                taken.update([draw.layer] if draw.layer else [])

        for draw in self._draws:
            pin(draw, forced.get(draw.key), "FORCED")
        running = [draw for draw in self._draws if not draw.paused]
        for draw in running:
            unit = draw.unit(units.user, units.session)
            pin(draw, draw.overrides.get(unit) if unit else None, "OVERRIDE")
        for draw in running:
            name = external.get(draw.key)
            pin(draw, name if name in draw.variants else None, "EXTERNAL")
        return pins

    def _checked(self, forced: Mapping[str, str]) -> Mapping[str, str]:
        layers: dict[str, str] = {}
        for key, name in forced.items():
            draw = self._by_key.get(key)
            if draw is None:
                known = ", ".join(self._by_key) or "none"
                raise ForceRefused(key, f"there is no experiment {key!r}; there are: {known}")
            if name not in draw.variants:
                known = ", ".join(draw.variants)
                raise ForceRefused(
                    key, f"experiment {key!r} has no variant {name!r}; there are: {known}"
                )
            if draw.layer and (other := layers.setdefault(draw.layer, key)) != key:
                raise ForceRefused(
                    key,
                    f"{key!r} and {other!r} are in the layer {draw.layer!r}; force one of them",
                )
        return forced

    def _knows(self, key: str, variant: str) -> bool:
        draw = self._by_key.get(key)
        return draw is not None and variant in draw.variants


class _Draw:
    """One experiment with its seeds and boundaries worked out."""

    def __init__(self, experiment: Experiment) -> None:
        self.key, self.phase = experiment.key, experiment.phase
        self.layer = experiment.layer
        self.paused = experiment.state == "paused"
        self.overrides = experiment.overrides
        self.variants = {variant.name: variant for variant in experiment.variants}
        self._kind = experiment.unit
        self._control = experiment.control.name
        self._order: tuple[Variant, ...] = experiment.variants
        self._holdout = experiment.holdout_bp * _BUCKETS_PER_BP
        self._holdout_seed = seed_of(experiment.holdout_salt)
        start, end = experiment.layer_range_bp
        self._from, self._to = start * _BUCKETS_PER_BP, end * _BUCKETS_PER_BP
        self._layer_seed = seed_of(experiment.layer or "")
        self._traffic = experiment.traffic_bp * _BUCKETS_PER_BP
        self._gate_seed = seed_of(experiment.gate_salt)
        self._split_seed = seed_of(experiment.split_salt)
        # The last end is the whole range, so bisecting the others finds every bucket.
        shares = [variant.share_bp * _BUCKETS_PER_BP for variant in experiment.variants]
        self._ends = list(accumulate(shares))[:-1]

    def unit(self, user: str | None, session: str | None) -> str | None:
        """The id that this experiment draws for; None if the request has none."""
        if self._kind == "user":
            return user or None
        if self._kind == "session":
            return session or None
        return user or session or None

    def draw(self, user: str | None, session: str | None) -> Assignment:
        """The random decision. A range that is everything needs no hash."""
        unit = self.unit(user, session)
        if self.paused:
            return self.keep_out("DISABLED", unit)
        if unit is None:
            return self.keep_out("TARGETING_KEY_MISSING", None)
        # Bytes, because mmh3 5.3 crashes the process on text with a lone surrogate.
        raw = unit.encode()
        if self._holdout and _slot(raw, self._holdout_seed) < self._holdout:
            return self.keep_out("HOLDOUT", unit)
        if self._to - self._from < BUCKETS and not (
            self._from <= _slot(raw, self._layer_seed) < self._to
        ):
            return self.keep_out("LAYER", unit)
        if self._traffic < BUCKETS and _slot(raw, self._gate_seed) >= self._traffic:
            return self.keep_out("TRAFFIC", unit)
        variant = self._order[bisect_right(self._ends, _slot(raw, self._split_seed))]
        return Assignment(self.key, self.phase, variant.name, variant.deployment, "SPLIT", unit)

    def pick(self, variant: str, reason: Reason, unit: str | None) -> Assignment:
        deployment = self.variants[variant].deployment
        return Assignment(self.key, self.phase, variant, deployment, reason, unit)

    def keep_out(self, reason: Reason, unit: str | None) -> Assignment:
        return Assignment(self.key, self.phase, self._control, None, reason, unit)


def _slot(unit: bytes, seed: int) -> int:
    return (mmh3.hash(unit, seed, False) * BUCKETS) >> 32


def _deployment(assignments: Sequence[Assignment]) -> str | None:
    for assignment in assignments:
        if assignment.deployment is not None:
            return assignment.deployment
    return None
