"""What the real TensorRT and CUDA bindings can be asked, recorded as JSON.

    python -m tests.ranking_models.tensorrt.record_signatures SIDE [--write]

TensorRT itself is not on the package index, its Python bindings are. They are
installed without dependencies into folders of their own under SIDE, given
three empty libraries (nine symbols) to link against, and imported in a child
process: every class, method, argument name, enum member and number is then there to
be read, though nothing can be run. Without ``--write`` the recording is
compared with the one in ``signatures/``; the exit code is 1 if they differ.

Needs gcc. On other than Linux on x86_64 with Python 3.11 or 3.12 there are no
wheels, and it says so.
"""

import argparse
import importlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

HAS_WHEELS = (sys.platform, platform.machine()) == ("linux", "x86_64") and (
    sys.version_info < (3, 13)
)

HERE = Path(__file__).parent / "signatures"

SYMBOLS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
"""All that the bindings take from NVIDIA's libraries when they are imported."""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One package, and the file that says what it offers."""

    requirements: tuple[str, ...]
    module: str
    file: str
    libraries: str = ""
    """Major version of the libraries it links against; empty: none."""
    library_names: tuple[str, ...] = ("nvinfer", "nvinfer_plugin", "nvonnxparser")

    @property
    def folder(self) -> str:
        return self.requirements[0].replace("==", "-")


CUDA = Recorded(
    requirements=("cuda-bindings==13.5.0", "cuda-pathfinder==1.9.0"),
    module="cuda.bindings.runtime",
    file="cuda-runtime-13.5.json",
)

RECORDED = (
    Recorded(
        requirements=("tensorrt-cu13-bindings==11.4.0.106",),
        module="tensorrt_bindings",
        file="tensorrt-11.4.json",
        libraries="11",
    ),
    Recorded(
        requirements=("tensorrt-cu13-bindings==10.16.1.11",),
        module="tensorrt_bindings",
        file="tensorrt-10.16.json",
        libraries="10",
    ),
    Recorded(
        requirements=("tensorrt-cu12-bindings==10.16.1.11",),
        module="tensorrt_bindings",
        file="tensorrt-10.16.json",
        libraries="10",
    ),
    Recorded(
        requirements=("tensorrt-rtx-cu13-bindings==1.7.1.116",),
        module="tensorrt_rtx_bindings",
        file="tensorrt-rtx-1.7.json",
        libraries="1",
        library_names=("tensorrt_rtx", "tensorrt_onnxparser_rtx"),
    ),
    CUDA,
)

_SIGNATURE = re.compile(r"^(?:\d+\. )?(\w+)\((.*?)\)(?: -> .*)?$")

Signatures = dict[str, Any]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("side", type=Path)
    arguments.add_argument("--write", action="store_true")
    given = arguments.parse_args()
    if not HAS_WHEELS:
        sys.stdout.write("the bindings have no wheels for this Python here: nothing compared\n")
        return 0
    recordings = [(package, record(package, given.side)) for package in RECORDED]
    if given.write:
        for package, text in recordings:
            (HERE / package.file).write_text(text)
    differ = [p for p, text in recordings if (HERE / p.file).read_text() != text]
    for package, _ in recordings:
        verdict = "differs from" if package in differ else "is as in"
        sys.stdout.write(f"{package.requirements[0]} {verdict} {package.file}\n")
    return 1 if differ else 0


def record(package: Recorded, side: Path) -> str:
    """Install a package into its side folder and read what it offers, in a child process."""
    folder = side / package.folder
    if not folder.is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command = [*pip, "--no-deps", "--target", str(folder), *package.requirements]
        subprocess.run(command, check=True)
    libraries = _empty_libraries(folder, package) if package.libraries else folder
    paths = {"PYTHONPATH": str(folder), "LD_LIBRARY_PATH": str(libraries)}
    read = "from record_signatures import offered; offered(*__import__('sys').argv[1:])"
    paths["PYTHONPATH"] += os.pathsep + str(Path(__file__).parent)
    child = subprocess.run(
        [sys.executable, "-c", read, package.module],
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        raise SystemExit(f"{package.requirements[0]} cannot be read: {child.stderr.strip()}")
    return child.stdout


def offered(module: str) -> None:
    """Print what a module offers: its functions, and its classes with all they have."""
    recorded = _signatures(importlib.import_module(module))
    json.dump(recorded, sys.stdout, indent=0, sort_keys=True)
    sys.stdout.write("\n")


def _empty_libraries(folder: Path, package: Recorded) -> Path:
    libraries = folder / "libraries"
    libraries.mkdir(exist_ok=True)
    source = libraries / "empty.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in SYMBOLS))
    for name in package.library_names:
        file = f"lib{name}.so.{package.libraries}"
        flags = ["-shared", "-fPIC", f"-Wl,-soname,{file}", "-o", str(libraries / file)]
        subprocess.run(["gcc", *flags, str(source)], check=True)
    return libraries


def _signatures(module: ModuleType) -> Signatures:
    classes: Signatures = {}
    functions: Signatures = {}
    constants: dict[str, int] = {}
    for name in sorted(vars(module)):
        value = getattr(module, name)
        if name.startswith("_") or isinstance(value, ModuleType):
            continue
        if isinstance(value, type):
            classes[name] = _class(value)
        elif isinstance(value, int):
            constants[name] = value
        elif callable(value):
            functions[name] = list(_overloads(name, value))
    return {
        "version": getattr(module, "__version__", ""),
        "constants": constants,
        "functions": functions,
        "classes": classes,
    }


def _class(kind: type) -> Signatures:
    members = getattr(kind, "__members__", None)
    if members is not None:
        return {"members": sorted(members)}
    methods: Signatures = {}
    attributes: list[str] = []
    for name in dir(kind):
        if name.startswith("_") and name != "__init__":
            continue
        value = getattr(kind, name)
        if not callable(value) or isinstance(value, type):
            attributes.append(name)
        elif name != "__init__" or _is_made_by_callers(value):
            methods[name] = list(_overloads(name, value))
    return {"methods": methods, "attributes": attributes}


def _is_made_by_callers(constructor: Any) -> bool:
    return "self:" in (constructor.__doc__ or "")


def _overloads(name: str, function: Any) -> Iterator[list[str]]:
    """The argument names of every signature in the docstring; an optional one ends in ``?``."""
    for line in (function.__doc__ or "").splitlines():
        match = _SIGNATURE.match(line.strip())
        if match is None or match[1] != name or match[2].startswith("*args"):
            continue
        arguments = [_argument(text) for text in _split(match[2])]
        yield [a for a in arguments if a not in ("self", "/", "*")]


def _argument(text: str) -> str:
    name = re.split("[:=]", text, maxsplit=1)[0].split()[-1]
    return f"{name}?" if "=" in text else name


def _split(arguments: str) -> Iterator[str]:
    """Cut at the commas that are in no bracket."""
    depth, start = 0, 0
    for position, character in enumerate(arguments):
        depth += (character in "[(<") - (character in "])>")
        if character == "," and depth == 0:
            yield arguments[start:position]
            start = position + 1
    if arguments[start:].strip():
        yield arguments[start:]


if __name__ == "__main__":
    sys.exit(main())
