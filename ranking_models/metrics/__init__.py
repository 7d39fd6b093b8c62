"""How well scores order impressions, and how true they are as probabilities. numpy only.

Every metric refuses scores that are NaN or infinite: they have no place in an
order, and a mean over them says nothing.
"""

from ranking_models.metrics.calibration import CalibrationBin, calibration_bins, calibration_error
from ranking_models.metrics.inputs import Groups, Scores
from ranking_models.metrics.ordering import auc, gauc, hit_rate_at_k, ndcg_at_k
from ranking_models.metrics.probabilities import log_loss

__all__ = [
    "CalibrationBin",
    "Groups",
    "Scores",
    "auc",
    "calibration_bins",
    "calibration_error",
    "gauc",
    "hit_rate_at_k",
    "log_loss",
    "ndcg_at_k",
]
