"""Experiments side by side: what is valid alone may not be valid together."""

from collections.abc import Sequence
from itertools import combinations

from experiments.definition import Experiment
from experiments.hashing import draws, layer_draw
from experiments.hashing.murmur import seed_of


def check_together(experiments: Sequence[Experiment]) -> None:
    """Refuse experiments that are valid alone but not side by side.

    A stopped experiment leaves its part of the layer to others; its salt stays
    taken, because units that it split would be split alike once more.

    Raises:
        ValueError: two have one key, share a part of a layer, or draw the same buckets.
    """
    keys = [experiment.key for experiment in experiments]
    for at, key in enumerate(keys):
        if key in keys[:at]:
            raise ValueError(f"two experiments have the key {key!r}; keys must be distinct")
    _check_layers_apart([e for e in experiments if e.layer is not None and e.state != "stopped"])
    _check_draws_apart(experiments)


def _check_layers_apart(layered: Sequence[Experiment]) -> None:
    for one, other in combinations(layered, 2):
        if one.layer != other.layer:
            continue
        low = max(one.layer_range_bp[0], other.layer_range_bp[0])
        high = min(one.layer_range_bp[1], other.layer_range_bp[1])
        if low < high:
            raise ValueError(
                f"the experiments {one.key!r} and {other.key!r} overlap in the layer "
                f"{one.layer!r} from {low} to {high} bp; give each its own layer_range_bp"
            )
        if layer_draw(one.hash) != layer_draw(other.hash):
            raise ValueError(
                f"the experiments {one.key!r} and {other.key!r} draw the layer {one.layer!r} by "
                f"{layer_draw(one.hash)} and {layer_draw(other.hash)}, so their parts of it "
                "would overlap; use one hash in a layer"
            )


def _check_draws_apart(experiments: Sequence[Experiment]) -> None:
    # Two draws from one seed are one draw: a gate that reuses the split's hash
    # lets only some variants through (Unleash node #533). Layers and holdouts
    # are shared on purpose, gates and splits never.
    shared = {e.layer for e in experiments if e.layer} | {e.holdout_salt for e in experiments}
    drawn: dict[str, str] = {}
    for draw, what in (
        *((f"m3x32 {seed_of(salt)}", f"the layer or holdout {salt!r}") for salt in sorted(shared)),
        *(
            (draw, f"the experiment {e.key!r} with the salt {salt!r}")
            for e in experiments
            for draw, salt in draws(e.hash, e.terms)
        ),
    ):
        if draw in drawn:
            raise ValueError(
                f"{drawn[draw]} and {what} draw the same buckets; "
                "give each experiment a salt of its own"
            )
        drawn[draw] = what
