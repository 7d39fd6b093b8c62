"""When a definition is valid, alone; `together` says it of several."""

import re
from typing import TYPE_CHECKING, get_args

from experiments.fixed import DEPLOYMENT_LAYER, HASH, INTERLEAVED, WHOLE_BP
from experiments.hashing import HashId, check_traffic

if TYPE_CHECKING:
    from experiments.definition import Experiment

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_RULE = "1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"
_MAX_SALT = 128
_MAX_PHASE = 1_000_000_000
"""Changes count on from here, and a phase stands in every exposure and token."""


def check_alone(e: "Experiment") -> None:
    """Refuse an experiment that cannot run.

    Raises:
        ValueError: one line that names the experiment, the field and the rule.
    """
    check_name("experiment key", e.key)
    try:
        _check_variants(e)
        _check_shares(e)
        _check_hash(e)
        _check_layer(e)
        _check_method(e)
    except ValueError as problem:
        raise ValueError(f"experiment {e.key!r}: {problem}") from None


def check_name(what: str, name: str) -> None:
    """Refuse a name that is not printable in every place where names go."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what} must be {_NAME_RULE}, got {name!r}")


def _check_variants(e: "Experiment") -> None:
    names = [variant.name for variant in e.variants]
    if len(names) < 2:
        raise ValueError(f"it needs at least 2 variants, it has {len(names)}")
    if len(set(names)) != len(names):
        raise ValueError(f"variant names must be distinct, got {', '.join(names)}")
    if e.draw_order and sorted(e.draw_order) != sorted(names):
        raise ValueError(f"draw_order must name each of its variants once: {', '.join(names)}")
    total = sum(variant.share_bp for variant in e.variants)
    if total != WHOLE_BP:
        raise ValueError(f"the shares of its variants sum to {total} bp, not to {WHOLE_BP}")
    for unit, name in e.overrides.items():
        if not unit:
            raise ValueError("an override has an empty unit id")
        if not has_utf8(unit):
            raise ValueError(f"the override of {unit!r} can match no unit: it has no UTF-8 form")
        if name not in names:
            raise ValueError(
                f"the override of {unit!r} names the variant {name!r}; there are {', '.join(names)}"
            )


def _check_shares(e: "Experiment") -> None:
    for field in ("traffic_bp", "holdout_bp", "shadow_bp"):
        value = getattr(e, field)
        if not 0 <= value <= WHOLE_BP:
            raise ValueError(f"{field} must be 0 to {WHOLE_BP}, got {value}")
    if not 1 <= e.phase <= _MAX_PHASE:
        raise ValueError(f"phase must be 1 to {_MAX_PHASE}, got {e.phase}")


def _check_hash(e: "Experiment") -> None:
    if e.hash not in get_args(HashId):
        known = ", ".join(get_args(HashId))
        raise ValueError(f"the hash {e.hash!r} is unknown; this version knows {known}")
    for field in ("salt", "gate_salt", "split_salt"):
        salt = getattr(e, field)
        if salt is not None and len(salt) > _MAX_SALT:
            raise ValueError(f"{field} must have at most {_MAX_SALT} characters")
        if salt is not None and not has_utf8(salt):
            raise ValueError(f"{field} holds half a character (a lone surrogate)")
    if e.gate_salt is not None and e.hash in ("growthbook-v1", "growthbook-v2"):
        raise ValueError(f"the hash {e.hash!r} draws gate and split at once, by split_salt")
    stages = () if e.rollout is None else e.rollout.stages_bp
    for traffic_bp in (e.traffic_bp, *stages):
        check_traffic(e.hash, traffic_bp)
    if e.terms.gate_salt == e.terms.split_salt and e.hash in (HASH, "eppo-md5"):
        raise ValueError("gate_salt and split_salt must differ: one draw cannot decide both")


def _check_method(e: "Experiment") -> None:
    names = [variant.name for variant in e.variants]
    if (e.state == "promoted") != (e.promoted is not None):
        raise ValueError("the state 'promoted' and the variant `promoted` go together")
    if e.promoted is not None and e.promoted not in names:
        raise ValueError(f"it has no variant {e.promoted!r}; there are {', '.join(names)}")
    if e.policy == "thompson" and e.weights is not None:
        raise ValueError("policy 'thompson' moves the shares, which weights would hold fixed")
    if e.policy == "thompson" and e.hash == "unleash":
        raise ValueError("policy 'thompson' moves the shares by basis points; 'unleash' has none")
    if e.method == "interleave":
        _check_interleaving(e)


def _check_interleaving(e: "Experiment") -> None:
    if len(e.variants) != 2 or len({v.deployment for v in e.variants}) != 2:
        raise ValueError(
            "method 'interleave' needs exactly 2 variants with different deployments "
            "(one of them may leave it to the surface)"
        )
    if any(variant.name == INTERLEAVED for variant in e.variants):
        raise ValueError(
            f"no variant of it can be named {INTERLEAVED!r}: mixed slates are told as that"
        )
    if e.policy != "fixed" or e.rollout is not None:
        raise ValueError(
            "method 'interleave' gives every unit both variants, so there is "
            "no split for a policy 'thompson' or a rollout to move"
        )


def _check_layer(e: "Experiment") -> None:
    start, end = e.layer_range_bp
    if not 0 <= start < end <= WHOLE_BP:
        raise ValueError(
            f"layer_range_bp must be [from, to] with 0 <= from < to <= {WHOLE_BP}, "
            f"got [{start}, {end}]"
        )
    check_name("namespace", e.namespace)
    if e.layer is None:
        if (start, end) != (0, WHOLE_BP):
            raise ValueError("layer_range_bp needs a layer")
        return
    check_name("layer", e.layer)
    if e.decides_deployment and e.layer != DEPLOYMENT_LAYER:
        raise ValueError(
            f"its variants name deployments or cache modes, so its layer must be "
            f"{DEPLOYMENT_LAYER!r}, not {e.layer!r}: one request can have only one model"
        )


def has_utf8(text: str) -> bool:
    """Whether text can be hashed: a lone surrogate, half a character, has no bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
