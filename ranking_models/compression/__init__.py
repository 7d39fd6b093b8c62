"""Smaller models that still rank like the one they are made from.

origin.py      the run that is made smaller, with the log that it was trained on
units.py       which matrices each hidden unit and embedding dimension lives in
importance.py  how much each of them matters
prune.py       the same network with fewer of them
distil.py      any network, taught by the run
child.py       the smaller run
proof.py       the smaller run's gate: against its parent and logistic regression
"""

from ranking_models.compression.distil import Distillation, distil_run
from ranking_models.compression.origin import Origin, origin_of
from ranking_models.compression.proof import baseline_auc, proven
from ranking_models.compression.prune import FINE_TUNING, prune_run, with_share, with_sizes

__all__ = [
    "FINE_TUNING",
    "Distillation",
    "Origin",
    "baseline_auc",
    "distil_run",
    "origin_of",
    "proven",
    "prune_run",
    "with_share",
    "with_sizes",
]
