"""Do the real bindings have the types that `service.engines.tensor_rt.api` says?

    python -m tests.service.engines.tensor_rt.check_types SIDE

SIDE is the folder into which ``record_signatures`` installed the bindings.
They carry no stubs; mypy's stubgen makes them from their docstrings, and mypy
then checks that TensorRT 10.16, 11.4 and TensorRT-RTX can be used as we do.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.ranking_models.tensorrt.record_signatures import HAS_WHEELS, RECORDED, Recorded

USE = """
import {module} as trt
from service.engines.tensor_rt import api


def as_we_use_them(
    runtime: trt.Runtime, engine: trt.ICudaEngine, context: trt.IExecutionContext
) -> tuple[api.Runtime, api.CudaEngine, api.ExecutionContext]:
    return runtime, engine, context
"""


def main(side: str) -> int:
    if not HAS_WHEELS:
        sys.stdout.write("the bindings have no wheels for this Python here: no types checked\n")
        return 0
    packages = [package for package in RECORDED if package.libraries]
    return 1 if [package for package in packages if not fits(package, Path(side))] else 0


def fits(package: Recorded, side: Path) -> bool:
    """Write the stubs of a package and check our use of it; prints what mypy found."""
    folder = (side / package.folder).resolve()
    name, stubs = _native_module(package), folder / "stubs"
    paths = {"PYTHONPATH": str(folder), "LD_LIBRARY_PATH": str(folder / "libraries")}
    generate = "import sys, mypy.stubgen; mypy.stubgen.main(sys.argv[1:])"
    _run(["-c", generate, "--quiet", "--inspect-mode", "-m", name, "-o", str(stubs)], paths)
    for stub in stubs.rglob("*.pyi"):
        lines = ["# mypy: ignore-errors", *stub.read_text().split("\n")]
        stub.write_text("\n".join(line for line in lines if _is_usable(line)))
    use = stubs / "use.py"
    use.write_text(USE.format(module=name))
    paths = {"MYPYPATH": os.pathsep.join([str(stubs), str(Path.cwd())])}
    options = ["--strict", "--follow-imports", "silent", "--cache-dir", str(stubs / "cache")]
    checked = _run(["-m", "mypy", *options, str(use)], paths)
    sys.stdout.write(f"{package.requirements[0]} as {use.name} uses it: {checked.stdout}")
    return checked.returncode == 0


def _is_usable(line: str) -> bool:
    """Not so what hides a type of Python's own, and defaults before arguments without one."""
    if re.match(r"(bool|int|float|str|bytes): ", line):
        return False
    if not line.strip().startswith("def "):
        return True
    try:
        compile(line.strip(), "stub", "exec")
    except SyntaxError:
        return False
    return True


def _native_module(package: Recorded) -> str:
    return f"{package.module}.{package.module.removesuffix('_bindings')}"


def _run(arguments: list[str], paths: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    environment = {**os.environ, **paths}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
