"""INT8 graphs by static calibration, with the sensitive layers left as they are.

Two artefacts of one model, because no engine takes the other's: unsigned
activations with a zero point for ONNX Runtime on the CPU, signed ones around
zero on top of the FP16 graph for TensorRT. The ranges and the layers to leave
alone are found by measuring what each choice does to scores and orders of the
calibration rows; the gate's rows are never looked at. Without torch.
"""

from ranking_models.quantisation.rows import MIN_CALIBRATION_ROWS, calibration_of_run
from ranking_models.quantisation.search import Progress, QuantisedGraph, Target, quantise

__all__ = [
    "MIN_CALIBRATION_ROWS",
    "Progress",
    "QuantisedGraph",
    "Target",
    "calibration_of_run",
    "quantise",
]
