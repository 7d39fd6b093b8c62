"""How units become buckets: our own hash, and those of four flag systems, bit for bit.

A hash id says how an experiment draws its gate (who takes part) and its split (who gets which
variant). The holdout is always drawn by our own hash, and so is the layer but for GrowthBook's
hashes, which bring a namespace of their own.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

from experiments.hashing import eppo, flagd, growthbook, murmur, unleash
from experiments.hashing.terms import Inside, Pick, Terms

HashId = Literal[
    "m3x32-v1",
    "growthbook-v1",
    "growthbook-v2",
    "flagd-v2",
    "flagd-v3",
    "unleash",
    "eppo-md5",
]
"""An id never changes its meaning, because a changed hash moves everybody to another variant."""

_MAX_TOTAL_WEIGHT = 2**31 - 1


_PICKERS: Mapping[HashId, Callable[[Terms], Pick]] = {
    "m3x32-v1": murmur.picker,
    "growthbook-v1": partial(growthbook.picker, version=1),
    "growthbook-v2": partial(growthbook.picker, version=2),
    "flagd-v2": partial(flagd.picker, version=2),
    "flagd-v3": partial(flagd.picker, version=3),
    "unleash": unleash.picker,
    "eppo-md5": eppo.picker,
}


def picker(hash_id: HashId, terms: Terms) -> Pick:
    """Gate and split of an experiment, ready to be drawn."""
    return _PICKERS[hash_id](terms)


def layer_part(hash_id: HashId, layer: str, start_bp: int, end_bp: int) -> Inside:
    """Whether a unit is in a part of a layer."""
    if layer_draw(hash_id) == "growthbook-v1":
        return growthbook.layer_part(layer, start_bp, end_bp)
    return murmur.layer_part(layer, start_bp, end_bp)


def layer_draw(hash_id: HashId) -> HashId:
    """What draws the layer of an experiment with this hash."""
    return "growthbook-v1" if hash_id in ("growthbook-v1", "growthbook-v2") else "m3x32-v1"


def default_salts(hash_id: HashId, salt: str) -> tuple[str, str]:
    """What gate and split hash with where the definition only names one salt."""
    match hash_id:
        case "m3x32-v1":
            return f"{salt}.gate", f"{salt}.split"
        case "flagd-v2" | "flagd-v3":
            return f"{salt}.gate", salt
        case "eppo-md5":
            return f"traffic-{salt}", f"split-{salt}"
        case _:
            return salt, salt


def weights_of(
    hash_id: HashId, shares_bp: tuple[int, ...], weights: tuple[int, ...] | None
) -> tuple[int, ...]:
    """What the variants divide the units by, in the units of the hash's system.

    Raises:
        ValueError: the weights are none, say something else than the shares,
            or the system cannot count the shares.
    """
    if weights is None:
        return _thousandths(shares_bp) if hash_id == "unleash" else shares_bp
    if hash_id == "m3x32-v1":
        raise ValueError("weights are for the hash of another system; m3x32-v1 goes by share_bp")
    _check_weights(shares_bp, weights)
    return weights


def check_traffic(hash_id: HashId, traffic_bp: int) -> None:
    """Refuse a traffic share that the system cannot count.

    Raises:
        ValueError: Unleash rolls out by whole percents.
    """
    if hash_id == "unleash" and traffic_bp % 100:
        raise ValueError(
            f"the hash 'unleash' counts traffic in whole percents (100 bp), got {traffic_bp} bp"
        )


def draws(hash_id: HashId, terms: Terms) -> tuple[tuple[str, str], ...]:
    """Each draw of gate and split: what tells it apart from every other, and its salt in words.

    Two draws alike are one draw, and what one decides the other repeats.
    """
    gate, split = terms.gate_salt, terms.split_salt
    own_gate = (f"m3x32 {murmur.seed_of(gate)}", gate)
    match hash_id:
        case "m3x32-v1":
            return own_gate, (f"m3x32 {murmur.seed_of(split)}", split)
        case "flagd-v2" | "flagd-v3":
            return own_gate, (f"{hash_id} {split}", split)
        case "growthbook-v1" | "growthbook-v2":
            return ((f"{hash_id} {split}", split),)
        case "unleash":
            return (f"unleash rollout {gate}", gate), (f"unleash variant {split}", split)
        case "eppo-md5":
            return (f"eppo {gate}", gate), (f"eppo {split}", split)


def _thousandths(shares_bp: tuple[int, ...]) -> tuple[int, ...]:
    if any(share % 10 for share in shares_bp):
        raise ValueError(
            "the hash 'unleash' counts shares in thousandths (10 bp); round share_bp, "
            "or give the weights that Unleash has"
        )
    return tuple(share // 10 for share in shares_bp)


def _check_weights(shares_bp: tuple[int, ...], weights: tuple[int, ...]) -> None:
    if len(weights) != len(shares_bp):
        raise ValueError(f"there are {len(shares_bp)} variants and {len(weights)} weights")
    total = sum(weights)
    if min(weights) < 0 or not 0 < total <= _MAX_TOTAL_WEIGHT:
        raise ValueError(
            f"weights must be at least 0 and sum to 1 to {_MAX_TOTAL_WEIGHT}, got {list(weights)}"
        )
    for share_bp, weight in zip(shares_bp, weights, strict=True):
        if abs(share_bp * total - weight * 10_000) > total:
            raise ValueError(
                f"the weights {list(weights)} and the shares {list(shares_bp)} bp say different "
                "things; share_bp must be the weight to the nearest basis point"
            )
