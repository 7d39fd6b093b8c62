"""``podium prune``: a run becomes a run of the same network with smaller matrices."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.answers import AsJson
from service.cli.network_options import widths

if TYPE_CHECKING:
    from ranking_models.architectures import Architecture

SHARE = 0.5


def prune(
    run: Annotated[Path, typer.Option(help="The run to make smaller.", metavar="DIR")],
    data: Annotated[Path, typer.Option(help="The log that it was trained on.", metavar="DIR")],
    out: Annotated[
        Path, typer.Option(help="The new run's folder; its name is the model's.", metavar="DIR")
    ],
    share: Annotated[
        float | None,
        typer.Option(
            help="Take out this share of each hidden layer's units. Default: 0.5, unless sizes "
            "are named.",
            min=0.01,
            max=0.99,
        ),
    ] = None,
    hidden: Annotated[
        str | None,
        typer.Option(help="Or the hidden layers' new widths, such as 64,32.", metavar="WIDTHS"),
    ] = None,
    embedding_dim: Annotated[
        int | None,
        typer.Option(help="New width of a feature's vector. Default: as it is.", min=1, max=1024),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Of fine-tuning; 0 for none.", min=0)] = 2,
    mix: Annotated[
        float,
        typer.Option(
            help="Weight of the large model's scores in fine-tuning; labels have the rest.",
            min=0,
            max=1,
        ),
    ] = 1.0,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Write what fails its gate too, marked as such; replace a run."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take the units that matter least out of a trained network, and train the rest a little more.

    The new run is held against the old one on the rows that both have not
    seen, and is not written if it ranks differently.

    Example: podium prune --run runs/movielens --data data/movielens-100k --out runs/movielens-half
    """
    from msgspec.structs import replace

    from ranking_models.compression import FINE_TUNING, origin_of, prune_run
    from ranking_models.logs import log_files_in, read_logs
    from ranking_models.run import check_out, load_run
    from service.cli.smaller_lines import judged_and_saved
    from service.cli.training_progress import drawn_progress

    check_out(out, force=force)
    parent = load_run(run)
    architecture = _smaller(parent.architecture, share, widths(hidden, "--hidden"), embedding_dim)
    origin = origin_of(parent, read_logs(log_files_in(data)))
    with drawn_progress(sys.stderr) as progress:
        made = prune_run(
            origin,
            architecture,
            epochs=epochs,
            distillation=replace(FINE_TUNING, mix=mix),
            directory=out,
            progress=progress,
        )
    judged_and_saved(origin, made, force=force, as_json=as_json)


def _smaller(
    architecture: "Architecture",
    share: float | None,
    hidden: tuple[int, ...] | None,
    embedding_dim: int | None,
) -> "Architecture":
    from ranking_models.compression import with_share, with_sizes

    if share is not None and (hidden is not None or embedding_dim is not None):
        raise typer.BadParameter("give either --share, or the sizes to prune to")
    if hidden is None and embedding_dim is None:
        return with_share(architecture, SHARE if share is None else share)
    return with_sizes(architecture, hidden=hidden, embedding_dim=embedding_dim)
