"""What a model is: features, architectures, training, export."""

import os

# Before anything imports it: ONNX Runtime sends figures of its use to its makers, unless told.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
