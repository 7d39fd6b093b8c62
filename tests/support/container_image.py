"""A Dockerfile's steps by hand, in a folder: what an image holds, without a container engine.

Only what Dockerfile.cpu uses is understood; anything else is refused, so that a
new kind of step is not passed by in silence. Paths of the image become paths in
the folder. The steps of the last stage that need the image's own system (its
packages, its user) are not run: `Sandbox` stands for them.
"""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parents[2]
USER = 10001
PLACES = ("/src", "/build", "/wheels", "/opt/podium", "/var/lib/podium", "/etc/podium")
"""Paths that the steps make; all others are the base image's."""


class Step(Struct, frozen=True):
    """One instruction."""

    word: str
    text: str


def stages(dockerfile: Path) -> list[list[Step]]:
    """The instructions of each stage, lines joined and comments left out."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found: list[list[Step]] = []
    for line in whole.splitlines():
        if not line:
            continue
        word, _, text = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append(Step(word, text.strip()))
    return found


class Built(Struct, frozen=True):
    """What the steps made."""

    folder: Path
    environ: dict[str, str]
    command: list[str]
    health: list[str]
    ran: int
    """Commands of the build."""

    def place(self, path: str) -> Path:
        return self.folder / path.lstrip("/")


def build(dockerfile: Path, folder: Path) -> Built:
    """Run the build stage, and copy what the last stage copies.

    Raises:
        subprocess.CalledProcessError: a step failed; its output is in the error.
    """
    first, last = stages(dockerfile)
    # Only in the build's environment are variables for pip.
    environ = {**os.environ, **_variables(first, folder)}
    ran = 0
    for step in first:
        if step.word == "COPY":
            _copy(step, folder / "src")
        elif step.word == "RUN":
            _run(_placed(step.text, folder), folder / "src", environ)
            ran += 1
        elif step.word not in ("FROM", "ENV", "WORKDIR"):
            raise ValueError(f"{dockerfile.name}: what does {step.word} do here?")
    words = {step.word: step for step in last}
    if f"{USER}:{USER}" != words["USER"].text:
        raise ValueError(f"{dockerfile.name}: the image runs as {words['USER'].text}")
    entry, arguments = (_list(words[word].text, folder) for word in ("ENTRYPOINT", "CMD"))
    health = _list(words["HEALTHCHECK"].text.partition("CMD ")[2], folder)
    return Built(folder, _variables(last, folder), [*entry, *arguments], health, ran)


def _run(command: str, where: Path, environ: dict[str, str]) -> None:
    command = re.sub(r"(?<![\w/.-])python(?= -m)", shlex.quote(_base_python()), command)
    where.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["/bin/sh", "-ec", command],
        cwd=where,
        env=environ,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )


def _base_python() -> str:
    """The interpreter behind our environment, as the base image's `python` is."""
    return str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")


def _copy(step: Step, where: Path) -> None:
    *sources, target = step.text.split()
    for source in sources:
        if excluded_from_context(source):
            raise ValueError(f".dockerignore keeps {source} out of the build")
        to = where / target / Path(source).name if target.endswith("/") else where / target
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, to, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, to)


def excluded_from_context(path: str) -> bool:
    """As .dockerignore says: the last line that fits decides, and a folder stands for its files."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    upward = [path, *map(str, Path(path).parents)][:-1]
    excluded = False
    for rule in lines:
        pattern = rule.removeprefix("!").removeprefix("**/")
        if pattern and any(fnmatch.fnmatch(one, pattern) for one in upward):
            excluded = not rule.startswith("!")
    return excluded


def _variables(steps: list[Step], folder: Path) -> dict[str, str]:
    """All ENV, with the image's own paths placed in the folder."""
    text = " ".join(step.text for step in steps if step.word == "ENV")
    pairs = (pair.partition("=") for pair in shlex.split(text))
    return {
        name: _placed(value, folder).replace("$PATH", os.environ["PATH"])
        for name, _, value in pairs
    }


def _placed(text: str, folder: Path) -> str:
    for place in PLACES:
        text = re.sub(rf"(?<![\w/.-]){place}(?![\w-])", str(folder / place.lstrip("/")), text)
    return text


def _list(text: str, folder: Path) -> list[str]:
    """The exec form: only that has no shell between the signal and the program."""
    return [_placed(word, folder) for word in json.loads(text)]


class Sandbox(Struct, frozen=True):
    """Runs a program as the image's user, without capabilities, on a read-only root.

    As root on Linux with mount namespaces only; `why_not` says what is missing.
    """

    writable: tuple[Path, ...]
    spare: Path
    """An empty folder, to mount on."""

    def wraps(self, command: list[str]) -> list[str]:
        user = str(USER)
        return [
            "unshare",
            "--mount",
            "/bin/sh",
            "-ec",
            self._mounts() + 'exec "$@"',
            "sandbox",
            "setpriv",
            f"--reuid={user}",
            f"--regid={user}",
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
            "--no-new-privs",
            *command,
        ]

    def _mounts(self) -> str:
        """The root read-only but for some folders, and an interpreter that root keeps to itself."""
        python, spare = shlex.quote(sys.base_prefix), shlex.quote(str(self.spare))
        top = f"/{Path(sys.base_prefix).parts[1]}"
        writable = [shlex.quote(str(path)) for path in self.writable]
        lines = [f"mount --bind {path} {path}" for path in writable]
        if not Path(top).stat().st_mode & 0o001:
            lines += [
                f"mount --bind {python} {spare}",
                f"mount -t tmpfs -o mode=755 tmpfs {top}",
                f"mkdir -p {python}",
                f"mount --bind {spare} {python}",
            ]
        lines += ["mount -t tmpfs -o mode=1777 tmpfs /tmp", "mount -o remount,bind,ro /"]
        return "; ".join(lines) + "; "


def why_not() -> str | None:
    """Why there can be no sandbox on this machine; None if there can."""
    if not sys.platform.startswith("linux"):
        return "it needs Linux"
    if os.geteuid() != 0:
        return "it needs root, for another user and a read-only root"
    if not all(map(shutil.which, ("unshare", "setpriv"))):
        return "unshare and setpriv (util-linux) are not on the PATH"
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"no mount namespaces: {done.stderr.strip()}" if done.returncode else None
