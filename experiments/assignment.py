"""Who gets which variant: pure, repeatable, no I/O. What one experiment draws is in `draw`."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from types import MappingProxyType

import msgspec

from experiments.definition import Experiment
from experiments.draw import Draw
from experiments.hashing.murmur import BUCKETS, bucket
from experiments.outcome import Assignment, Decision, Reason, Units
from experiments.targeting import NO_CONTEXT, Context
from experiments.together import check_together

__all__ = [
    "BUCKETS",
    "Assigner",
    "Assignment",
    "Decision",
    "ForceRefused",
    "Reason",
    "Units",
    "bucket",
]

_NONE: Mapping[str, str] = MappingProxyType({})
_ALL_FIT: Mapping[tuple[str, str], str] = MappingProxyType({})


class ForceRefused(ValueError):
    """The request forces something that does not exist or cannot be; the caller's mistake."""

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        """The entry of the request's ``force`` that is wrong."""
        super().__init__(message)


class Assigner:
    """A fixed set of experiments, compiled for deciding. Safe to share: it never changes."""

    def __init__(
        self,
        experiments: Sequence[Experiment],
        unready: Mapping[str, str] = _NONE,
        unfit: Mapping[tuple[str, str], str] = _ALL_FIT,
    ) -> None:
        """Compile.

        Args:
            experiments: In the order in which decisions are told.
            unready: Experiment key to why a deployment of it is not fit to
                serve: nobody is assigned, neither drawn nor forced.
            unfit: Experiment key and variant to why its deployment is not; in a
                state in which it serves nobody, it cannot be forced either.

        Raises:
            ValueError: the experiments cannot run side by side.
        """
        check_together(experiments)
        self.experiments = tuple(experiments)
        self.unready, self.unfit = dict(unready), dict(unfit)
        self.digest = sha256(msgspec.json.encode(self.experiments)).hexdigest()[:16]
        """Names these definitions; equal definitions have equal digests."""
        self._draws = tuple(Draw(e, unready=unready.get(e.key)) for e in experiments)
        self._decides = tuple(draw.decide for draw in self._draws)
        self._by_key = {draw.key: draw for draw in self._draws}
        self._overridden = frozenset(unit for e in experiments for unit in e.overrides)

    def decide(
        self,
        units: Units,
        *,
        context: Context = NO_CONTEXT,
        forced: Mapping[str, str] = _NONE,
        external: Mapping[str, str] = _NONE,
    ) -> Decision:
        """Decide every experiment for one request.

        What is not drawn comes first: forced, then overridden, then external;
        it also takes its layer, so that the layer still decides once. Neither
        targeting nor the holdout keeps it out.

        Args:
            units: Who it is for.
            context: What targeting looks at.
            forced: Experiment key to variant name, for QA; works in every state
                of an experiment that is ready.
            external: The same, decided by another system; unknown names are
                ignored and reported, because the slate is worth more.

        Raises:
            ForceRefused: `forced` names no experiment or variant of ours, one
                that is not ready, or two experiments of one layer.
            AttributeError: a unit id is no text.
        """
        user, session = units.user, units.session
        if forced or external or user in self._overridden or session in self._overridden:
            return self._decide_pinned(units, context, forced, external)
        assignments = tuple([decide(user, session, context) for decide in self._decides])
        return Decision(assignments, _deployment(assignments))

    def _decide_pinned(
        self,
        units: Units,
        context: Context,
        forced: Mapping[str, str],
        external: Mapping[str, str],
    ) -> Decision:
        pins = self._pins(units, self._checked(forced), external)
        layers = {self._by_key[key].layer for key in pins} - {None}
        unknown = tuple(key for key, name in external.items() if not self._knows(key, name))

        def decided(draw: Draw) -> Assignment:
            unit = draw.unit(units.user, units.session)
            if draw.key in pins:
                return draw.pick(*pins[draw.key], unit)
            if draw.draws and draw.key in unknown:
                return draw.keep_out("DEFAULT", unit)
            if draw.serves and draw.layer in layers:
                return draw.keep_out("LAYER", unit)
            return draw.decide(units.user, units.session, context)

        assignments = tuple(map(decided, self._draws))
        return Decision(assignments, _deployment(assignments), unknown)

    def _pins(
        self, units: Units, forced: Mapping[str, str], external: Mapping[str, str]
    ) -> dict[str, tuple[str, Reason]]:
        """Experiment key to what is not drawn; at most one experiment of each layer."""
        pins: dict[str, tuple[str, Reason]] = {}
        taken: set[str] = set()

        def pin(draw: Draw, variant: str | None, reason: Reason) -> None:
            if variant is not None and draw.key not in pins and draw.layer not in taken:
                pins[draw.key] = (variant, reason)
                taken.update([draw.layer] if draw.layer else [])

        for draw in self._draws:
            pin(draw, forced.get(draw.key), "FORCED")
        drawing = [draw for draw in self._draws if draw.draws]
        for draw in drawing:
            unit = draw.unit(units.user, units.session)
            pin(draw, draw.overrides.get(unit) if unit else None, "OVERRIDE")
        for draw in drawing:
            name = external.get(draw.key)
            pin(draw, name if name and self._knows(draw.key, name) else None, "EXTERNAL")
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
            why = draw.unready or self.unfit.get((key, name))
            if why is not None:
                raise ForceRefused(key, f"experiment {key!r} is not ready: {why}")
            if draw.layer and (other := layers.setdefault(draw.layer, key)) != key:
                raise ForceRefused(
                    key,
                    f"{key!r} and {other!r} are in the layer {draw.layer!r}; force one of them",
                )
        return forced

    def _knows(self, key: str, variant: str) -> bool:
        """Whether another system can have decided so. It cannot where slates are mixed: units of
        one variant would be counted beside those that see both; nor where a bandit sets the
        shares: it weighs by probabilities, and those of others are not known."""
        draw = self._by_key.get(key)
        return draw is not None and draw.takes_external and variant in draw.variants


def _deployment(assignments: Sequence[Assignment]) -> str | None:
    for assignment in assignments:
        if assignment.deployment is not None:
            return assignment.deployment
    return None
