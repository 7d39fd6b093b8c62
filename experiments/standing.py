"""How far an experiment has come: what runs apart from its definition, and how that may change.

A definition is a file that people edit; a standing is what they and the rule
have decided since: state, stage, shares, and the phase that all of it gives.
Pure: where standings are kept, and who may change them, is the service's.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Literal, get_args

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from experiments.definition import WHOLE_BP, Experiment, State, Variant

Counted = Literal["running", "aa"]
"""States in which units are drawn and counted."""

_ENDS: frozenset[State] = frozenset(("rolled_back", "promoted", "stopped"))
_COUNTED: frozenset[str] = frozenset(get_args(Counted))


class ChangeRefused(ValueError):
    """The change does not fit how the experiment stands; nothing was changed."""


class Standing(Struct, frozen=True, kw_only=True):
    """What is in force of one experiment, on all replicas alike."""

    key: str
    generation: int
    """Counts the changes: who changes a standing names the generation that it knows."""
    phase: int
    """Data of two phases is never added up: a phase has one split, one stage, one state."""
    state: State
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
    asked: State = "running"
    """The ``state`` of the definition as it was last read: only its change overrules people."""
    edited: str = ""
    """Names the whole definition that was last read, margins and overrides included."""
    counted: Counted | None = None
    """How units are counted when nothing keeps them out; None: nobody was drawn yet."""
    models: dict[str, str] = {}
    """Deployment that variants may be served by to the version of its model in this phase;
    empty where that is not known yet."""


class Change(Struct, frozen=True, kw_only=True):
    """What a person or the rule wants of an experiment."""

    action: Literal["start", "pause", "ramp", "promote", "rollback", "stop", "advance", "allocate"]
    stage: int | None = None
    """Of ``ramp``: the place in `stages_bp`."""
    traffic_bp: int | None = None
    """Of ``ramp``: a share that need not be a stage's."""
    variant: str | None = None
    """Of ``promote``; None: the one that is not the control, if there is one only."""
    shares_bp: dict[str, int] | None = None
    """Of ``allocate``: the new share of every variant."""


def digest_of_split(definition: Experiment) -> str:
    """Names all that decides who is drawn and what the variants are.

    What a person may edit while the data of a phase stays valid is left out:
    overrides (never counted), margins and minima of the rollout, the objective,
    the shadow share, and the state. Targeting is in, as it changes the population
    that the figures speak of.
    """
    e = definition
    stages = None if e.rollout is None else e.rollout.stages_bp
    salts = (e.salt, e.hash, e.holdout_salt, e.gate_draws_by, e.split_draws_by)
    drawn = (e.key, *salts, e.unit, e.holdout_bp, e.layer, e.layer_range_bp, e.targeting)
    split = (e.traffic_bp, stages, e.variants, e.weights, e.draw_order, e.policy, e.method, e.phase)
    return _digest((drawn, split, e.isolate_cache))


def first_standing(
    definition: Experiment, now: float, models: Mapping[str, str] | None = None
) -> Standing:
    """How an experiment stands that nobody has known before: as its file says.

    A rollout begins with its first stage. `models` as in `Standing`.
    """
    state = definition.state
    standing = Standing(
        key=definition.key,
        generation=1,
        phase=definition.phase,
        state=state,
        since=now,
        definition=digest_of_split(definition),
        asked=state,
        edited=_digest(definition),
        counted=_counted(state),
        models=dict(models or {}),
    )
    return _at_the_beginning(definition, standing)


def in_force(definition: Experiment, standing: Standing | None) -> Experiment:
    """The definition with its standing put in: state, phase, traffic, shares, who is promoted.

    Without a standing the definition stands as it is.
    """
    if standing is None:
        return definition
    shares, promoted = standing.shares_bp, standing.promoted
    # A definition that has lost the promoted variant serves nobody with something else.
    lost = promoted is not None and promoted not in {v.name for v in definition.variants}
    return replace(
        definition,
        state="paused" if lost else standing.state,
        phase=standing.phase,
        traffic_bp=definition.traffic_bp if standing.traffic_bp is None else standing.traffic_bp,
        variants=definition.variants if shares is None else _shared_out(definition, shares),
        weights=definition.weights if shares is None else None,
        promoted=None if lost else promoted,
    )


def _shared_out(definition: Experiment, shares: dict[str, int]) -> tuple[Variant, ...]:
    return tuple(replace(v, share_bp=shares[v.name]) for v in definition.variants)


def after(definition: Experiment, standing: Standing, change: Change, now: float) -> Standing:
    """The standing that a change leads to; the very same one where it changes nothing.

    Raises:
        ChangeRefused: the change does not fit; says what would.
    """
    changed = _CHANGES[change.action](definition, standing, change)
    return standing if changed == standing else _next(standing, changed, now)


def taken_up(
    definition: Experiment,
    standing: Standing,
    now: float,
    models: Mapping[str, str] | None = None,
) -> Standing:
    """The standing after the definition was read (again); the very same one if nothing changed.

    A changed split begins a new phase, and a rollout begins again; so does another
    version of a model, which makes another variant under the same name, unless the
    experiment has ended: then its last phase is what its report is about. A changed
    ``state`` of the file wins over what was decided before; else that stays.

    Args:
        definition: As it was read.
        standing: The one so far.
        now: Seconds of the wall clock.
        models: As in `Standing`; None: those that it has.
    """
    changed = standing
    digest = digest_of_split(definition)
    if models is not None and models != standing.models and standing.state not in _ENDS:
        changed = replace(standing, models=dict(models))
    if digest != standing.definition or _other_versions(standing, changed):
        # The A/A phase before was drawn by the split, whichever model served it.
        before = standing.pre_phase if digest == standing.definition else None
        phase = max(standing.phase + 1, definition.phase)
        changed = replace(changed, phase=phase, definition=digest, shares_bp=None, pre_phase=before)
        changed = _at_the_beginning(definition, changed)
        if standing.promoted not in (None, *(v.name for v in definition.variants)):
            changed = replace(changed, state="stopped", promoted=None)
    if definition.state != standing.asked:
        entered = _entering(definition, changed, definition.state)
        changed = replace(entered, asked=definition.state)
    changed = replace(changed, edited=_digest(definition))
    return standing if changed == standing else _next(standing, changed, now)


def kept_by(own: Standing, newest: Standing) -> Standing:
    """What a replica goes by whose file still has the definition of an earlier phase.

    It goes on with the phase that its own split belongs to, so no phase mixes
    two splits; but an end or a pause is in force everywhere.
    """
    if newest.state in _COUNTED:
        return own
    return replace(own, state=newest.state, promoted=newest.promoted, generation=newest.generation)


def newest(one: Standing | None, other: Standing | None) -> Standing | None:
    """The one of the later generation; None where there is neither."""
    if one is None or other is None:
        return one or other
    return other if other.generation > one.generation else one


def why_defined(known: Standing | None, standing: Standing) -> str:
    """What `first_standing` or `taken_up` found, for the record."""
    if known is None:
        return "first read"
    if known.definition != standing.definition:
        return f"the split was edited: phase {standing.phase} begins"
    if others := _other_versions(known, standing):
        return f"another model serves, {', '.join(others)}: phase {standing.phase} begins"
    if known.asked != standing.asked:
        return f"the file says {standing.asked} now"
    if known.edited != standing.edited:
        return "edited; who is drawn stays the same"
    return "known from before"


# --- one function per change -------------------------------------------------------------


def _start(definition: Experiment, standing: Standing, _: Change) -> Standing:
    if standing.state == "running":
        return standing
    # Out of an A/A phase it begins in earnest; out of a pause it goes on as what was paused.
    resumed = standing.counted if standing.state == "paused" else None
    return _entering(definition, standing, resumed or "running")


def _pause(_: Experiment, standing: Standing, __: Change) -> Standing:
    _require(standing, "paused", "running", "aa", "paused")
    return replace(standing, state="paused")


def _stop(_: Experiment, standing: Standing, __: Change) -> Standing:
    return replace(standing, state="stopped", promoted=None)


def _roll_back(_: Experiment, standing: Standing, __: Change) -> Standing:
    _require(standing, "rolled back", "running", "aa", "paused", "promoted", "rolled_back")
    return replace(standing, state="rolled_back", promoted=None)


def _promote(definition: Experiment, standing: Standing, change: Change) -> Standing:
    _require(standing, "promoted", "running", "aa", "paused", "promoted")
    names = [variant.name for variant in definition.variants]
    chosen = names[1] if change.variant is None and len(names) == 2 else change.variant
    if chosen not in names:
        what = "name the variant" if chosen is None else f"it has no variant {chosen!r}"
        raise ChangeRefused(f"{what}; there are {', '.join(names)}")
    return replace(standing, state="promoted", promoted=chosen)


def _ramp(definition: Experiment, standing: Standing, change: Change) -> Standing:
    _require(standing, "ramped", "running", "aa", "paused")
    if change.stage is not None and change.traffic_bp is not None:
        raise ChangeRefused("give a stage or traffic_bp, not both")
    if change.traffic_bp is None:
        return _at_stage(definition, standing, change.stage)
    if not 1 <= change.traffic_bp <= WHOLE_BP:
        raise ChangeRefused(f"traffic_bp must be 1 to {WHOLE_BP}, got {change.traffic_bp}")
    stages = () if definition.rollout is None else definition.rollout.stages_bp
    reached = sum(stage <= change.traffic_bp for stage in stages)
    return _with_traffic(standing, change.traffic_bp, reached - 1 if reached else None)


def _advance(definition: Experiment, standing: Standing, _: Change) -> Standing:
    _require(standing, "advanced", "running")
    return _at_stage(definition, standing, None)


def _allocate(definition: Experiment, standing: Standing, change: Change) -> Standing:
    _require(standing, "reallocated", "running")
    if definition.policy != "thompson":
        raise ChangeRefused("its shares are fixed; policy = 'thompson' lets them move")
    shares = change.shares_bp or {}
    if set(shares) != {v.name for v in definition.variants} or sum(shares.values()) != WHOLE_BP:
        raise ChangeRefused(f"every variant needs a share, together {WHOLE_BP} bp; got {shares}")
    if shares == standing.shares_bp:
        return standing
    return replace(_new_phase(standing), shares_bp=shares)


_CHANGES = {
    "start": _start,
    "pause": _pause,
    "ramp": _ramp,
    "promote": _promote,
    "rollback": _roll_back,
    "stop": _stop,
    "advance": _advance,
    "allocate": _allocate,
}


# --- what they share -----------------------------------------------------------------------


def _other_versions(known: Standing, standing: Standing) -> list[str]:
    """The deployments whose model is another one now, as people read it; unknown is not other."""
    before = known.models
    return [
        f"{name} by {model} instead of {before[name]}"
        for name, model in sorted(standing.models.items())
        if before.get(name, model) != model
    ]


def _at_stage(definition: Experiment, standing: Standing, stage: int | None) -> Standing:
    """At a stage of the rollout; None: the one after the present."""
    if definition.rollout is None:
        raise ChangeRefused("it has no rollout, so there are no stages: give traffic_bp")
    stages = definition.rollout.stages_bp
    if stage is None:
        stage = 0 if standing.stage is None else standing.stage + 1
        if stage >= len(stages):
            raise ChangeRefused(f"stage {len(stages) - 1} is the last one; promote a variant")
    if not 0 <= stage < len(stages):
        raise ChangeRefused(f"there is no stage {stage}; there are 0 to {len(stages) - 1}")
    return _with_traffic(standing, stages[stage], stage)


def _with_traffic(standing: Standing, traffic_bp: int, stage: int | None) -> Standing:
    if (traffic_bp, stage) == (standing.traffic_bp, standing.stage):
        return standing
    return replace(_new_phase(standing), traffic_bp=traffic_bp, stage=stage)


def _entering(definition: Experiment, standing: Standing, state: State) -> Standing:
    """In another state; a new phase where data of the old one may not be gone on with."""
    if state == standing.state:
        return standing
    entered, counted = replace(standing, state=state, promoted=None), _counted(state)
    ended = standing.state in _ENDS and standing.counted is not None
    if ended and state not in _ENDS:
        entered = replace(entered, models={})  # versions may have come and gone since
    if counted is None:
        began_anew = ended and state not in _ENDS
        return replace(_new_phase(entered), counted=None) if began_anew else entered
    if counted == standing.counted and not ended:
        return entered
    begun = _at_the_beginning(definition, replace(entered, counted=counted, shares_bp=None))
    if standing.counted is None:
        return begun
    compared = (standing.counted, counted) == ("aa", "running")
    before = standing.phase if compared else standing.pre_phase
    return replace(_new_phase(begun), pre_phase=None if counted == "aa" else before)


def _at_the_beginning(definition: Experiment, standing: Standing) -> Standing:
    """With the traffic of the rollout's first stage; an A/A phase has the definition's."""
    if definition.rollout is None or standing.state == "aa":
        return replace(standing, traffic_bp=None, stage=None)
    return replace(standing, traffic_bp=definition.rollout.stages_bp[0], stage=0)


def _new_phase(standing: Standing) -> Standing:
    return replace(standing, phase=standing.phase + 1)


def _next(standing: Standing, changed: Standing, now: float) -> Standing:
    began = (changed.state, changed.phase) != (standing.state, standing.phase)
    # A wall clock that goes back must not make a state begin before the one before it.
    since = max(now, standing.since) if began else standing.since
    return replace(changed, generation=standing.generation + 1, since=since)


def _digest(value: object) -> str:
    return sha256(msgspec.json.encode(value)).hexdigest()[:16]


def _counted(state: State) -> Counted | None:
    return "running" if state == "running" else "aa" if state == "aa" else None


def _require(standing: Standing, what: str, *states: State) -> None:
    if standing.state not in states:
        hint = "" if standing.state == "draft" else " first"
        raise ChangeRefused(f"it is {standing.state}, so it cannot be {what}; start it{hint}")
