"""What every metric takes, and what it refuses."""

import numpy as np
import numpy.typing as npt

from ranking_models.errors import InputError
from ranking_models.schema import Float32

Float64 = npt.NDArray[np.float64]
Scores = Float32 | Float64
Groups = npt.NDArray[np.integer]


def finite(scores: Scores) -> Float64:
    """Scores in double precision.

    Raises:
        InputError: one is NaN or infinite; says how many, and where the first is.
    """
    values = np.asarray(scores, np.float64)
    good = np.isfinite(values)
    if not good.all():
        first = int(np.argmin(good))
        raise InputError(
            f"{np.count_nonzero(~good)} of {len(values)} scores are NaN or infinite "
            f"(the first in row {first}); the model or its graph is broken"
        )
    return values
