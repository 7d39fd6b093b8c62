"""The gate: figures of a stage in, one decision with its grounds out. Pure."""

from experiments.rollout.gate import judge
from experiments.rollout.values import (
    Action,
    ArmEvidence,
    Bound,
    Evidence,
    Judgement,
    PhaseFigures,
)

__all__ = ["Action", "ArmEvidence", "Bound", "Evidence", "Judgement", "PhaseFigures", "judge"]
