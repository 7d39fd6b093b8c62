"""Model input rows of no particular model, for engines and batchers that take any."""

from collections.abc import Sequence
from itertools import count

import numpy as np

from ranking_models.schema import Encoder, FeatureBatch, FeatureSchema, FeatureSpec, FeatureValue
from service.engines.rows import CandidateRows, CandidateTables


def random_batch(rows: int, seed: int = 0) -> FeatureBatch:
    """Rows with all three kinds of features; no two of them are alike."""
    random = np.random.default_rng(seed)
    return FeatureBatch(
        dense=random.normal(size=(rows, 3)).astype(np.float32),
        ids=random.integers(0, 50, (rows, 2)).astype(np.int32),
        multi={"tags": random.integers(0, 5, (rows, 4)).astype(np.int32)},
    )


_seeds = count(1_000_000)


def new_batch(rows: int) -> FeatureBatch:
    """Rows unlike all others: a batcher scores equal ones once."""
    return random_batch(rows, seed=next(_seeds))


_FEATURES = FeatureSchema(
    features=(
        FeatureSpec(name="age", source="user", kind="numeric"),
        FeatureSpec(name="user", source="user", kind="categorical", hash_buckets=50),
        FeatureSpec(name="hour", source="context", kind="categorical", hash_buckets=24),
        FeatureSpec(name="price", source="item", kind="numeric"),
        FeatureSpec(name="shop", source="item", kind="categorical", hash_buckets=9),
        FeatureSpec(name="tags", source="item", kind="multi", hash_buckets=9, max_length=2),
    )
)
CATALOGUE = 20
"""Items of `candidates`, at the positions 0 to 19."""


def _tables() -> CandidateTables:
    encoder = Encoder(_FEATURES.of("item"))
    items: list[dict[str, FeatureValue]] = [
        {"price": n / CATALOGUE, "shop": n % 7, "tags": [n % 3, n % 5]} for n in range(CATALOGUE)
    ]
    return CandidateTables(_FEATURES, encoder.encode_rows(items), encoder.encode_rows([{}]))


_TABLES = _tables()


def candidates(
    user: int, hour: int, items: Sequence[int], overridden: Sequence[int] = ()
) -> CandidateRows:
    """The candidates of one request; those in the places `overridden` have a price of their own."""
    item = Encoder(_FEATURES.of("item"))
    return CandidateRows(
        tables=_TABLES,
        users=Encoder(_FEATURES.of("user")).encode_rows([{"age": user / 9, "user": user}]),
        contexts=Encoder(_FEATURES.of("context")).encode_rows([{"hour": hour}]),
        request_of_row=np.zeros(len(items), np.int32),
        items=np.array(items, np.int32),
        overrides={row: item.encode_rows([{"price": 5.0 + row}]) for row in overridden},
    )
