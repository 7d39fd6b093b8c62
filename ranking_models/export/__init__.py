"""From a trained run to files that engines load, each proven against PyTorch.

``parity`` and ``onnx_runtime`` need no torch; ``to_onnx`` and ``to_bundle`` do.
"""
