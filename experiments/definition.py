"""What an experiment is: its variants, who takes part, how it may grow."""

from typing import Literal

import msgspec
from msgspec import Struct

from experiments.fixed import DEPLOYMENT_LAYER, HASH, INTERLEAVED, WHOLE_BP
from experiments.hashing import HashId, default_salts, weights_of
from experiments.hashing.terms import Terms
from experiments.rollout_plan import Rollout
from experiments.targeting import Rule
from experiments.validity import check_alone, check_name

__all__ = [
    "DEPLOYMENT_LAYER",
    "HASH",
    "INTERLEAVED",
    "WHOLE_BP",
    "CacheMode",
    "Experiment",
    "HashId",
    "Method",
    "Objective",
    "Policy",
    "Rollout",
    "Rule",
    "State",
    "UnitKind",
    "Variant",
]

UnitKind = Literal["user", "session", "user_or_session"]
State = Literal["draft", "running", "paused", "aa", "rolled_back", "promoted", "stopped"]
Objective = Literal["ctr", "latency"]
Policy = Literal["fixed", "thompson"]
Method = Literal["split", "interleave"]
CacheMode = Literal["off", "exact", "segment", "segment_rescore"]


class Variant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One arm of an experiment."""

    name: str
    share_bp: int
    """Share of the units that take part, in basis points."""
    deployment: str | None = None
    """What serves this variant; None leaves the surface's own deployment in place."""
    cache: CacheMode | None = None
    """How this variant uses the score cache; None leaves it to the deployment that serves it."""

    def __post_init__(self) -> None:
        check_name("variant name", self.name)
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
    hash: HashId = HASH
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
    """``running`` assigns. ``aa`` draws and counts units but leaves all of them to the surface's
    own deployment. ``promoted`` serves every eligible unit by the variant `promoted` and counts
    nobody. The others assign nobody; all but ``stopped`` keep their part of the layer."""
    targeting: tuple[Rule, ...] = ()
    """What must hold of the context of a request, all of it."""
    objective: Objective = "ctr"
    """What a variant must win; the other of the two must not get worse."""
    rollout: Rollout | None = None
    """How it may grow; None leaves the traffic as it is written here."""
    policy: Policy = "fixed"
    """``thompson`` moves the shares to the variants that get more clicks."""
    method: Method = "split"
    """``interleave`` mixes the slates of both variants for every unit that takes part."""
    shadow_bp: int = 0
    """Share of the requests it sees whose slate is also scored, off the path, by the variants
    that did not serve it."""
    weights: tuple[int, ...] | None = None
    """One for each variant, in the units of the flag system that `hash` names; `share_bp` then
    says the same to the nearest basis point."""
    gate_salt: str | None = None
    """What the gate hashes with; None leaves it to `salt`."""
    split_salt: str | None = None
    """What the split hashes with; None leaves it to `salt`."""
    promoted: str | None = None
    """The variant that won; only together with the state ``promoted``."""
    draw_order: tuple[str, ...] = ()
    """Names of all variants in the order in which they divide the range; none: as they are written.
    For the split of another system that does not begin with the control."""
    isolate_cache: bool = False
    """Whether each variant has cache entries of its own, where latency or the cache itself is what
    is compared. Otherwise variants share what makes the same scores."""

    def __post_init__(self) -> None:
        if not self.salt:
            msgspec.structs.force_setattr(self, "salt", self.key)
        if self.layer is None and self.decides_deployment:
            msgspec.structs.force_setattr(self, "layer", DEPLOYMENT_LAYER)
        check_alone(self)

    @property
    def control(self) -> Variant:
        """The variant that the others are compared with."""
        return self.variants[0]

    @property
    def in_draw_order(self) -> tuple[Variant, ...]:
        """The variants as they divide the range."""
        if not self.draw_order:
            return self.variants
        by_name = {variant.name: variant for variant in self.variants}
        return tuple(by_name[name] for name in self.draw_order)

    @property
    def decides_deployment(self) -> bool:
        """Whether a variant of it may replace the surface's deployment, or its cache mode."""
        return any(v.deployment is not None or v.cache is not None for v in self.variants)

    @property
    def holdout_salt(self) -> str:
        return f"{self.namespace}.holdout"

    @property
    def gate_draws_by(self) -> str:
        """What the gate hashes with, given or not."""
        default, _ = default_salts(self.hash, self.salt)
        return default if self.gate_salt is None else self.gate_salt

    @property
    def split_draws_by(self) -> str:
        """What the split hashes with, given or not."""
        _, default = default_salts(self.hash, self.salt)
        return default if self.split_salt is None else self.split_salt

    @property
    def terms(self) -> Terms:
        """What gate and split depend on, in the words of the hash; weights in draw order."""
        shares = tuple(variant.share_bp for variant in self.variants)
        weights = weights_of(self.hash, shares, self.weights)
        by_name = dict(zip((v.name for v in self.variants), weights, strict=True))
        return Terms(
            traffic_bp=self.traffic_bp,
            weights=tuple(by_name[variant.name] for variant in self.in_draw_order),
            gate_salt=self.gate_draws_by,
            split_salt=self.split_draws_by,
        )
