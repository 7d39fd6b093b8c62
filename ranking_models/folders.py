"""Folders that are there completely or not at all."""

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from ranking_models.errors import InputError


@contextlib.contextmanager
def new_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder to write into that becomes ``target`` when the block ends well.

    Until then, and after any error, ``target`` is what it was before and
    nothing is left beside it.

    Args:
        target: May exist only with ``replace``; then it is gone afterwards.

    Raises:
        InputError: the folder cannot be written, or exists.
    """
    mark = secrets.token_hex(4)
    unfinished = target.with_name(f".{target.name}.{mark}.new")
    before = target.with_name(f".{target.name}.{mark}.old")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished.mkdir()
        yield unfinished
        if target.exists() and not replace:
            raise InputError(f"{target}: is there already")
        if target.exists():
            target.rename(before)
        try:
            unfinished.rename(target)
        except OSError:
            if before.exists():
                before.rename(target)
            raise
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if target.exists():
            shutil.rmtree(before, ignore_errors=True)
