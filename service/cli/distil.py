"""``podium distil``: a run teaches a smaller network, of any architecture."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from service.cli.network_options import Network, architecture_of, widths


def distil(
    run: Annotated[Path, typer.Option(help="The run that teaches.", metavar="DIR")],
    data: Annotated[Path, typer.Option(help="The log that it was trained on.", metavar="DIR")],
    out: Annotated[
        Path, typer.Option(help="The new run's folder; its name is the model's.", metavar="DIR")
    ],
    architecture: Annotated[Network, typer.Option(help="The network that learns.")],
    embedding_dim: Annotated[
        int | None,
        typer.Option(help="Width of a feature's vector. Default: 16.", min=1, max=1024),
    ] = None,
    hidden: Annotated[
        str | None,
        typer.Option(
            help="Widths of the MLP's layers, or none. Default: 128,64.", metavar="WIDTHS"
        ),
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(help="Share of MLP units left out. Default: 0.", min=0, max=0.95),
    ] = None,
    cross_layers: Annotated[
        int | None,
        typer.Option(help="Depth of the cross network of dcn-v2. Default: 2.", min=1, max=16),
    ] = None,
    cross_rank: Annotated[
        int | None,
        typer.Option(help="Rank of its matrices; 0, the default, is full.", min=0, max=65536),
    ] = None,
    cross_experts: Annotated[
        int | None,
        typer.Option(
            help="Low-rank experts that a gate mixes per cross layer. Default: 1.", min=1, max=64
        ),
    ] = None,
    bottom: Annotated[
        str | None,
        typer.Option(
            help="Widths of the layers under dlrm's numbers, or none. Default: 64.",
            metavar="WIDTHS",
        ),
    ] = None,
    output_dim: Annotated[
        int | None,
        typer.Option(help="Width of two-tower's vectors. Default: 32.", min=1, max=65536),
    ] = None,
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
    learning_rate: Annotated[float, typer.Option(help="Of AdamW.", min=1e-9, max=1)] = 1e-3,
    weight_decay: Annotated[float, typer.Option(help="Of AdamW.", min=0, max=100)] = 0.01,
    batch_size: Annotated[int, typer.Option(help="Rows per step.", min=1)] = 256,
    epochs: Annotated[int, typer.Option(help="At most so many.", min=1)] = 40,
    patience: Annotated[
        int, typer.Option(help="Stop after so many epochs without a gain.", min=1)
    ] = 3,
    seed: Annotated[
        int, typer.Option(help="The same seed gives the same run.", min=0, max=2**63 - 1)
    ] = 1,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Write what fails its gate too, marked as such; replace a run."
        ),
    ] = False,
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
    judged_and_saved(origin, made, force=force)
