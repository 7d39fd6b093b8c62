"""``podium compile`` with CUDA's real bindings and no driver: one line, exit code 1.

    python -m tests.ranking_models.tensorrt.without_driver SIDE

SIDE is the folder into which ``record_signatures`` installed the bindings.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.ranking_models.tensorrt.record_signatures import CUDA

SAYS = "podium: no GPU can be used: "


def main(side: str) -> int:
    bindings = Path(side) / CUDA.folder
    if not bindings.is_dir() or Path("/dev/nvidiactl").exists():
        sys.stdout.write("podium compile without a driver: not for this machine\n")
        return 0
    ran = subprocess.run(
        [sys.executable, "-m", "service", "compile", "--bundle", "any"],
        env={**os.environ, "PYTHONPATH": str(bindings.resolve())},
        capture_output=True,
        text=True,
        check=False,
    )
    sys.stdout.write(f"podium compile without a driver: {ran.stderr}")
    is_one_line = ran.stderr.startswith(SAYS) and ran.stderr.count("\n") == 1
    names_driver = "cudaErrorInsufficientDriver" in ran.stderr
    return 0 if ran.returncode == 1 and is_one_line and names_driver else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
