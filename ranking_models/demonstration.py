"""Bundles of the simulated marketplace: simulate, train, export. Needs the training stack."""

import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np

from ranking_models.bundle import Bundle, find_bundle
from ranking_models.errors import BundleError, InputError
from ranking_models.export.to_bundle import export_run
from ranking_models.export.variants import ExportProgress
from ranking_models.fitting import TrainingProgress
from ranking_models.logs import log_files_in, read_logs
from ranking_models.marketplace import Marketplace
from ranking_models.marketplace.files import write_files
from ranking_models.marketplace.spec import LOG_SEED
from ranking_models.recipes import Recipe
from ranking_models.train import train_run

SCORE_TOLERANCE = 1e-4
"""Largest score difference between two makings of the bundle."""


def make_bundle(
    recipe: Recipe,
    root: Path,
    *,
    created: datetime,
    progress: TrainingProgress,
    exporting: ExportProgress | None = None,
) -> Path:
    """Make the bundle ``<root>/<name>/<version>/`` from nothing and return its path.

    The same code makes the same data, bit for bit. The weights are the same to
    the bit on the same machine and versions, and elsewhere, if training is in
    double precision, the scores are within `SCORE_TOLERANCE`.

    Args:
        recipe: What is simulated and trained.
        root: Folder of all bundles.
        created: Now, with a time zone.
        progress: Hears of every training step.
        exporting: Hears of every precision.

    Raises:
        VariantsRefused: a precision failed its gate; nothing was written.
        BundleError: the bundle cannot be written.
    """
    marketplace = Marketplace.generate(recipe.spec)
    log = marketplace.log(sessions=recipe.sessions, seed=LOG_SEED)
    with tempfile.TemporaryDirectory(prefix="podium-demo-bundle-") as scratch:
        data = Path(scratch) / "data"
        write_files(marketplace.population, log, data)
        run = train_run(
            read_logs(log_files_in(data)),
            recipe.architecture,
            recipe.options,
            split="global",
            directory=Path(scratch) / recipe.name,
            progress=progress,
        )
        return export_run(
            run,
            root,
            name=recipe.name,
            created=created,
            precisions=recipe.precisions,
            cache_modes=recipe.cache_modes,
            progress=exporting,
        )


def remove_other_versions(made: Path) -> Iterator[Path]:
    """Remove the other versions of a bundle that lie beside it, and yield their folders.

    Only what is a bundle of that model is removed; other files and folders stay.
    """
    for folder in sorted(made.parent.iterdir()):
        if folder == made:
            continue
        try:
            found = find_bundle(made.parents[1], f"{made.parent.name}@{folder.name}")
        except BundleError:
            continue
        shutil.rmtree(found)
        yield found


def largest_difference(one: Bundle, other: Bundle) -> float:
    """The largest difference between the scores that two makings give to their golden rows.

    Raises:
        InputError: they were not made from the same data.
    """
    (rows, scores), (other_rows, other_scores) = one.golden, other.golden
    same_data = (
        np.array_equal(one.item_ids, other.item_ids)
        and np.array_equal(one.popularity, other.popularity)
        and np.array_equal(rows.ids, other_rows.ids)
        and np.allclose(rows.dense, other_rows.dense, rtol=0.0, atol=1e-5)
    )
    if not same_data:
        raise InputError(
            f"{one.path} and {other.path} were made from different data: "
            "another simulation, or another recipe"
        )
    return float(np.abs(scores - other_scores).max())
