"""The units of a network that can be taken out, and every matrix that each of them lives in.

A hidden unit is a row of its layer's matrix and a column of the next one's. An
embedding dimension is a column of the table, and of every layer that reads the
vectors: one column per field. In all networks here such a unit can be taken
out exactly: where it is zero on every row, or nothing reads it, the scores stay
what they were.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ranking_models.architectures import (
    DLRM,
    Architecture,
    DCNv2,
    DeepFM,
    Imported,
    LogisticRegression,
    TwoTower,
    WideAndDeep,
    Widths,
)
from ranking_models.schema import FeatureSchema, Source

Weights = Mapping[str, npt.NDArray[Any]]
Positions = npt.NDArray[np.intp]


class Place(msgspec.Struct, frozen=True):
    """Where units stand in one parameter of the network."""

    parameter: str
    axis: int
    positions: Positions
    """``[units, m]``: the indices along the axis that belong to each unit."""
    makes: bool
    """Whether these numbers make the unit's value; the others read it."""


class Units(msgspec.Struct, frozen=True, kw_only=True):
    """Units of one kind, of which some can be kept and the others taken out."""

    size: str
    """The field of the architecture that counts them."""
    layer: int
    """Which of the numbers in that field."""
    count: int
    places: tuple[Place, ...]


def units_of(architecture: Architecture, schema: FeatureSchema) -> tuple[Units, ...]:
    """All units of a network that can be taken out; none of a logistic regression."""
    match architecture:
        case LogisticRegression() | Imported():
            return ()
        case WideAndDeep():
            return tuple(_wide_and_deep(architecture, schema))
        case DeepFM():
            return tuple(_deepfm(architecture, schema))
        case DCNv2():
            return tuple(_dcn(architecture, schema))
        case DLRM():
            return tuple(_dlrm(architecture, schema))
        case TwoTower():
            return tuple(_two_tower(architecture, schema))


def without(weights: Weights, units: Units, kept: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """The weights with only some of the units, in smaller matrices.

    Args:
        weights: By name, as in a run.
        units: Of the network with these weights.
        kept: Which of them stay, ``[units.count]``.
    """
    smaller = dict(weights)
    for place in units.places:
        gone = place.positions[~kept].ravel()
        smaller[place.parameter] = np.delete(smaller[place.parameter], gone, place.axis)
    return smaller


def _wide_and_deep(architecture: WideAndDeep, schema: FeatureSchema) -> Iterator[Units]:
    dim, hidden = architecture.embedding_dim, architecture.hidden
    yield from _mlp("body.mlp", hidden, reader="body.head.weight")
    at = _field_positions(dim, len(schema.dense), len(schema.ids) + len(schema.multi))
    reads = _first_layer("body.mlp", hidden, "body.head.weight")
    yield _embedding(dim, _table("body.embedding", dim), Place(reads, 1, at, False))


def _deepfm(architecture: DeepFM, schema: FeatureSchema) -> Iterator[Units]:
    dim, hidden = architecture.embedding_dim, architecture.hidden
    yield from _mlp("body.mlp", hidden, reader="body.head.weight")
    at = _field_positions(dim, 0, len(schema.dense) + len(schema.ids) + len(schema.multi))
    yield _embedding(
        dim,
        _table("body.embedding", dim),
        Place("body.dense_vectors", 1, _each(dim), True),
        Place(_first_layer("body.mlp", hidden, "body.head.weight"), 1, at, False),
    )


def _dcn(architecture: DCNv2, schema: FeatureSchema) -> Iterator[Units]:
    dim, hidden = architecture.embedding_dim, architecture.hidden
    fields = len(schema.ids) + len(schema.multi)
    width = len(schema.dense) + fields * dim
    yield from _mlp("body.mlp", hidden, reader="body.head.weight", offset=width)
    at = _field_positions(dim, len(schema.dense), fields)
    # Without an MLP the head reads x_0 itself, behind the crosses.
    deep, behind = ("body.mlp.layers.0.weight", 0) if hidden else ("body.head.weight", width)
    crosses = [p for n in range(architecture.cross_layers) for p in _cross(architecture, n, at)]
    yield _embedding(
        dim,
        _table("body.embedding", dim),
        *crosses,
        Place(deep, 1, at + behind, False),
        Place("body.head.weight", 1, at, False),
    )


def _cross(architecture: DCNv2, layer: int, at: Positions) -> Iterator[Place]:
    """A cross layer reads every coordinate of x_0 and gives one for each."""
    name = f"body.cross.layers.{layer}"
    if not architecture.cross_rank:
        yield Place(f"{name}.weight", 1, at, False)
        yield Place(f"{name}.weight", 0, at, False)
        yield Place(f"{name}.bias", 0, at, False)
        return
    yield Place(f"body.cross.biases.{layer}", 0, at, False)
    if architecture.cross_experts == 1:
        yield Place(f"{name}.0.weight", 1, at, False)
        yield Place(f"{name}.1.weight", 0, at, False)
        return
    yield Place(f"{name}.gate.weight", 1, at, False)
    for expert in range(architecture.cross_experts):
        yield Place(f"{name}.experts.{expert}.0.weight", 1, at, False)
        yield Place(f"{name}.experts.{expert}.4.weight", 0, at, False)


def _dlrm(architecture: DLRM, schema: FeatureSchema) -> Iterator[Units]:
    dim, hidden, bottom = architecture.embedding_dim, architecture.hidden, architecture.bottom
    yield from _mlp("body.top", hidden, reader="body.head.weight")
    makes = [_table("body.embedding", dim)]
    if schema.dense:
        last = f"body.bottom.layers.{3 * len(bottom)}"
        yield from _mlp("body.bottom", bottom, reader=f"{last}.weight", size="bottom")
        makes += [Place(f"{last}.{kind}", 0, _each(dim), True) for kind in ("weight", "bias")]
    else:
        makes.append(Place("body.v0", 1, _each(dim), True))
    reads = Place(_first_layer("body.top", hidden, "body.head.weight"), 1, _each(dim), False)
    yield _embedding(dim, *makes, reads)


def _two_tower(architecture: TwoTower, schema: FeatureSchema) -> Iterator[Units]:
    dim, hidden = architecture.embedding_dim, architecture.hidden
    towers: dict[str, tuple[Source, ...]] = {"user": ("user", "context"), "item": ("item",)}
    for tower, sources in towers.items():
        own = [spec for spec in schema.features if spec.source in sources]
        if not own:
            continue  # one vector for all rows, of no units
        name = f"body.{tower}"
        yield from _mlp(f"{name}.mlp", hidden, reader=f"{name}.head.weight")
        numbers = sum(spec.kind == "numeric" for spec in own)
        at = _field_positions(dim, numbers, len(own) - numbers)
        reads = _first_layer(f"{name}.mlp", hidden, f"{name}.head.weight")
        yield _embedding(dim, _table(f"{name}.embedding", dim), Place(reads, 1, at, False))


def _mlp(
    name: str, hidden: Widths, *, reader: str, offset: int = 0, size: str = "hidden"
) -> Iterator[Units]:
    """The units of each layer; ``reader`` reads the last layer's, from column ``offset`` on."""
    for layer, width in enumerate(hidden):
        own, last = f"{name}.layers.{3 * layer}", layer == len(hidden) - 1
        reads = reader if last else f"{name}.layers.{3 * (layer + 1)}.weight"
        yield Units(
            size=size,
            layer=layer,
            count=width,
            places=(
                Place(f"{own}.weight", 0, _each(width), True),
                Place(f"{own}.bias", 0, _each(width), True),
                Place(reads, 1, _each(width) + (offset if last else 0), False),
            ),
        )


def _embedding(dim: int, *places: Place) -> Units:
    return Units(size="embedding_dim", layer=0, count=dim, places=places)


def _table(name: str, dim: int) -> Place:
    return Place(f"{name}.table.weight", 1, _each(dim), True)


def _first_layer(mlp: str, hidden: Widths, head: str) -> str:
    return f"{mlp}.layers.0.weight" if hidden else head


def _each(count: int) -> Positions:
    """Unit ``i`` at index ``i``, ``[count, 1]``."""
    return np.arange(count)[:, None]


def _field_positions(dim: int, before: int, fields: int) -> Positions:
    """Dimension ``d`` of every field behind ``before`` numbers, ``[dim, fields]``."""
    return before + np.arange(fields) * dim + _each(dim)
