"""What is loaded when: seen in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("service.app, service.serving", {"torch", "onnx", "onnxscript", "pyarrow"}),
        ("service.engines.onnx_runtime", {"torch", "onnx", "onnxscript", "pyarrow"}),
        ("service.cli", {"numpy", "httpx", "litestar", "asyncio"}),  # `podium --help` is quick
    ],
)
def test_importing_them_loads_nothing_that_they_do_not_need(modules, absent):
    code = f"import sys, {modules}; print(*({absent!r} & set(sys.modules)))"

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )

    assert done.stdout.split() == []
