"""A flagd document, flag by flag."""

import json
from collections.abc import Collection, Iterator
from typing import Any

from msgspec import Struct

from experiments.definition import WHOLE_BP, Experiment, State, Variant
from experiments.flagd.places import TARGETING_KEY, Node, Refused
from experiments.flagd.split import FlagdHash, Split, Terms, split_of

_DOCUMENT = {"flags", "$evaluators", "$schema", "metadata"}
_FLAG = {"state", "variants", "defaultVariant", "targeting", "metadata"}
_STATES: dict[str, State] = {"ENABLED": "running", "DISABLED": "paused"}
_MOST_REFERENCES = 100


class Refusal(Struct, frozen=True, kw_only=True):
    """A flag that no experiment can say exactly."""

    key: str
    path: str
    """The part that cannot be said."""
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Imported(Struct, frozen=True, kw_only=True):
    """What became of the flags, in the order of the document."""

    experiments: tuple[Experiment, ...]
    refused: tuple[Refusal, ...]


def import_flagd(
    text: str,
    *,
    hash_id: FlagdHash,
    unit: str = TARGETING_KEY,
    keys: Collection[str] = (),
) -> Imported:
    """Read flag definitions as experiments.

    Args:
        text: JSON.
        hash_id: How the flagd that serves them splits: ``flagd-v2`` before, or
            ``flagd-v3`` after its hash took to CBOR.
        unit: The variable that holds what Podium is given as user id.
        keys: The flags to read; all if there are none.

    Raises:
        Refused: it is no flagd document, or has no flag of one of the keys.
    """
    document = Node(_json(text), "$")
    if not isinstance(document.value, dict) or not isinstance(document.value.get("flags"), dict):
        document.refuse("must be an object with `flags`")
    _check_keys(document, _DOCUMENT)
    evaluators = document.value.get("$evaluators", {})
    for key in keys:
        if key not in document.value["flags"]:
            document["flags"].refuse(f"there is no flag {key!r}")
    experiments, refused = [], []
    for key, flag in document.value["flags"].items():
        if keys and key not in keys:
            continue
        try:
            resolved = _resolved(flag, evaluators, f"$.flags.{key}")
            experiments.append(_experiment(key, resolved, hash_id, unit))
        except Refused as problem:
            refused.append(Refusal(key=key, path=problem.path, reason=problem.reason))
        except RecursionError:
            path = f"$.flags.{key}"
            refused.append(Refusal(key=key, path=path, reason="it is nested too deeply to read"))
    return Imported(experiments=tuple(experiments), refused=tuple(refused))


def _experiment(key: str, flag: Node, hash_id: FlagdHash, unit: str) -> Experiment:
    if not isinstance(flag.value, dict):
        flag.refuse("must be an object")
    _check_keys(flag, _FLAG)
    variants, default = flag.value.get("variants"), flag.value.get("defaultVariant")
    given = flag.value.get("state")
    state = _STATES.get(given) if isinstance(given, str) else None
    if state is None:
        flag.refuse("state must be ENABLED or DISABLED")
    if not isinstance(variants, dict) or not isinstance(default, str) or default not in variants:
        flag.refuse("defaultVariant must name one of the variants: it is the control")
    if not flag.value.get("targeting"):
        flag.refuse("it has no targeting, so it splits nobody")
    terms = Terms(key=key, variants=frozenset(variants), default=default, hash=hash_id, unit=unit)
    split = split_of(flag["targeting"], terms)
    weights = _control_first(split, default)
    shares = _shares_bp(list(weights.values()))
    try:
        return Experiment(
            key=key,
            variants=tuple(
                Variant(name=name, share_bp=share)
                for name, share in zip(weights, shares, strict=True)
            ),
            hash=hash_id,
            weights=tuple(weights.values()),
            draw_order=_draw_order(split, weights, default),
            split_salt=None if split.salt == key else split.salt,
            targeting=split.rules,
            overrides=split.pinned,
            state=state,
        )
    except ValueError as problem:
        return flag.refuse(str(problem))


def _control_first(split: Split, default: str) -> dict[str, int]:
    """Variant to weight: the default variant, what is drawn, and what units are pinned to."""
    weights = {default: 0, **split.weights}
    for name in split.pinned.values():
        weights.setdefault(name, 0)
    return weights


def _draw_order(split: Split, weights: dict[str, int], default: str) -> tuple[str, ...]:
    """How flagd lays the variants out; empty if that is the order in which they are written."""
    if default not in tuple(split.weights)[1:]:
        return ()
    return (*split.weights, *(name for name in weights if name not in split.weights))


def _shares_bp(weights: list[int]) -> list[int]:
    """The weights in basis points, to the nearest that sum to the whole (largest remainders)."""
    total = sum(weights)
    shares = [weight * WHOLE_BP // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda at: -(weights[at] * WHOLE_BP % total))
    for at in by_remainder[: WHOLE_BP - sum(shares)]:
        shares[at] += 1
    return shares


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused("$", f"it is not JSON: {error}") from None


def _resolved(flag: Any, evaluators: Any, path: str) -> Node:
    """The flag with shared evaluators in the places that name them."""
    left = iter(range(_MOST_REFERENCES))
    return Node(_inlined(flag, evaluators, path, left), path)


def _inlined(value: Any, evaluators: Any, path: str, left: Iterator[int]) -> Any:
    if isinstance(value, list):
        return [_inlined(one, evaluators, f"{path}[{at}]", left) for at, one in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if list(value) == ["$ref"]:
        name = value["$ref"]
        if not isinstance(evaluators, dict) or not isinstance(name, str) or name not in evaluators:
            raise Refused(path, f"there is no evaluator {name!r}")
        if next(left, None) is None:
            raise Refused(path, "evaluators name each other without an end")
        return _inlined(evaluators[name], evaluators, path, left)
    return {key: _inlined(one, evaluators, f"{path}.{key}", left) for key, one in value.items()}


def _check_keys(node: Node, known: set[str]) -> None:
    unknown = [key for key in node.value if key not in known]
    if unknown:
        node.refuse(f"the key {unknown[0]!r} is not one that this import knows")
