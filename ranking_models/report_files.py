"""Report files that are there whole or not at all."""

import contextlib
import os
import secrets
from pathlib import Path

from ranking_models.errors import InputError


def check_writable(path: Path) -> None:
    """Refuse, before minutes of scoring, a file that could not be written.

    Raises:
        InputError: the folder is missing or closed, or the path is a folder.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file")
    unfinished = _beside(path)
    try:
        unfinished.open("xb").close()
    except OSError as error:
        raise _unwritable(path, error) from None
    unfinished.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there; an error leaves what was there.

    Raises:
        InputError: it cannot be written.
    """
    unfinished = _beside(path)
    try:
        with unfinished.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.new")


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be written: {error.strerror or error}")
