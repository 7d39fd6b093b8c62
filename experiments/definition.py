"""What an experiment is: its variants, who takes part, and what makes a definition valid."""

import re
from collections.abc import Sequence
from typing import Literal

import mmh3
import msgspec
from msgspec import Struct

HASH = "m3x32-v1"
"""The one hash that this version knows; see `experiments.assignment.bucket`. An id never
changes its meaning, because a changed hash moves everybody to another variant."""

DEPLOYMENT_LAYER = "deployment"
"""The layer of all experiments that decide the deployment, so that one request has one model."""

WHOLE_BP = 10_000
"""Everything, in basis points."""

UnitKind = Literal["user", "session", "user_or_session"]
State = Literal["running", "paused"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_RULE = "1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"
_MAX_SALT = 128


class Variant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One arm of an experiment."""

    name: str
    share_bp: int
    """Share of the units that take part, in basis points."""
    deployment: str | None = None
    """What serves this variant; None leaves the surface's own deployment in place."""

    def __post_init__(self) -> None:
        _check_name("variant name", self.name)
        if not 0 <= self.share_bp <= WHOLE_BP:
            raise ValueError(
                f"variant {self.name!r}: share_bp must be 0 to {WHOLE_BP}, got {self.share_bp}"
            )


class Experiment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A comparison of variants on randomly split units.

    A unit takes part if it is outside the holdout, inside the layer range and
    inside the traffic share; then the split gives it a variant. The four draws
    have salts of their own, so none of them says anything about another.
    """

    key: str
    variants: tuple[Variant, ...]
    """The first is the control."""
    salt: str = ""
    """What the gate and the split hash units with; the key if it is not given.
    A restart with fresh units needs a new salt."""
    hash: str = HASH
    unit: UnitKind = "user"
    """What is randomised; ``user_or_session`` takes the session where there is no user."""
    traffic_bp: int = WHOLE_BP
    """Share of the eligible units that take part. Raising it only adds units."""
    layer: str | None = None
    """Experiments of one layer never share a unit. Experiments whose variants name a
    deployment are always in the layer ``deployment``."""
    layer_range_bp: tuple[int, int] = (0, WHOLE_BP)
    """The part of the layer that belongs to this experiment: from, up to (excluded)."""
    namespace: str = "podium"
    """Experiments of one namespace hold out the same units."""
    holdout_bp: int = 0
    """Share of all units that this experiment never touches."""
    overrides: dict[str, str] = {}
    """Unit id to variant name: units that always get this variant and are never counted."""
    phase: int = 1
    """To be raised whenever shares or variants change; phases are analysed apart."""
    state: State = "running"
    """A paused experiment assigns nobody; it keeps its part of the layer."""

    def __post_init__(self) -> None:
        _check_name("experiment key", self.key)
        try:
            self._default()
            self._check_variants()
            self._check_shares()
            self._check_layer()
        except ValueError as problem:
            raise ValueError(f"experiment {self.key!r}: {problem}") from None

    @property
    def control(self) -> Variant:
        """The variant that the others are compared with."""
        return self.variants[0]

    @property
    def decides_deployment(self) -> bool:
        """Whether a variant of it may replace the surface's deployment."""
        return any(variant.deployment is not None for variant in self.variants)

    @property
    def holdout_salt(self) -> str:
        return f"{self.namespace}.holdout"

    @property
    def gate_salt(self) -> str:
        return f"{self.salt}.gate"

    @property
    def split_salt(self) -> str:
        return f"{self.salt}.split"

    def _default(self) -> None:
        if not self.salt:
            msgspec.structs.force_setattr(self, "salt", self.key)
        if self.layer is None and self.decides_deployment:
            msgspec.structs.force_setattr(self, "layer", DEPLOYMENT_LAYER)

    def _check_variants(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(names) < 2:
            raise ValueError(f"it needs at least 2 variants, it has {len(names)}")
        if len(set(names)) != len(names):
            raise ValueError(f"variant names must be distinct, got {', '.join(names)}")
        total = sum(variant.share_bp for variant in self.variants)
        if total != WHOLE_BP:
            raise ValueError(f"the shares of its variants sum to {total} bp, not to {WHOLE_BP}")
        for unit, name in self.overrides.items():
            if not unit:
                raise ValueError("an override has an empty unit id")
            if name not in names:
                raise ValueError(
                    f"the override of {unit!r} names the variant {name!r}; "
                    f"there are {', '.join(names)}"
                )

    def _check_shares(self) -> None:
        for field, value in (("traffic_bp", self.traffic_bp), ("holdout_bp", self.holdout_bp)):
            if not 0 <= value <= WHOLE_BP:
                raise ValueError(f"{field} must be 0 to {WHOLE_BP}, got {value}")
        if self.phase < 1:
            raise ValueError(f"phase must be at least 1, got {self.phase}")
        if self.hash != HASH:
            raise ValueError(f"the hash {self.hash!r} is unknown; this version knows {HASH!r}")
        if len(self.salt) > _MAX_SALT:
            raise ValueError(f"salt must have at most {_MAX_SALT} characters")

    def _check_layer(self) -> None:
        start, end = self.layer_range_bp
        if not 0 <= start < end <= WHOLE_BP:
            raise ValueError(
                f"layer_range_bp must be [from, to] with 0 <= from < to <= {WHOLE_BP}, "
                f"got [{start}, {end}]"
            )
        _check_name("namespace", self.namespace)
        if self.layer is None:
            if (start, end) != (0, WHOLE_BP):
                raise ValueError("layer_range_bp needs a layer")
            return
        _check_name("layer", self.layer)
        if self.decides_deployment and self.layer != DEPLOYMENT_LAYER:
            raise ValueError(
                f"its variants name deployments, so its layer must be {DEPLOYMENT_LAYER!r}, "
                f"not {self.layer!r}: one request can have only one model"
            )


def check_together(experiments: Sequence[Experiment]) -> None:
    """Refuse experiments that are valid alone but not side by side.

    Raises:
        ValueError: two have one key, share a part of a layer, or draw the same buckets.
    """
    keys = [experiment.key for experiment in experiments]
    for at, key in enumerate(keys):
        if key in keys[:at]:
            raise ValueError(f"two experiments have the key {key!r}; keys must be distinct")
    _check_layers_apart(experiments)
    _check_draws_apart(experiments)


def _check_layers_apart(experiments: Sequence[Experiment]) -> None:
    layered = [e for e in experiments if e.layer is not None]
    for at, one in enumerate(layered):
        for other in layered[:at]:
            low = max(one.layer_range_bp[0], other.layer_range_bp[0])
            high = min(one.layer_range_bp[1], other.layer_range_bp[1])
            if one.layer == other.layer and low < high:
                raise ValueError(
                    f"the experiments {other.key!r} and {one.key!r} overlap in the layer "
                    f"{one.layer!r} from {low} to {high} bp; give each its own layer_range_bp"
                )


def _check_draws_apart(experiments: Sequence[Experiment]) -> None:
    # Two draws from one seed are one draw: a gate that reuses the split's hash
    # lets only some variants through (Unleash node #533). Layers and holdouts
    # are shared on purpose, gates and splits never.
    shared = {e.layer for e in experiments if e.layer} | {e.holdout_salt for e in experiments}
    own = [salt for e in experiments for salt in (e.gate_salt, e.split_salt)]
    drawn: dict[int, str] = {}
    for salt in [*sorted(shared), *own]:
        seed = seed_of(salt)
        if seed in drawn:
            raise ValueError(
                f"the salts {drawn[seed]!r} and {salt!r} draw the same buckets; "
                "give each experiment a salt of its own"
            )
        drawn[seed] = salt


def seed_of(salt: str) -> int:
    """The 32-bit seed that stands for a salt: murmur3 x86_32 of its UTF-8 bytes, seed 0."""
    return mmh3.hash(salt.encode(), 0, False)


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what} must be {_NAME_RULE}, got {name!r}")
