"""The recipe of the demonstration bundle: simulate, train, export. Needs the training stack."""

import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np

from ranking_models.architectures import Architecture, DCNv2
from ranking_models.bundle import Bundle, find_bundle
from ranking_models.errors import BundleError, InputError
from ranking_models.export.to_bundle import export_run
from ranking_models.fitting import FitOptions, TrainingProgress
from ranking_models.logs import log_files_in, read_logs
from ranking_models.marketplace import Marketplace, MarketplaceSpec
from ranking_models.marketplace.files import write_files
from ranking_models.marketplace.spec import LOG_SEED, LOG_SESSIONS
from ranking_models.train import train_run

NAME = "marketplace"

SCORE_TOLERANCE = 1e-4
"""Largest score difference between two makings of the bundle."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What is simulated, and what is trained on it.

    The defaults are the demonstration's: small enough for a repository (the
    bundle is under 2 MB) and for one core.
    """

    spec: MarketplaceSpec = MarketplaceSpec()
    sessions: int = LOG_SESSIONS
    architecture: Architecture = DCNv2(embedding_dim=8, cross_layers=2, hidden=(64, 32))
    # Every option stands here, so that other defaults make no other bundle.
    options: FitOptions = FitOptions(
        learning_rate=2e-3,
        weight_decay=0.1,
        batch_size=2048,
        epochs=40,
        patience=2,
        hidden_share=0.02,
        seed=1,
        double=True,  # so that another machine makes the same scores
    )
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8")


DEMONSTRATION = Recipe()


def make_bundle(
    recipe: Recipe, root: Path, *, created: datetime, progress: TrainingProgress
) -> Path:
    """Make the bundle ``<root>/marketplace/<version>/`` from nothing and return its path.

    The same code makes the same data, bit for bit. The weights are the same to
    the bit on the same machine and versions, and elsewhere the scores are
    within `SCORE_TOLERANCE`, since training is in double precision.

    Args:
        recipe: The demonstration's, or a smaller one.
        root: Folder of all bundles.
        created: Now, with a time zone.
        progress: Hears of every training step.
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
            directory=Path(scratch) / NAME,
            progress=progress,
        )
        return export_run(run, root, name=NAME, created=created, precisions=recipe.precisions)


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
