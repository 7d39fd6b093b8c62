"""What NVIDIA's real ``pynvml`` can be asked, recorded as JSON; `tests.support.fake_nvml` obeys it.

    python -m tests.service.telemetry.record_nvml SIDE [--write]

The package is plain Python and is installed into a folder of its own under
SIDE. Without ``--write`` the recording is compared with the one in the
repository; the exit code is 1 if they differ. Then it is asked as the service
asks it: without a driver there must be no figure and no failure.
"""

import argparse
import inspect
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from service.telemetry.gpu import gpu_figures
from tests.support.recorded import SIGNATURES

REQUIREMENT = "nvidia-ml-py==13.615.71"
FILE = "nvml-13.615.json"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("side", type=Path)
    arguments.add_argument("--write", action="store_true")
    given = arguments.parse_args()
    _install(given.side / REQUIREMENT.replace("==", "-"))
    import pynvml

    text = json.dumps(recorded(pynvml), indent=0, sort_keys=True) + "\n"
    if given.write:
        (SIGNATURES / FILE).write_text(text)
    if (SIGNATURES / FILE).read_text() != text:
        sys.stdout.write(f"{REQUIREMENT} differs from {FILE}\n")
        return 1
    sys.stdout.write(f"{REQUIREMENT} is as in {FILE}\n")
    return _ask_without_a_driver(pynvml)


def recorded(module: ModuleType) -> dict[str, Any]:
    """Its functions with their arguments, its numbers, and the fields of its structures."""
    public = {
        n: v for n, v in sorted(vars(module).items()) if n.lower().startswith(("nvml", "c_nv"))
    }
    kinds = {name: value for name, value in public.items() if isinstance(value, type)}
    return {
        "version": REQUIREMENT.partition("==")[2],
        "constants": {name: value for name, value in public.items() if isinstance(value, int)},
        "functions": {
            name: [[_argument(a) for a in inspect.signature(value).parameters.values()]]
            for name, value in public.items()
            if inspect.isfunction(value)
        },
        "classes": {
            name: {"methods": {}, "attributes": [field[0] for field in _fields(kind)]}
            for name, kind in kinds.items()
        },
    }


def _install(folder: Path) -> None:
    if not folder.is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command = [*pip, "--no-deps", "--target", str(folder), REQUIREMENT]
        subprocess.run(command, check=True)
    sys.path.insert(0, str(folder))


def _argument(parameter: inspect.Parameter) -> str:
    return parameter.name if parameter.default is parameter.empty else f"{parameter.name}?"


def _fields(kind: type) -> list[tuple[str, Any]]:
    return list(getattr(kind, "_fields_", ()))


def _ask_without_a_driver(module: Any) -> int:
    try:
        module.nvmlInit()
    except module.NVMLError_LibraryNotFound:
        with gpu_figures(triton_names=True) as figures:
            families = list(figures.collect())
        sys.stdout.write(f"without a driver: {len(families)} metrics of GPUs\n")
        return 1 if families else 0
    sys.stdout.write("a driver is here: that there are no figures without one was not looked at\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
