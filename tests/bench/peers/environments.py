"""An environment of its own for every peer, made once from its lock."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

LOCKS = Path(__file__).parents[3] / "deploy" / "locks" / "peers"
DEBIAN_PYTHON = "/usr/bin/python3.11"
SETUP_S = 900.0

_SHARED = "import sysconfig; raise SystemExit(not sysconfig.get_config_var('Py_ENABLE_SHARED'))"


class NotHere(Exception):
    """A peer cannot be set up on this machine; the text says why."""


def environment(peer: str, root: Path) -> Path:
    """The folder of the peer's executables, installed if its lock has not been yet.

    Raises:
        NotHere: its interpreter or one of its packages is not to be had.
    """
    lock = LOCKS / f"{peer}.txt"
    made_from = hashlib.sha256(lock.read_bytes()).hexdigest()
    folder = root / peer
    done = folder / "made-from"
    if done.is_file() and done.read_text() == made_from:
        return folder / "bin"
    python = _interpreter(peer)
    print(f"installing {peer} in {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    _run([python, "-m", "venv", str(folder)])
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    _run([*install, "--disable-pip-version-check", "--require-hashes", "-r", str(lock)])
    done.write_text(made_from)
    return folder / "bin"


def _interpreter(peer: str) -> str:
    """This one; for PyTriton one that its bundled Python stub can be linked with."""
    if peer != "pytriton":
        return sys.executable
    if not Path(DEBIAN_PYTHON).is_file():
        raise NotHere(f"PyTriton needs Debian's Python 3.11; there is no {DEBIAN_PYTHON}")
    if subprocess.run([DEBIAN_PYTHON, "-c", _SHARED], check=False).returncode:
        raise NotHere(f"PyTriton needs a shared libpython, and {DEBIAN_PYTHON} is built without")
    return DEBIAN_PYTHON


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SETUP_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotHere(f"{command[0]} took longer than {SETUP_S:g} s") from None
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        raise NotHere(f"not installed: {''.join(last) or 'pip failed without a word'}")
