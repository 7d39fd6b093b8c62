"""What the tests of several commands share."""

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest


@pytest.fixture(scope="module")
def networks_exported_once() -> Iterator[None]:
    """PyTorch's exporter takes seconds, and gives the same graph for the same network.

    What its answers depend on is proven in tests/ranking_models/export; commands are told apart
    by what they do with them.
    """
    from ranking_models.export import to_onnx

    graphs: dict[bytes, bytes] = {}

    def exported(module: Any, schema: Any) -> bytes:
        digest = hashlib.sha256(msgspec.json.encode(schema) + str(module).encode())
        for name, value in module.state_dict().items():
            digest.update(f"{name} {value.dtype} ".encode() + value.numpy().tobytes())
        key = digest.digest()
        if key not in graphs:
            graphs[key] = to_onnx.export_graph(module, schema)
        return graphs[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ranking_models.export.to_bundle.export_graph", exported)
        patch.setattr("ranking_models.export.half.export_graph", exported)
        yield
