"""An engine that ranks the other way round."""

import numpy as np

from ranking_models.schema import FeatureBatch, Float32
from service.testing import FakeEngine


class ContraryEngine(FakeEngine):
    """Scores ``1 - p`` where a `FakeEngine` scores ``p``: the same ties, the opposite order."""

    def score(self, batch: FeatureBatch) -> Float32:
        return (1 - super().score(batch)).astype(np.float32)
