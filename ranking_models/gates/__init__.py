"""Gates: does a smaller or less precise graph still rank like its reference?

A figure of quality alone is not a gate: naive INT8 can lose 0.16 % of AUC and
still change the first item for one user in five. So a candidate and its
reference score the same held-out rows and order the whole catalogue for the
same users (`Evidence`); `measure` compares the scores and the orders, `judge`
holds the figures against thresholds, and the manifest keeps all of it.

Takes any function from rows to scores, so it knows no engine and no torch.
"""

from ranking_models.gates.activation import largest_activation
from ranking_models.gates.evidence import Evidence, evidence_of, evidence_of_run
from ranking_models.gates.lists import CatalogueLists, catalogue_lists
from ranking_models.gates.measuring import Progress, measure
from ranking_models.gates.verdict import (
    GateFailed,
    Kind,
    check_verdict,
    enforce,
    gate,
    judge,
    thresholds_for,
)

__all__ = [
    "CatalogueLists",
    "Evidence",
    "GateFailed",
    "Kind",
    "Progress",
    "catalogue_lists",
    "check_verdict",
    "enforce",
    "evidence_of",
    "evidence_of_run",
    "gate",
    "judge",
    "largest_activation",
    "measure",
    "thresholds_for",
]
