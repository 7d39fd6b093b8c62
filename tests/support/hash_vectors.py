"""What other flag systems say of experiments, and experiments in the words of those systems."""

import json
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from experiments.assignment import Assigner, Units
from experiments.definition import Experiment, HashId, Variant

_FOLDER = Path(__file__).parents[1] / "experiments" / "vectors"


def vectors(name: str) -> dict[str, Any]:
    """Numbers that a project published; the file names the project and the commit."""
    document: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text("utf-8"))
    return document


def experiment(hash_id: HashId, split: Sequence[int], /, **terms: Any) -> Experiment:
    """One with the variants "0", "1" and so on, and another system's weights."""
    ends = [round(10_000 * end / sum(split)) for end in accumulate(split, initial=0)]
    variants = tuple(
        Variant(name=str(at), share_bp=end - start)
        for at, (start, end) in enumerate(pairwise(ends))
    )
    foreign = None if hash_id == "m3x32-v1" else tuple(split)
    given: dict[str, Any] = {"key": "e", "weights": foreign, **terms}
    return Experiment(variants=variants, hash=hash_id, **given)


def placing(e: Experiment) -> Callable[[str], int]:
    """Which variant a unit gets, -1 for none: what those systems are asked."""
    assigner = Assigner([e])

    def place_of(unit: str) -> int:
        (assignment,) = assigner.decide(Units(unit)).assignments
        return int(assignment.variant) if assignment.reason == "SPLIT" else -1

    return place_of


def place(e: Experiment, unit: str) -> int:
    """The same of one unit alone."""
    return placing(e)(unit)
