"""``podium train``: a click log becomes a trained run."""

import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ranking_models.errors import InputError
from service.cli.answers import AsJson, print_json, print_lines
from service.cli.network_options import (
    BatchSizeOption,
    BottomOption,
    CrossExpertsOption,
    CrossLayersOption,
    CrossRankOption,
    EmbeddingDimOption,
    EpochsOption,
    HiddenOption,
    LearningRateOption,
    Network,
    OutputDimOption,
    PatienceOption,
    SeedOption,
    architecture_of,
    check_agrees,
    widths,
)
from service.cli.run_answer import run_answer

if TYPE_CHECKING:
    from ranking_models.continuing import Parent
    from ranking_models.logs import LogFiles
    from ranking_models.run import TrainedRun


class HeldOut(StrEnum):
    """Whose last tenth is the test."""

    USER = "user"
    GLOBAL = "global"


class ReleaseOn(StrEnum):
    """What the released weights learn from."""

    REST = "rest"
    ALL = "all"


def train(
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with the four files below, .parquet or .csv.", metavar="DIR"),
    ] = None,
    interactions: Annotated[
        Path | None, typer.Option(help="Impressions and their labels.", metavar="FILE")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="The catalogue: one row per item.", metavar="FILE")
    ] = None,
    users: Annotated[Path | None, typer.Option(help="One row per user.", metavar="FILE")] = None,
    schema: Annotated[
        Path | None, typer.Option(help="schema.toml: what the columns mean.", metavar="FILE")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The run's folder; its name is the model's. Default: runs/<name of the data>.",
            metavar="DIR",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a run that is there.")] = False,
    split: Annotated[
        HeldOut, typer.Option(help="Hold out the last tenth of each user's rows, or of all rows.")
    ] = HeldOut.USER,
    release_on: Annotated[
        ReleaseOn,
        typer.Option(
            help="Release the measured weights, or ones trained again on all rows, those held "
            "out too; the figures are then those of the same recipe without them."
        ),
    ] = ReleaseOn.REST,
    architecture: Annotated[
        Network | None,
        typer.Option(help="The network. Default: dcn-v2, or that of --from-bundle."),
    ] = None,
    embedding_dim: EmbeddingDimOption = None,
    hidden: HiddenOption = None,
    dropout: Annotated[
        float | None,
        typer.Option(help="Share of MLP units left out. Default: 0.4.", min=0, max=0.95),
    ] = None,
    cross_layers: CrossLayersOption = None,
    cross_rank: CrossRankOption = None,
    cross_experts: CrossExpertsOption = None,
    bottom: BottomOption = None,
    output_dim: OutputDimOption = None,
    from_bundle: Annotated[
        str | None,
        typer.Option(
            help="Go on from this bundle's weights: a path, or name[@version] below --bundles.",
            metavar="REF",
        ),
    ] = None,
    bundles: Annotated[Path, typer.Option(help="Folder of all bundles.", metavar="DIR")] = Path(
        "bundles"
    ),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training that was killed.")
    ] = False,
    checkpoint_every: Annotated[
        float,
        typer.Option(help="Seconds of training that a kill costs at most.", min=0, max=86_400),
    ] = 30.0,
    learning_rate: LearningRateOption = 1e-3,
    weight_decay: Annotated[float, typer.Option(help="Of AdamW.", min=0, max=100)] = 0.1,
    batch_size: BatchSizeOption = 256,
    epochs: EpochsOption = 40,
    patience: PatienceOption = 3,
    seed: SeedOption = 1,
    as_json: AsJson = False,
) -> None:
    """Train a ranking model on a click log, and measure it on rows held out.

    Example: podium train --data data/movielens-100k --out runs/movielens
    """
    from ranking_models.checkpoint import Checkpoints, check_not_under_way, folder_of
    from ranking_models.fitting import FitOptions
    from ranking_models.logs import read_logs
    from ranking_models.run import check_out, save_run
    from ranking_models.train import train_run
    from service.cli.training_progress import drawn_progress

    given = {
        "embedding_dim": embedding_dim,
        "hidden": widths(hidden, "--hidden"),
        "dropout": dropout,
        "cross_layers": cross_layers,
        "cross_rank": cross_rank,
        "cross_experts": cross_experts,
        "bottom": widths(bottom, "--bottom"),
        "output_dim": output_dim,
    }
    parent = _parent(from_bundle, bundles) if from_bundle else None
    if parent is None:
        network = architecture_of(architecture or Network.DCN_V2, given)
    else:
        network = parent.architecture
        check_agrees(network, architecture, given)
    options = FitOptions(
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        batch_size=batch_size,
        epochs=epochs,
        patience=patience,
        seed=seed,
    )
    if out is not None:
        check_out(out, force=force)
    files = _log_files(data, interactions=interactions, items=items, users=users, schema=schema)
    logs = read_logs(files)
    directory = out or Path("runs") / _slug(logs.declared.name)
    check_out(directory, force=force)
    checkpoints = Checkpoints(folder_of(directory), resume=resume, every_s=checkpoint_every)
    if force and not resume:
        checkpoints.remove()
    elif not resume:
        check_not_under_way(directory)
    with drawn_progress(sys.stderr) as progress:
        run = train_run(
            logs,
            network,
            options,
            split=split.value,
            release_on=release_on.value,
            directory=directory,
            progress=progress,
            parent=parent,
            checkpoints=checkpoints,
        )
    save_run(run, force=force)
    checkpoints.remove()
    print_json(run_answer(run)) if as_json else print_lines(_summary(run))


def _log_files(
    data: Path | None,
    *,
    interactions: Path | None,
    items: Path | None,
    users: Path | None,
    schema: Path | None,
) -> "LogFiles":
    from ranking_models.logs import LogFiles, log_files_in

    if data is not None:
        if interactions or items or users or schema:
            raise typer.BadParameter("--data names all files; leave the other file options out")
        return log_files_in(data)
    if interactions is None or schema is None:
        raise typer.BadParameter("name a log: --data DIR, or --interactions FILE and --schema FILE")
    return LogFiles(interactions=interactions, items=items, users=users, schema=schema)


def _parent(reference: str, bundles: Path) -> "Parent":
    from ranking_models.bundle import Bundle, find_bundle
    from ranking_models.continuing import read_parent

    path = Path(reference)
    is_path = "/" in reference or (path / "manifest.json").exists()
    return read_parent(Bundle.open(path if is_path else find_bundle(bundles, reference)))


def _slug(name: str) -> str:
    """The name of a data source as a folder's name."""
    slug = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")
    if not slug:
        raise InputError(f"the data's name {name!r} makes no folder name; give --out")
    return slug[:64]


def _summary(run: "TrainedRun") -> list[str]:
    q, training = run.quality, run.training
    return [
        f"wrote {run.directory} ({run.architecture.name}, {training.epochs} epochs)",
        f"  tested on  {q.split}: {q.rows:,} rows of {q.users:,} users",
        f"  AUC        {q.auc:.4f}",
        f"  log loss   {q.log_loss:.4f}",
        f"  gAUC       {q.gauc:.4f}",
        f"  NDCG@10    {q.ndcg_at_10:.4f}",
        f"next: podium export --run {run.directory}",
    ]
