"""``podium evaluate``: how good a bundle is, and whether it is better than another."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from ranking_models.errors import InputError
from service.cli.answers import AsJson, print_json_text

if TYPE_CHECKING:
    from ranking_models.bundle import Bundle
    from ranking_models.evaluation import Evaluation, EvaluationRows, SegmentColumn
    from ranking_models.evaluation.rows import RowsName
    from ranking_models.manifest import ModelManifest
    from ranking_models.parity import Scorer
    from ranking_models.schema import FeatureBatch, Float32


class RowsOf(StrEnum):
    """Which rows of a log."""

    TEST = "test"
    ALL = "all"


class HeldOut(StrEnum):
    """Whose last tenth is the test."""

    USER = "user"
    GLOBAL = "global"


class Lists(StrEnum):
    """What is ordered together."""

    USER = "user"
    SESSION = "session"


class _Graph(NamedTuple):
    """A bundle, one of its precisions, and the engine that runs it."""

    bundle: "Bundle"
    precision: str
    engine: str

    @property
    def name(self) -> str:
        manifest = self.bundle.manifest
        return f"{manifest.name}@{manifest.version} {self.precision} on {self.engine}"


def evaluate(
    bundle: Annotated[
        str, typer.Argument(help="A bundle's folder, or name or name@version.", metavar="BUNDLE")
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder with a click log, as for train.", metavar="DIR")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="A run: the rows that it held out, instead of a log.", metavar="DIR"),
    ] = None,
    precision: Annotated[str, typer.Option(help="Which graph of the bundle.")] = "fp32",
    engine: Annotated[str, typer.Option(help="What runs it.")] = "onnxruntime-cpu",
    against: Annotated[
        str | None,
        typer.Option(help="A second bundle, on the same rows.", metavar="BUNDLE"),
    ] = None,
    against_precision: Annotated[
        str | None,
        typer.Option(
            help="Its precision; without --against, a second precision of the same bundle."
        ),
    ] = None,
    rows: Annotated[
        RowsOf | None, typer.Option(help="Of --data: the test rows, or all. Default: test.")
    ] = None,
    split: Annotated[
        HeldOut | None,
        typer.Option(help="Of --data: which rows are the test, as for train. Default: user."),
    ] = None,
    lists: Annotated[
        Lists | None,
        typer.Option(help="Of --data: one list per user or session. Default: user."),
    ] = None,
    segment: Annotated[
        list[str] | None,
        typer.Option(help="A feature to cut the figures by; can be repeated.", metavar="FEATURE"),
    ] = None,
    k: Annotated[int, typer.Option("--k", help="Length of a list's top.", min=1)] = 10,
    resamples: Annotated[
        int, typer.Option(help="Bootstrap resamples of users.", min=100, max=100_000)
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Of the resamples.", min=0)] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Write the figures as JSON.", metavar="FILE")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a report with plots.", metavar="FILE")
    ] = None,
    bundles: Annotated[
        Path, typer.Option("--bundles", help="Folder in which names are looked up.", metavar="DIR")
    ] = Path("bundles"),
    as_json: AsJson = False,
) -> None:
    """Measure a bundle on rows with known clicks, with 95 % intervals.

    With --against or --against-precision also a second one, and the paired difference.

    Example: podium evaluate movielens --data data/movielens-100k --segment genres --html m.html
    """
    from ranking_models import evaluation
    from ranking_models.evaluation.text import render_text
    from ranking_models.report_files import check_writable, write_whole

    if (data is None) == (run is None):
        raise typer.BadParameter("name the rows: either --data DIR or --run DIR")
    if run is not None and (rows or split or lists):
        raise typer.BadParameter("--rows, --split and --lists are for --data")
    files = [path for path in (out, html) if path is not None]
    if len({path.resolve() for path in files}) < len(files):
        raise typer.BadParameter(f"--out and --html are both {html}; name two files")
    for path in files:
        check_writable(path)
    render_html = _html_renderer() if html is not None else None
    graphs = _graphs(bundle, precision, engine, against, against_precision, bundles)
    scorers = [_scorer(graph) for graph in graphs]
    source = (
        _from_log(data, graphs, segment or [], rows, split, lists)
        if data is not None
        else _from_run(Path(str(run)), graphs, segment or [])
    )
    found = evaluation.evaluate(
        [
            evaluation.Subject(graph.name, scorer, batch)
            for graph, scorer, batch in zip(graphs, scorers, source.batches, strict=True)
        ],
        source.rows,
        source.columns,
        options=evaluation.EvaluationOptions(k=k, resamples=resamples, seed=seed),
        notes=source.notes,
    )
    if html is not None and render_html is not None:
        write_whole(html, render_html(found).encode())
    if out is not None:
        write_whole(out, evaluation.encode_evaluation(found))
    if as_json:
        return print_json_text(evaluation.encode_evaluation(found))
    typer.echo(render_text(found), nl=False)
    for path in files:
        typer.echo(f"wrote {path}")
    return None


class _Source(NamedTuple):
    """The rows, encoded for each graph."""

    rows: "EvaluationRows"
    batches: "Sequence[FeatureBatch]"
    columns: "Sequence[SegmentColumn]"
    notes: Sequence[str]


def _from_log(
    data: Path,
    graphs: Sequence[_Graph],
    segments: Sequence[str],
    rows: RowsOf | None,
    split: HeldOut | None,
    lists: Lists | None,
) -> _Source:
    from ranking_models.evaluation import column_of_log, encoded_rows, notes_on_log, rows_of_log
    from ranking_models.logs import log_files_in, read_logs

    part: RowsName = "all" if rows is RowsOf.ALL else "test"
    logs = read_logs(log_files_in(data))
    chosen = rows_of_log(
        logs,
        rows=part,
        split=(split or HeldOut.USER).value,
        lists=(lists or Lists.USER).value,
    )
    notes = [
        note
        for manifest in _manifests(graphs)
        for note in notes_on_log(
            manifest, data=logs.declared.name, rows=part, evidence=chosen.evidence
        )
    ]
    return _Source(
        rows=chosen,
        columns=[column_of_log(logs, feature, chosen.rows) for feature in segments],
        batches=[encoded_rows(logs, graph.bundle.schema, chosen.rows) for graph in graphs],
        notes=notes,
    )


def _from_run(directory: Path, graphs: Sequence[_Graph], segments: Sequence[str]) -> _Source:
    from ranking_models.evaluation import column_of_batch, notes_on_run, rows_of_run
    from ranking_models.run import load_run

    run = load_run(directory)
    for graph in graphs:
        if graph.bundle.schema != run.schema:
            raise InputError(
                f"{graph.bundle.path}: takes other features than the run {directory} holds out; "
                "evaluate with --data DIR, which encodes the log for each bundle"
            )
    return _Source(
        rows=rows_of_run(run),
        columns=[column_of_batch(run.schema, name, run.held_out) for name in segments],
        batches=[run.held_out] * len(graphs),
        notes=[note for manifest in _manifests(graphs) for note in notes_on_run(manifest)],
    )


def _manifests(graphs: Sequence[_Graph]) -> "list[ModelManifest]":
    """Of each distinct bundle."""
    return list({graph.bundle.path: graph.bundle.manifest for graph in graphs}.values())


def _graphs(
    bundle: str,
    precision: str,
    engine: str,
    against: str | None,
    against_precision: str | None,
    root: Path,
) -> list[_Graph]:
    """The graph to measure, and the one to hold it against."""
    first = _Graph(_open(bundle, root), precision, engine)
    if against is None and against_precision is None:
        return [first]
    other = first.bundle if against is None else _open(against, root)
    second = _Graph(other, against_precision or precision, engine)
    if (second.bundle.path.resolve(), second.precision) == (
        first.bundle.path.resolve(),
        first.precision,
    ):
        raise InputError(f"{first.name}: is to be held against itself; name another graph")
    for graph in (first, second):
        graph.bundle.graph(graph.precision)  # both are there, before minutes of scoring
    return [first, second]


def _open(reference: str, root: Path) -> "Bundle":
    from ranking_models.bundle import Bundle, find_bundle

    path = Path(reference)
    is_path = "/" in reference or (path / "manifest.json").exists()
    return Bundle.open(path if is_path else find_bundle(root, reference))


def _scorer(graph: _Graph) -> "Scorer":
    """The engine as a function of any number of rows."""
    from ranking_models.evaluation import in_batches
    from service.clock import SystemClock
    from service.engines.loading import EngineLoader
    from service.errors import EngineFailed
    from service.settings import EngineSettings, default_plan_directory

    # Nobody asks for the best batch size here, so none is measured.
    loader = EngineLoader(EngineSettings(calibrate=False), default_plan_directory(), SystemClock())
    (engine,) = loader.load(graph.engine, graph.bundle, graph.precision, 1).engines

    def score(batch: "FeatureBatch") -> "Float32":
        try:
            return engine.score(batch)
        except EngineFailed as failure:
            raise InputError(f"{graph.name}: {failure}") from failure

    return in_batches(score, engine.info.max_batch_rows)


def _html_renderer() -> "Callable[[Evaluation], str]":
    """Imported before anything is scored, for it needs a package that may be missing."""
    from ranking_models.evaluation.html import render_html

    return render_html
