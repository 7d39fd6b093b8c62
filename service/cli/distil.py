"""``podium distil``: a run teaches a smaller network, of any architecture."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from service.cli.answers import AsJson
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
    widths,
)


def distil(
    run: Annotated[Path, typer.Option(help="The run that teaches.", metavar="DIR")],
    data: Annotated[Path, typer.Option(help="The log that it was trained on.", metavar="DIR")],
    out: Annotated[
        Path, typer.Option(help="The new run's folder; its name is the model's.", metavar="DIR")
    ],
    architecture: Annotated[Network, typer.Option(help="The network that learns.")],
    embedding_dim: EmbeddingDimOption = None,
    hidden: HiddenOption = None,
    dropout: Annotated[
        float | None,
        typer.Option(help="Share of MLP units left out. Default: 0.", min=0, max=0.95),
    ] = None,
    cross_layers: CrossLayersOption = None,
    cross_rank: CrossRankOption = None,
    cross_experts: CrossExpertsOption = None,
    bottom: BottomOption = None,
    output_dim: OutputDimOption = None,
    temperature: Annotated[
        float,
        typer.Option(
            help="Divides both networks' log odds; above 1 the teacher sounds less sure.",
            min=0.01,
            max=100,
        ),
    ] = 1.0,
    mix: Annotated[
        float,
        typer.Option(
            help="Weight of the teacher's scores; the labels have the rest.", min=0, max=1
        ),
    ] = 1.0,
    unshown: Annotated[
        float,
        typer.Option(
            help="Pairs that nobody was shown, and that the teacher scores, per row of the log.",
            min=0,
            max=100,
        ),
    ] = 1.0,
    learning_rate: LearningRateOption = 1e-3,
    weight_decay: Annotated[float, typer.Option(help="Of AdamW.", min=0, max=100)] = 0.01,
    batch_size: BatchSizeOption = 256,
    epochs: EpochsOption = 40,
    patience: PatienceOption = 3,
    seed: SeedOption = 1,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Write what fails its gate too, marked as such; replace a run."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a network on what a larger one says of the same rows.

    The new run is held against its teacher on the rows that both have not
    seen, and is not written if it ranks differently.

    Example: podium distil --run runs/movielens --data data/movielens-100k
    --architecture wide-and-deep --hidden 32 --dropout 0 --out runs/movielens-small
    """
    from ranking_models.compression import Distillation, distil_run, origin_of
    from ranking_models.fitting import FitOptions
    from ranking_models.logs import log_files_in, read_logs
    from ranking_models.run import check_out, load_run
    from service.cli.smaller_lines import judged_and_saved
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
    if dropout is None and architecture is not Network.LOGISTIC_REGRESSION:
        given["dropout"] = 0.0  # a teacher's scores have no noise to be learned by heart
    student = architecture_of(architecture, given)
    options = FitOptions(
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        batch_size=batch_size,
        epochs=epochs,
        patience=patience,
        seed=seed,
    )
    check_out(out, force=force)
    origin = origin_of(load_run(run), read_logs(log_files_in(data)))
    with drawn_progress(sys.stderr) as progress:
        made = distil_run(
            origin,
            student,
            options,
            Distillation(temperature=temperature, mix=mix, unshown=unshown),
            directory=out,
            progress=progress,
        )
    judged_and_saved(origin, made, force=force, as_json=as_json)
