"""Training that goes on from a bundle: its weights, means, scales and vocabularies.

The weights are read from the bundle's fp32 graph, which keeps the names of the
network's parameters, and are proven by the bundle's golden scores.
"""

import msgspec
import numpy as np
import onnx
import torch
from onnx import numpy_helper

from ranking_models.architectures import Architecture, Imported
from ranking_models.bundle import Bundle
from ranking_models.data import MAX_LENGTH
from ranking_models.errors import InputError
from ranking_models.fitting import Start, Weights, tensors
from ranking_models.log_schema import DeclaredFeature, LogSchema
from ranking_models.manifest import Lineage
from ranking_models.nn import build, restore
from ranking_models.parity import check_parity
from ranking_models.schema import FeatureBatch, FeatureSchema, FeatureSpec, Float32

TOLERANCE = 1e-5
"""Largest difference of the recovered network's scores from the bundle's golden ones."""

_NETWORK = "body."
"""What the names of a `RankingNetwork`'s parameters begin with; the export's wrappers add to it."""


class Parent(msgspec.Struct, frozen=True, kw_only=True):
    """The model that is trained further."""

    reference: str
    """``name@version``."""
    architecture: Architecture
    start: Start

    def lineage(self, *, log: str, epochs: int, learning_rate: float) -> Lineage:
        """How the new model descends from this one."""
        return Lineage(
            method="continued",
            parent=self.reference,
            options={"log": log, "epochs": epochs, "learning_rate": learning_rate},
        )


def read_parent(bundle: Bundle) -> Parent:
    """The network of a bundle, proven to compute the bundle's scores.

    Raises:
        InputError: an imported bundle, which has no network, or a graph whose
            weights are not those of its architecture.
    """
    manifest = bundle.manifest
    reference = f"{manifest.name}@{manifest.version}"
    if isinstance(manifest.architecture, Imported):
        raise InputError(
            f"{bundle.path}: {reference} was imported as an ONNX graph, so it cannot be trained "
            "further; train a model from nothing"
        )
    weights = _weights(bundle)
    rows, golden = bundle.golden
    with torch.random.fork_rng(devices=[]):
        network = restore(manifest.architecture, manifest.schema, weights)

    def score(batch: FeatureBatch) -> Float32:
        with torch.inference_mode():
            scores: Float32 = network(*tensors(manifest.schema, batch)).numpy()
        return scores

    what = f"the weights of {reference} read from {bundle.graph('fp32')}"
    check_parity(score, rows, golden, tolerance=TOLERANCE, what=what)
    return Parent(
        reference=reference,
        architecture=manifest.architecture,
        start=Start(schema=manifest.schema, weights=weights),
    )


def _weights(bundle: Bundle) -> Weights:
    """The parameters that the graph holds; one that it does not hold makes no score."""
    manifest, file = bundle.manifest, bundle.graph("fp32")
    held = {
        weight.name[weight.name.index(_NETWORK) :]: weight
        for weight in onnx.load(file).graph.initializer
        if _NETWORK in weight.name
    }
    with torch.random.fork_rng(devices=[]):
        fresh = build(manifest.architecture, manifest.schema).state_dict()
    weights = {}
    for name, value in fresh.items():
        initial = held.get(name)
        weights[name] = value.numpy() if initial is None else numpy_helper.to_array(initial)
        if weights[name].shape != tuple(value.shape) or weights[name].dtype != np.float32:
            raise InputError(
                f"{file}: {name} is {weights[name].dtype} {list(weights[name].shape)}, the "
                f"architecture asks for float32 {list(value.shape)}; export the run again"
            )
    return weights


def check_declared(parent: Parent, declared: LogSchema) -> None:
    """Refuse a log whose features do not mean what they meant to the parent.

    Raises:
        InputError: names the first feature that differs.
    """
    before = parent.start.schema
    names = [feature.name for feature in declared.features]
    known = [spec.name for spec in before.features]
    if names != known:
        raise InputError(
            f"{parent.reference} takes the features {', '.join(known)}, the log declares "
            f"{', '.join(names)}; declare the same in the same order, or train from nothing"
        )
    for feature, spec in zip(declared.features, before.features, strict=True):
        for key, now in _meaning(feature).items():
            was = getattr(spec, key)
            if was != now:
                raise InputError(
                    f"feature {feature.name!r}: {key} is {now!r} in the log and {was!r} in "
                    f"{parent.reference}; declare it as it was, or train from nothing"
                )


def _meaning(feature: DeclaredFeature) -> dict[str, object]:
    length = (feature.max_length or MAX_LENGTH) if feature.kind == "multi" else 1
    return {
        "source": feature.source,
        "kind": feature.kind,
        "hash_buckets": feature.hash_buckets or 0,
        "log": feature.log,
        "max_length": length,
        "default": feature.default,
    }


def grown(learned: FeatureSchema, before: FeatureSchema) -> FeatureSchema:
    """The earlier schema, with the values that the log adds behind those it knew."""

    def feature(new: FeatureSpec, old: FeatureSpec) -> FeatureSpec:
        known = set(old.vocabulary)
        added = tuple(value for value in new.vocabulary if value not in known)
        return msgspec.structs.replace(old, vocabulary=(*old.vocabulary, *added))

    pairs = zip(learned.features, before.features, strict=True)
    return FeatureSchema(features=tuple(feature(new, old) for new, old in pairs))
