"""One run that proves the GPU path on a real device, and measures it.

Plans are built and built again, their scores compared with ONNX Runtime on the
CPU, batches timed with and without CUDA graphs, copies shown to overlap
computations, three models kept side by side, and one replaced by another under
load. What the machine has no part for is *not run*, with the reason: no figure
is ever made up. In tests the same run meets the GPU that `tests.support`
simulates.
"""
