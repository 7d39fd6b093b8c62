"""Programs from Debian packages, without installing them.

    promtool = debian_tool("promtool", package="prometheus")

A program that is on the PATH is taken as it is. Otherwise its package is downloaded with
``apt-get download``, which checks its signature, and unpacked beside the environment that
runs this (``.venv`` has ``.venv-verify/debian``), once. That needs no root, and works for
programs that need nothing but what every Debian has: Prometheus, Alertmanager, Valkey.
Packages that a program depends on are not fetched.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(f"{sys.prefix}-verify") / "debian"
PROGRAMS = ("usr/bin", "usr/sbin", "bin", "sbin")
DOWNLOAD_S = 120.0
_PATIENCE = ("-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=15")
"""Where nothing answers apt would wait for minutes, for one address after the other."""


def debian_tool(program: str, *, package: str) -> Path | None:
    """Where a program is, fetched if it was not there.

    Returns:
        None if it cannot be had; standard error says why, in one line.
    """
    if on_path := shutil.which(program):
        return Path(on_path)
    try:
        return _unpacked(program, package) or _fetched(program, package)
    except (OSError, subprocess.SubprocessError) as reason:
        told = getattr(reason, "stderr", None) or str(reason)
        last = told.strip().splitlines()[-1]
        sys.stderr.write(f"{program} is not on the PATH, nor to be had from Debian: {last}\n")
        return None


def _unpacked(program: str, package: str) -> Path | None:
    places = (FOLDER / package / folder / program for folder in PROGRAMS)
    return next((place for place in places if os.access(place, os.X_OK)), None)


def _fetched(program: str, package: str) -> Path:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{package}-", dir=FOLDER) as name:
        folder = Path(name)
        try:
            _run(folder, "apt-get", *_PATIENCE, "download", package)
        except subprocess.CalledProcessError:  # a fresh image has no lists of packages
            lists = [*_PATIENCE, *_own_lists(folder)]
            _run(folder, "apt-get", *lists, "update")
            _run(folder, "apt-get", *lists, "download", package)
        _run(folder, "dpkg", "-x", next(folder.glob("*.deb")).name, "unpacked")
        # Somebody else may have been quicker; a folder is replaced by none but an empty one.
        if not (FOLDER / package).exists():
            (folder / "unpacked").rename(FOLDER / package)
    if found := _unpacked(program, package):
        return found
    raise FileNotFoundError(f"the package {package} holds no {program}")


def _own_lists(folder: Path) -> list[str]:
    """Options by which apt keeps lists in a folder, for whoever may not write the system's."""
    lists, cache = folder / "lists", folder / "cache"
    (lists / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    return ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}"]


def _run(folder: Path, *command: str) -> None:
    subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, timeout=DOWNLOAD_S
    )
