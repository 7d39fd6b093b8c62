"""A bundle scored by someone who has only numpy, ONNX Runtime, and the documentation.

Follows the recipe in `ranking_models.bundle` and uses nothing of Podium: what
a reply must carry is what this computes.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


@dataclass(frozen=True)
class Row:
    """What one score is asked for."""

    user: str | None
    item: str
    context: dict[str, Any] = field(default_factory=dict)
    user_features: dict[str, Any] = field(default_factory=dict)
    item_features: dict[str, Any] = field(default_factory=dict)


class DocumentedScorer:
    """The scores of a bundle's fp32 graph."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.features = json.loads((path / "manifest.json").read_text())["schema"]["features"]
        self.session = onnxruntime.InferenceSession(path / "ranker.fp32.onnx")
        self.folders = {"item": "catalogue", "user": "users"}
        self.ids = {s: self._load(s, f"{s}_ids").tolist() for s in self.folders}

    def scores(self, rows: list[Row]) -> np.ndarray:
        """Float32 ``[rows]``."""
        return self.session.run(["score"], self.inputs(rows))[0]

    def inputs(self, rows: list[Row]) -> dict[str, np.ndarray]:
        """Steps 1 and 5: the inputs that the graph has, filled column by column."""
        values = [[self._encoded(feature, row) for feature in self.features] for row in rows]
        feed = {}
        for name in (taken.name for taken in self.session.get_inputs()):
            columns = [c for c, feature in enumerate(self.features) if input_of(feature) == name]
            chosen = [[row[c] for c in columns] for row in values]
            if name.startswith("multi_"):
                chosen = [lists[0] for lists in chosen]
            feed[name] = np.array(chosen, np.float32 if name == "dense" else np.int32)
        return feed

    def _encoded(self, feature: dict[str, Any], row: Row) -> Any:
        name, source = feature["name"], feature["source"]
        if source == "context":
            return encode(feature, row.context.get(name))
        given = row.user_features if source == "user" else row.item_features
        if name in given:
            return encode(feature, given[name])
        wanted = row.user if source == "user" else row.item
        if wanted not in self.ids[source]:
            return encode(feature, wanted if name == "user_id" else None)
        position = self.ids[source].index(wanted)
        if feature["kind"] == "multi":
            return self._load(source, f"multi_{name}")[position].tolist()
        siblings = [
            other["name"]
            for other in self.features
            if other["source"] == source and other["kind"] == feature["kind"]
        ]
        return self._load(source, input_of(feature))[position, siblings.index(name)]

    def _load(self, source: str, name: str) -> np.ndarray:
        return np.load(self.path / self.folders[source] / f"{name}.npy", allow_pickle=False)


def input_of(feature: dict[str, Any]) -> str:
    """The graph input that a feature goes into."""
    kinds = {"numeric": "dense", "categorical": "ids", "multi": f"multi_{feature['name']}"}
    return kinds[feature["kind"]]


def encode(feature: dict[str, Any], value: Any) -> Any:
    """Step 4."""
    vocabulary = feature["vocabulary"]
    if value is None:
        value = feature["default"]
    if feature["kind"] == "numeric":
        if value is None:
            return 0.0
        x = math.copysign(math.log1p(abs(value)), value) if feature["log"] else float(value)
        x = (x - feature["mean"]) / feature["scale"]
        return min(max(x, -feature["clip"]), feature["clip"])
    if feature["kind"] == "categorical":
        return vocabulary.index(text(value)) + 1 if text(value) in vocabulary else 0
    values = [] if value is None else value if isinstance(value, list) else [value]
    ids = [vocabulary.index(text(v)) + 1 for v in values if text(v) in vocabulary]
    return (ids + [0] * feature["max_length"])[: feature["max_length"]]


def text(value: Any) -> str:
    """How a vocabulary spells a value."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)
