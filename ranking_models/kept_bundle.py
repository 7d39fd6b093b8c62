"""A bundle that is made once and then kept, in a folder named by its recipe. Without torch.

An interrupted making leaves nothing that counts: a bundle is published whole or
not at all. Of two processes that want the same one, the second waits for the first.
"""

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

from ranking_models.bundle import Bundle, list_bundles
from ranking_models.errors import BundleError, InputError
from ranking_models.recipes import Recipe


def find_kept(recipe: Recipe, root: Path) -> Bundle | None:
    """The bundle that this recipe made, with every byte verified; None if there is none."""
    try:
        found = [ref for ref in list_bundles(root / recipe.digest) if ref.name == recipe.name]
        return Bundle.open(found[-1].path) if found else None
    except BundleError:
        return None


def make_kept(recipe: Recipe, root: Path, make: Callable[[Path], object]) -> Bundle:
    """The bundle of a recipe: kept by somebody meanwhile, or made now.

    Args:
        recipe: Which one.
        root: The folder of all that are kept.
        make: Makes it in a folder of bundles; takes its time, and may fail.

    Raises:
        InputError: the folder cannot be written, or what was made cannot be opened.
    """
    folder = root / recipe.digest
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / f".{recipe.digest}.lock").open("wb")
    except OSError as error:
        raise InputError(f"{root}: cannot be written: {error.strerror}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # which ends with the process, however that ends
        if (kept := find_kept(recipe, root)) is not None:
            return kept
        shutil.rmtree(folder, ignore_errors=True)  # what is there does not open
        make(folder)
        if (made := find_kept(recipe, root)) is None:
            raise InputError(f"{folder}: what was made there cannot be opened; run it again")
        return made
