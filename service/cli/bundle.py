"""``podium bundle``: look into a bundle, and prove that it is sound."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from service.cli.aligned import aligned
from service.cli.answers import AsJson, print_json_text, print_lines
from service.cli.bundle_catalogue import with_catalogue
from service.cli.bundle_diff import diff
from service.cli.bundle_import import import_
from service.cli.bundle_location import Root, located
from service.cli.bundle_verify import verify
from service.cli.gate_lines import gate_rows, gates_of

if TYPE_CHECKING:
    from ranking_models.architectures import Architecture
    from ranking_models.manifest import ModelManifest
    from ranking_models.schema import FeatureSpec

app = typer.Typer(help="Look into bundles and verify them.", no_args_is_help=True)

app.command("diff")(diff)
app.command("verify")(verify)
app.command("with-catalogue")(with_catalogue)
app.command("import")(import_)

Reference = Annotated[
    str, typer.Argument(help="A bundle's folder, or name or name@version.", metavar="BUNDLE")
]


@app.command()
def inspect(
    bundle: Reference,
    bundles: Root = None,
    as_json: AsJson = False,
) -> None:
    """Show what a bundle takes in, how good it is, and what it was made from.

    Example: podium bundle inspect movielens@3f9c2a1b
    """
    from ranking_models.bundle import read_manifest
    from ranking_models.manifest import encode_manifest

    path = located(bundles, bundle)
    manifest = read_manifest(path)
    if as_json:
        return print_json_text(encode_manifest(manifest))
    return print_lines((*_description(manifest, path), *_cache_modes(manifest, path)))


def _description(manifest: "ModelManifest", path: Path) -> Iterable[str]:
    yield f"{manifest.name}@{manifest.version}"
    yield from _table(_facts(manifest, path))
    yield from ("", "Features")
    yield from _table((f.name, f.source, f.kind, _encoding(f)) for f in manifest.schema.features)
    yield from ("", "Precisions")
    yield from _table(
        (name, v.file, f"parity {v.parity:.1g}", f"tolerance {v.tolerance:g}")
        for name, v in manifest.precisions.items()
    )
    gates = list(gate_rows(manifest))
    if gates:
        yield from ("", "Gates")
        yield from _table(gates)
        yield from _table(("on", words) for words in _evidence(manifest))
    yield from ("", "Files")
    yield from _table((f, f"{d.bytes:,} bytes", d.sha256) for f, d in manifest.files.items())


def _cache_modes(manifest: "ModelManifest", path: Path) -> Iterable[str]:
    """What the cache's modes cost: as exported, and as `podium cache evaluate` found later."""
    from ranking_models.cache_evaluation import read_beside, side_file
    from ranking_models.cache_evaluation.measure import CacheOptions
    from ranking_models.cache_evaluation.text import advice, measured_on, mode_rows

    segments = manifest.segments
    if segments is not None and segments.modes is not msgspec.UNSET:
        k = CacheOptions().k  # the export's
        on = "" if segments.modes_on is msgspec.UNSET else f": {segments.modes_on}"
        yield from ("", f"Cache modes, at export{on}")
        yield from _table(mode_rows(segments.modes, k=k))
        yield f"  {advice(segments.modes, k=k)}"
    beside = read_beside(path, f"{manifest.name}@{manifest.version}")
    if beside is not None:
        on = "; ".join(measured_on(beside))
        yield from ("", f"Cache modes, by {side_file(path).name}: {on}")
        yield from _table(mode_rows(beside.modes, k=beside.k))
        yield f"  {advice(beside.modes, k=beside.k)}"


def _evidence(manifest: "ModelManifest") -> Iterable[str]:
    return dict.fromkeys(gate.evidence for _, gate in gates_of(manifest))


def _facts(manifest: "ModelManifest", path: Path) -> Iterable[tuple[str, str]]:
    net, quality, data = manifest.architecture, manifest.quality, manifest.data
    yield "path", str(path)
    yield "created", manifest.created.isoformat(timespec="seconds")
    yield "architecture", ", ".join([net.name, *_sizes(net)])
    yield "batches", f"up to {manifest.max_batch_rows:,} rows"
    yield (
        "quality",
        f"AUC {quality.auc:.4f}, log loss {quality.log_loss:.4f}, gAUC {quality.gauc:.4f}, "
        f"NDCG@10 {quality.ndcg_at_10:.4f}",
    )
    yield "measured on", f"{quality.rows:,} rows of {quality.users:,} users: {quality.split}"
    yield (
        "data",
        f"{data.name}: {data.interactions:,} interactions of {data.users:,} users with "
        f"{data.items:,} items, {data.first_event} to {data.last_event}",
    )
    yield "licence", data.licence
    yield from _parts(manifest)
    yield "made with", ", ".join(f"{tool} {version}" for tool, version in manifest.tools.items())


def _parts(manifest: "ModelManifest") -> Iterable[tuple[str, str]]:
    """What a bundle may hold besides."""
    lineage, split = manifest.lineage, manifest.split
    segments, pages = manifest.segments, manifest.candidates
    if lineage:
        options = ", ".join(f"{name} {value}" for name, value in lineage.options.items())
        yield "made from", f"{lineage.parent}, {lineage.method}{f' ({options})' if options else ''}"
    if split:
        widths = f"{split.user_width} numbers per user, {split.item_width} per item"
        yield "exact split", f"{widths}; taken apart: {', '.join(split.factored)}"
    if segments:
        explained = f"{segments.explained:.1%} of the variance of users' log odds"
        yield "segments", f"{segments.count}, version {segments.version}, explain {explained}"
    if pages:
        yield (
            "item pages",
            f"{pages.size} candidates; recall {pages.recall:.3f} on {pages.pairs:,} held-out "
            f"likes, of popularity alone {pages.popularity_recall:.3f}",
        )


def _sizes(architecture: "Architecture") -> Iterable[str]:
    for name, value in msgspec.structs.asdict(architecture).items():
        shown = "-".join(map(str, value)) or "none" if isinstance(value, tuple) else value
        yield f"{name.replace('_', ' ')} {shown}"


def _encoding(spec: "FeatureSpec") -> str:
    default = "" if spec.default is None else f", {spec.default!r} if missing"
    if spec.kind == "numeric":
        log = "log, " if spec.log else ""
        return f"{log}mean {spec.mean:g}, scale {spec.scale:g}, clip {spec.clip:g}{default}"
    length = f", up to {spec.max_length} at once" if spec.kind == "multi" else ""
    if spec.hash_buckets:
        return f"hashed into {spec.hash_buckets:,} ids{length}{default}"
    return f"{len(spec.vocabulary):,} values{length}{default}"


def _table(rows: Iterable[tuple[str, ...]]) -> Iterable[str]:
    """Aligned rows, indented under their heading."""
    return (f"  {line}" for line in aligned(rows))
