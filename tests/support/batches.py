"""Model input rows of no particular model, for engines and batchers that take any."""

import numpy as np

from ranking_models.schema import FeatureBatch


def random_batch(rows: int, seed: int = 0) -> FeatureBatch:
    """Rows with all three kinds of features; no two of them are alike."""
    random = np.random.default_rng(seed)
    return FeatureBatch(
        dense=random.normal(size=(rows, 3)).astype(np.float32),
        ids=random.integers(0, 50, (rows, 2)).astype(np.int32),
        multi={"tags": random.integers(0, 5, (rows, 4)).astype(np.int32)},
    )
