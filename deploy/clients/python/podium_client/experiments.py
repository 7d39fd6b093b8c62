"""Experiments as they are in force, and what was decided about them."""

from typing import Any

from msgspec import Struct


class Variant(Struct, frozen=True, kw_only=True):
    """One arm of an experiment."""

    name: str
    share_bp: int
    """Share of the units that take part, in basis points."""
    deployment: str | None = None
    """What serves this variant; None leaves the surface's own deployment in place."""
    cache: str | None = None
    """One of ``off``, ``exact``, ``segment``, ``segment_rescore``. How this variant uses the
    score cache; None leaves it to the deployment that serves it."""


class Rule(Struct, frozen=True, kw_only=True):
    """One condition on one field of the context."""

    field: str
    op: str
    """One of ``==``, ``!=``, ``in``, ``not_in``, ``<``, ``<=``, ``>``, ``>=``, ``starts_with``,
    ``exists``."""
    value: str | int | float | bool | tuple[str | int | float | bool, ...] = True
    """A list for ``in`` and ``not_in``, a number for ``<`` and its like, text for
    ``starts_with``; for ``exists`` whether the field must be there."""


class Rollout(Struct, frozen=True, kw_only=True):
    """Stages of traffic and the limits that a stage is judged by.

    The split of the variants stays as it is defined, so a larger stage only adds units.
    """

    stages_bp: tuple[int, ...] = (100, 500, 2000, 5000, 10000)
    """Share of the eligible units that take part, stage by stage; rising, the last is everybody."""
    automatic: bool = False
    """Whether the rule may advance, promote and roll back by itself."""
    dry_run: bool = False
    """Whether the rule only records what it would do."""
    minimum_stage_s: float = 86400.0
    """Least seconds between the start of a stage and a step up."""
    minimum_users: int = 1000
    """Least units per variant and stage before a step up."""
    ctr_margin: float = 0.02
    """How much CTR may be lost, relative to the control's: the margin of non-inferiority."""
    latency_margin: float = 0.05
    """How much latency may be gained, relative to the control's."""
    latency_gain: float = 0.0
    """How much faster than the control a variant must be to be called faster, relative."""
    max_error_rate: float = 0.01
    """Share of the assigned requests that may get no slate."""
    max_fallback_rate: float = 0.05
    """Share of the slates that may come from a fallback."""
    max_crossover_rate: float = 0.01
    """Share of the units that may have seen more than one variant of a phase."""
    confidence: float = 0.95
    """Coverage of every interval, over all looks together."""


class Standing(Struct, frozen=True, kw_only=True):
    """What is in force of one experiment, on all replicas alike."""

    key: str
    generation: int
    """Counts the changes: who changes a standing names the generation that it knows."""
    phase: int
    """Data of two phases is never added up: a phase has one split, one stage, one state."""
    state: str
    """One of ``draft``, ``running``, ``paused``, ``aa``, ``rolled_back``, ``promoted``,
    ``stopped``."""
    stage: int | None = None
    """The place in the rollout's `stages_bp`; None: before the first, or there is no rollout."""
    traffic_bp: int | None = None
    """Share of the eligible units that take part; None: the definition's."""
    promoted: str | None = None
    """The variant that serves everybody, where the state is ``promoted``."""
    shares_bp: dict[str, int] | None = None
    """Share of each variant as a bandit allocated them; None: the definition's."""
    since: float
    """When this state and phase began, in seconds of the wall clock."""
    definition: str
    """`digest_of_split` of the definition that the phase belongs to."""
    pre_phase: int | None = None
    """The A/A phase before, whose figures are the pre-period of CUPED."""
    asked: str = "running"
    """One of ``draft``, ``running``, ``paused``, ``aa``, ``rolled_back``, ``promoted``,
    ``stopped``. The ``state`` of the definition as it was last read: only its change
    overrules people."""
    edited: str = ""
    """Names the whole definition that was last read, margins and overrides included."""
    counted: str | None = None
    """One of ``running``, ``aa``. How units are counted when nothing keeps them out; None:
    nobody was drawn yet."""
    models: dict[str, str] = {}
    """Deployment that variants may be served by to the version of its model in this phase; empty
    where that is not known yet."""


class ExperimentReply(Struct, frozen=True, kw_only=True):
    """An experiment as it is in force: its definition with its standing put in."""

    key: str
    variants: tuple[Variant, ...]
    """The first is the control."""
    salt: str = ""
    """What the gate and the split hash units with; the key if it is not given. A restart with
    fresh units needs a new salt."""
    hash: str = "m3x32-v1"
    """One of ``m3x32-v1``, ``growthbook-v1``, ``growthbook-v2``, ``flagd-v2``, ``flagd-v3``,
    ``unleash``, ``eppo-md5``."""
    unit: str = "user"
    """One of ``user``, ``session``, ``user_or_session``. What is randomised; ``user_or_session``
    takes the session where there is no user."""
    traffic_bp: int = 10000
    """Share of the eligible units that take part. Raising it only adds units."""
    layer: str | None = None
    """Experiments of one layer never share a unit. Experiments whose variants name a deployment
    are always in the layer ``deployment``."""
    layer_range_bp: tuple[int, int] = (0, 10000)
    """The part of the layer that belongs to this experiment: from, up to (excluded)."""
    namespace: str = "podium"
    """Experiments of one namespace hold out the same units."""
    holdout_bp: int = 0
    """Share of all units that this experiment never touches."""
    overrides: dict[str, str] = {}
    """Unit id to variant name: units that always get this variant and are never counted."""
    phase: int = 1
    """To be raised whenever shares or variants change; phases are analysed apart."""
    state: str = "running"
    """One of ``draft``, ``running``, ``paused``, ``aa``, ``rolled_back``, ``promoted``,
    ``stopped``. ``running`` assigns. ``aa`` draws and counts units but leaves all of them to
    the surface's own deployment. ``promoted`` serves every eligible unit by the variant
    `promoted` and counts nobody. The others assign nobody; all but ``stopped`` keep their
    part of the layer."""
    targeting: tuple[Rule, ...] = ()
    """What must hold of the context of a request, all of it."""
    objective: str = "ctr"
    """One of ``ctr``, ``latency``. What a variant must win; the other of the two must not get
    worse."""
    rollout: Rollout | None = None
    """How it may grow; None leaves the traffic as it is written here."""
    policy: str = "fixed"
    """One of ``fixed``, ``thompson``. ``thompson`` moves the shares to the variants that get
    more clicks."""
    method: str = "split"
    """One of ``split``, ``interleave``. ``interleave`` mixes the slates of both variants for
    every unit that takes part."""
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
    """Names of all variants in the order in which they divide the range; none: as they are
    written. For the split of another system that does not begin with the control."""
    isolate_cache: bool = False
    """Whether each variant has cache entries of its own, where latency or the cache itself is
    what is compared. Otherwise variants share what makes the same scores."""
    standing: Standing | None
    """What was decided besides the definition; None while it is not known."""
    unready: str | None = None
    """Why nobody is assigned although the state says so."""


class SourceStatus(Struct, frozen=True, kw_only=True):
    """Whether the newest definitions and standings of experiments are in force."""

    status: str
    """One of ``ok``, ``invalid_file``, ``store_unavailable``, ``other_definition``,
    ``overlapping``, ``no_copy``."""
    problem: str | None = None
    since: float
    """Unix seconds: since when it has that status."""


class ExperimentsReply(Struct, frozen=True, kw_only=True):
    """The experiments in force."""

    experiments: tuple[ExperimentReply, ...]
    config_digest: str
    """Equal definitions and standings have equal digests; every exposure carries it."""
    source: SourceStatus
    """Whether they are the newest."""


class DecisionRecord(Struct, frozen=True, kw_only=True):
    """One entry of the audit log. It is written in the same step as the change itself."""

    at: float
    """Seconds of the wall clock."""
    key: str
    action: str
    """One of ``start``, ``pause``, ``resume``, ``ramp``, ``promote``, ``rollback``, ``stop``,
    ``advance``, ``allocate``, ``hold``, ``continue``, ``define``."""
    by: str
    """``rule``, ``file``, ``key:<name>`` of an API key, or ``loopback``."""
    reason: str
    before: Standing | None
    """None where the experiment was not known before."""
    after: Standing | None
    """The same as `before` where nothing was changed."""
    config_digest: str
    """Of the definitions that whoever decided went by."""
    evidence: dict[str, Any] | None = None
    """Every figure, bound and limit that the rule used. As it was written, and not a struct: the
    log is never trimmed, and records of all versions must be readable."""
    dry_run: bool = False
    """Decided and recorded only."""


class DecisionsReply(Struct, frozen=True, kw_only=True):
    """The last decisions about an experiment."""

    key: str
    decisions: tuple[DecisionRecord, ...]
    """Newest first."""
